//! The kustomization: made from the chart, and built by kubectl.

use anyhow::{Context as _, Result, ensure};
use real_servers::Program;

use super::{BOUND, check_file, documents, of_kind, rendered, root, validated, workload};

const BASE: &str = "deploy/kustomize/base";
/// The first line of files that are made.
const HEADER: &str = "# Made from the chart and values.yaml beside this file: UPDATE_DEPLOY=1 cargo nextest run --test deploy\n";
/// Lines of the chart that make no sense without Helm. kustomize sets the namespace, makes the ConfigMap, and
/// replaces the pods if it changes.
const OF_HELM: [&str; 8] = [
    "helm.sh/chart:",
    "app.kubernetes.io/managed-by:",
    "namespace: quay",
    "checksum/config:",
    "# A change of the configuration replaces the pods.",
    "annotations:",
    "# Source:",
    "---",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_base_is_the_chart() -> Result<()> {
    let objects = rendered(&format!("{BASE}/values.yaml"), "1.31", &[]).await?;
    let maps = documents(&objects)?;
    let config = maps.iter().find_map(|map| map["data"]["gateway.yaml"].as_str()).context("gateway.yaml")?;
    check_file(&format!("{BASE}/gateway.yaml"), &format!("{HEADER}{config}"))?;
    let mut made = HEADER.to_owned();
    for object in objects.split("\n---\n").filter(|object| !object.contains("\nkind: ConfigMap\n")) {
        let lines =
            object.lines().filter(|line| OF_HELM.iter().all(|word| !line.trim_start().starts_with(word)));
        let lines: Vec<_> = lines.filter(|line| !line.trim().is_empty()).collect();
        made = format!("{made}---\n{}\n", lines.join("\n"));
    }
    check_file(&format!("{BASE}/quay-gateway.yaml"), &made)
}

async fn built(folder: &str) -> Result<String> {
    Program::find("kubectl")?.args(["kustomize", folder]).in_folder(&root()).run(BOUND).await
}

#[tokio::test(flavor = "multi_thread")]
async fn kustomize_builds_valid_objects() -> Result<()> {
    for folder in ["base", "overlays/openshift"] {
        let text = built(&format!("deploy/kustomize/{folder}")).await?;
        let objects = documents(&text)?;
        ensure!(validated(&text, "1.31").await.context(folder)? == objects.len(), "{folder}");
        let pod = &workload(&objects)?["spec"]["template"]["spec"];
        // A new configuration is a new ConfigMap, so the pods are replaced.
        let maps = of_kind(&objects, "ConfigMap");
        let map = maps.iter().find(|map| map["data"]["gateway.yaml"].is_string()).context("gateway.yaml")?;
        let volumes = pod["volumes"].as_array().context("volumes")?;
        let config = volumes.iter().find(|volume| volume["name"] == "config").context("config")?;
        ensure!(config["configMap"]["name"] == map["metadata"]["name"], "{folder}: {config}");
        ensure!(map["metadata"]["name"] != "quay-gateway", "{folder}: the name has no hash");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overlay_is_for_openshift() -> Result<()> {
    let objects = documents(&built("deploy/kustomize/overlays/openshift").await?)?;
    ensure!(of_kind(&objects, "Route")[0]["spec"]["tls"]["termination"] == "passthrough");
    ensure!(workload(&objects)?["spec"]["template"]["spec"]["securityContext"].get("fsGroup").is_none());
    ensure!(objects.iter().all(|object| object["metadata"]["namespace"] == "quay-gateway"));
    Ok(())
}
