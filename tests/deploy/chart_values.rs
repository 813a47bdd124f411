//! The chart's values: described, bounded, and refused with advice.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{CHART, document, read, rendered};

/// Arguments of helm, and a part of the refusal.
const REFUSED: [(&[&str], &str); 26] = [
    (&["image.repository="], "image.repository is required"),
    (&["hostname="], "hostname is required"),
    (&["hostname=https://a"], "at '/hostname'"),
    (&["config.registry.url="], "at '/config/registry/url'"),
    (&["config.registry=null"], "config.registry.url is required"),
    (&["config.registry.urls=https://a"], "'urls' not allowed"),
    (&["config.typo=1"], "'typo' not allowed"),
    (&["replica=2"], "'replica' not allowed"),
    (&["quay.configSecret="], "quay.configSecret is required"),
    (&["config.registry.kind=distribution"], "quay.configSecret is for Quay"),
    (&["config.registry.kind=distribution", "quay.configSecret="], "zones.secretName is required"),
    (&["config.journal=postgres://a:b@c/d"], "set journal.kind and journal.postgresql.secretName"),
    (&["config.zones.a=b"], "set zones.secretName"),
    (&["config.registry.account.username=a"], "set account"),
    (&["config.replication.database=postgres://a:b@c/d"], "set database.secretName"),
    (&["config.timeouts.drain=5s"], "set shutdown.drainSeconds"),
    (&["config.admin.listen=0.0.0.0:1"], "config.admin.listen is not set here"),
    (&["config.admin.tls=true"], "config.admin.tls is not set here"),
    (&["journal.kind=mysql"], "'sqlite', 'postgresql'"),
    (&["journal.kind=postgresql", "tls.secretName=a"], "journal.postgresql.secretName is required"),
    (&["journal.kind=postgresql", "journal.postgresql.secretName=a"], "tls.secretName is required with"),
    (&["replicas=2"], "tls.secretName is required for more than one pod"),
    (&["autoscaling.enabled=true"], "autoscaling needs journal.kind: postgresql"),
    (&["account.username=a"], "account.secretName is required"),
    (&["route.enabled=true", "hostname=a.example.com:8443"], "a Route is reached at port 443"),
    (&["tlsRoute.enabled=true"], "tlsRoute.parentRefs is required"),
];

#[tokio::test(flavor = "multi_thread")]
async fn wrong_values_are_refused_with_advice() -> Result<()> {
    let values = format!("{CHART}/ci/sqlite.yaml");
    for (set, expected) in REFUSED {
        let more: Vec<_> = set.iter().flat_map(|value| ["--set", *value]).collect();
        let Err(refusal) = rendered(&values, "1.31", &more).await else { anyhow::bail!("{set:?} is taken") };
        let refusal = format!("{refusal:#}");
        ensure!(refusal.contains(expected), "{set:?}: {refusal}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chart_takes_the_values_of_the_book() -> Result<()> {
    let page = read("docs/src/install/kubernetes.md")?;
    let written = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    let written = written.context("values on the page")?;
    ensure!(written.contains("# values.yaml"), "{written}");
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), written)?;
    let objects = rendered(file.path().to_str().context("a path in UTF-8")?, "1.31", &[]).await?;
    for kind in ["StatefulSet", "Route", "ServiceMonitor", "PrometheusRule"] {
        ensure!(objects.contains(&format!("\nkind: {kind}\n")), "no {kind}");
    }
    Ok(())
}

#[test]
fn every_value_is_described() -> Result<()> {
    let text = read(&format!("{CHART}/values.yaml"))?;
    let lines: Vec<_> = text.lines().collect();
    // A block may leave it to its keys.
    let mut undescribed = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some((key, rest)) = line.trim_start().split_once(':') else { continue };
        let depth = line.len() - line.trim_start().len();
        let is_key = depth <= 2 && !key.starts_with(['#', '-']) && key.chars().all(char::is_alphanumeric);
        let deeper = |next: &&str| next.len() - next.trim_start().len() > depth;
        let is_block = rest.trim().is_empty() && lines.get(at + 1).is_some_and(deeper);
        let described = at > 0 && lines[at - 1].trim_start().starts_with('#');
        if is_key && !described && !is_block && !is_open(&lines[..at]) {
            undescribed.push(*line);
        }
    }
    ensure!(undescribed.is_empty(), "values.yaml does not describe {undescribed:#?}");
    Ok(())
}

/// Whether these lines end within `config` or `topologySpreadConstraints`, which others describe.
fn is_open(before: &[&str]) -> bool {
    let group = before.iter().rfind(|line| !line.is_empty() && !line.starts_with([' ', '#']));
    group.is_some_and(|line| ["config:", "topologySpreadConstraints:"].contains(line))
}

#[test]
fn the_schema_has_the_keys_of_the_values() -> Result<()> {
    let values = document(&read(&format!("{CHART}/values.yaml"))?)?;
    let schema: Value = serde_json::from_str(&read(&format!("{CHART}/values.schema.json"))?)?;
    compare("", &values, &schema)
}

/// Compares the keys of an object with the properties of its schema, and so on below it. The schema of a free map has no
/// properties. `config` has more keys in its schema than here: those of the gateway's file.
fn compare(path: &str, values: &Value, schema: &Value) -> Result<()> {
    let (Some(values), Some(properties)) = (values.as_object(), schema["properties"].as_object()) else {
        return Ok(());
    };
    ensure!(schema["additionalProperties"] == false, "the schema takes anything in {path:?}");
    for (key, value) in values {
        let of_key = properties.get(key).with_context(|| format!("the schema lacks {path}.{key}"))?;
        compare(&format!("{path}.{key}"), value, of_key)?;
    }
    let ours = !path.starts_with(".config") && path != ".resources";
    for key in properties.keys().filter(|key| ours && !values.contains_key(*key)) {
        // Helm adds `global` to the values of every chart.
        ensure!(path.is_empty() && key == "global", "values.yaml lacks {path}.{key}");
    }
    Ok(())
}

#[test]
fn config_has_the_keys_of_the_gateway() -> Result<()> {
    let schema: Value = serde_json::from_str(&read(&format!("{CHART}/values.schema.json"))?)?;
    let properties = schema["properties"]["config"]["properties"].as_object().context("config")?;
    let written: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
    let page = read("docs/src/reference/configuration.md")?;
    let table = page.split("<!-- generated: configuration -->").nth(1).context("the table of keys")?;
    let table = table.split("<!-- end generated -->").next().unwrap_or_default();
    // `limits`, `timeouts`: several keys may stand in one row.
    let cells = table.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let names = cells.flat_map(|cell| cell.split(", ")).map(|name| name.trim_matches('`'));
    let keys = names.filter(|name| !name.starts_with('.')).filter_map(|name| name.split('.').next());
    let keys: BTreeSet<&str> = keys.collect();
    ensure!(keys == written, "the gateway has {keys:?}, the chart's config {written:?}");
    Ok(())
}
