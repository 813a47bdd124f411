//! The dashboard: its queries are PromQL over metrics that exist, and so are those of the alerts.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use real_servers::Program;
use serde_json::{Value, json};

use super::{BOUND, document, read};

const DASHBOARD: &str = "deploy/monitoring/dashboard.json";
const PREFIX: &str = "quay_gateway_";

fn panels() -> Result<Vec<Value>> {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)?)?;
    let panels = dashboard["panels"].as_array().context("panels")?;
    Ok(panels.iter().filter(|panel| panel["type"] != "row").cloned().collect())
}

/// The queries of all panels.
fn queries() -> Result<Vec<String>> {
    let panels = panels()?;
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries: Option<Vec<_>> = targets.map(|target| target["expr"].as_str().map(str::to_owned)).collect();
    queries.filter(|queries| queries.len() > 20).context("queries")
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_understands_every_query() -> Result<()> {
    // What Grafana replaces before it asks.
    let queries = queries()?;
    let asked =
        queries.iter().map(|query| query.replace("$__rate_interval", "5m").replace("$instance", ".*"));
    let rules: Vec<_> = asked
        .enumerate()
        .map(|(number, expr)| json!({"record": format!("dashboard:query:{number}"), "expr": expr}))
        .collect();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rules.yaml");
    // JSON is YAML.
    std::fs::write(&file, json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string())?;
    Program::find("promtool")?.args(["check", "rules"]).arg(file).run(BOUND).await.map(drop)
}

#[test]
fn every_metric_of_dashboard_and_alerts_exists() -> Result<()> {
    let page = read("docs/src/reference/metrics.md")?;
    let cells = page.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let names = cells.flat_map(|cell| cell.split(['`', '{', ',', ' ', '}']));
    let known: BTreeSet<&str> = names.filter(|name| name.contains('_')).collect();
    ensure!(known.len() > 40, "the page was not parsed: {known:?}");
    let alerts = document(&read("deploy/monitoring/alerts.yaml")?)?.to_string();
    let all = queries()?.join(" ") + &alerts;
    let mut used = BTreeSet::new();
    for rest in all.split(PREFIX).skip(1) {
        let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        used.insert(&rest[..end.unwrap_or(rest.len())]);
    }
    ensure!(used.len() > 30, "the queries were not parsed: {used:?}");
    let unknown: Vec<_> =
        used.iter().filter(|name| !known.contains(name.strip_suffix("_bucket").unwrap_or(name))).collect();
    ensure!(unknown.is_empty(), "there are no metrics {unknown:?}");
    Ok(())
}

#[test]
fn panels_do_not_overlap() -> Result<()> {
    let panels = panels()?;
    let place = |panel: &Value| {
        let at = |name: &str| panel["gridPos"][name].as_u64().unwrap_or_default();
        (at("x"), at("y"), at("w"), at("h"))
    };
    for (number, one) in panels.iter().enumerate() {
        let (x, y, width, height) = place(one);
        ensure!(width > 0 && height > 0 && x + width <= 24, "{}", one["title"]);
        for other in &panels[number + 1..] {
            let (x2, y2, width2, height2) = place(other);
            let apart = x + width <= x2 || x2 + width2 <= x || y + height <= y2 || y2 + height2 <= y;
            ensure!(apart, "{} lies over {}", one["title"], other["title"]);
            ensure!(one["id"] != other["id"], "two panels have the id {}", one["id"]);
        }
    }
    Ok(())
}
