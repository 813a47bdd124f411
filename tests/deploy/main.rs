//! What `deploy/` ships: the image, the chart, the kustomization, the units, the alerts and the dashboard, each with the
//! tools that operators use.

mod alerts;
mod chart;
mod chart_config;
mod chart_network;
mod chart_values;
mod dashboard;
mod engine;
mod examples;
mod image;
mod kustomize;
mod packages;
mod pod;
mod systemd;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use real_servers::Program;
use serde_json::Value;
use tempfile::NamedTempFile;

/// The timeout of a program that reads and prints text.
const BOUND: Duration = Duration::from_secs(120);
/// The folder of the chart.
const CHART: &str = "deploy/helm/quay-gateway";

/// The folder of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Reads a file of the workspace.
fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(root().join(path)).with_context(|| format!("cannot read {path}"))
}

/// Checks that a file is equal to what it is made from. With `UPDATE_DEPLOY` the file is written.
fn check_file(path: &str, made: &str) -> Result<()> {
    if read(path).is_ok_and(|written| written == made) {
        return Ok(());
    }
    if std::env::var_os("UPDATE_DEPLOY").is_none() {
        bail!("{path} is out of date; UPDATE_DEPLOY=1 cargo nextest run --test deploy writes it");
    }
    Ok(std::fs::write(root().join(path), made)?)
}

/// The documents of a YAML text.
fn documents(text: &str) -> Result<Vec<Value>> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text)?;
    Ok(all.into_iter().filter(|document| !document.is_null()).collect())
}

/// The only document of a YAML text.
fn document(text: &str) -> Result<Value> {
    let mut all = documents(text)?;
    match (all.pop(), all.is_empty()) {
        (Some(only), true) => Ok(only),
        _ => bail!("not one document"),
    }
}

/// The objects of this kind.
fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// The StatefulSet or the Deployment.
fn workload(objects: &[Value]) -> Result<&Value> {
    let found = [of_kind(objects, "StatefulSet"), of_kind(objects, "Deployment")].concat();
    found.first().copied().context("neither a StatefulSet nor a Deployment")
}

/// Runs helm in the folder of the workspace.
async fn helm(arguments: &[&str]) -> Result<String> {
    let home = tempfile::tempdir()?;
    let program = Program::find("helm")?.args(arguments).in_folder(&root());
    ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"]
        .iter()
        .fold(program, |program, name| program.env(name, home.path()))
        .run(BOUND)
        .await
}

/// What `helm template` makes of these values, for this version of Kubernetes.
async fn rendered(values: &str, kubernetes: &str, more: &[&str]) -> Result<String> {
    let fixed =
        ["template", "gw", CHART, "--namespace", "quay", "--values", values, "--kube-version", kubernetes];
    helm(&[&fixed, more].concat()).await
}

/// The files of values that all tests render, relative to the workspace.
fn matrix() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join(CHART).join("ci"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        found.push(format!("{CHART}/ci/{name}"));
    }
    found.sort();
    Ok(found)
}

/// Validates objects strictly for this version of Kubernetes, and returns how many there are.
async fn validated(objects: &str, kubernetes: &str) -> Result<usize> {
    let mut file = NamedTempFile::new()?;
    file.write_all(objects.as_bytes())?;
    let folder = root().join("tests/deploy");
    let program = Program::python("kubernetes")?.arg(folder.join("validate.py")).arg(kubernetes);
    let printed = program.arg(folder.join("schemas")).stdin(file.path())?.run(BOUND).await?;
    printed.trim().parse().with_context(|| printed.clone())
}
