//! The examples for compose and Argo CD fit what they are examples of.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{CHART, document, read, root};

fn example(path: &str) -> Result<Value> {
    document(&read(path)?).with_context(|| path.to_owned())
}

#[test]
fn compose_runs_the_image_as_it_is_meant() -> Result<()> {
    let service = &example("deploy/compose/compose.yaml")?["services"]["quay-gateway"];
    let build = &service["build"];
    let context = root().join("deploy/compose").join(build["context"].as_str().context("a context")?);
    let file = context.join(build["dockerfile"].as_str().context("a Containerfile")?);
    let file = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let declared = file.lines().find_map(|line| line.strip_prefix("VOLUME ")).context("VOLUME")?;
    let mounts: Vec<&str> =
        service["volumes"].as_array().context("volumes")?.iter().filter_map(Value::as_str).collect();
    for volume in serde_json::from_str::<Vec<String>>(declared)? {
        ensure!(mounts.iter().any(|mount| mount.ends_with(&format!(":{volume}"))), "{volume} is not kept");
    }
    ensure!(service["read_only"] == true && service["cap_drop"] == json!(["ALL"]));
    ensure!(service["user"].as_str().is_some_and(|user| user.ends_with(":0") && user != "0:0"));
    Ok(())
}

#[test]
fn argo_names_the_chart_and_its_values() -> Result<()> {
    let source = &example("deploy/argo/application.yaml")?["spec"]["source"];
    ensure!(source["path"] == CHART);
    let values = example(&format!("{CHART}/values.yaml"))?;
    for parameter in source["helm"]["parameters"].as_array().context("parameters")? {
        let name = parameter["name"].as_str().context("a name")?;
        ensure!(values.get(name).is_some(), "the chart has no value {name}");
    }
    Ok(())
}
