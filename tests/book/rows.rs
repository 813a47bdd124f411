//! Checks that every limit, timeout and metric has a row on a page, and that no row is outdated.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use harness::quay::Options;
use harness::site::{Site, ZONES};
use serde_json::json;

/// Defaults that depend on the machine.
const UNSET: [(&str, &str); 2] =
    [("memory", "half of the cgroup's limit, else 512MiB"), ("lame_duck", "0s; 5s under Kubernetes")];

/// A field of a struct and its value, as `{:#?}` prints them, in the form of the configuration.
fn default(line: &str) -> Result<(&str, String)> {
    let (key, value) = line.trim().trim_end_matches(',').split_once(": ").context("no field")?;
    let seconds = |text: &str| text.strip_suffix('s').and_then(|number| number.parse::<f64>().ok());
    let value = match (value, seconds(value)) {
        ("None", _) => {
            let unset = UNSET.iter().find(|(unset, _)| *unset == key);
            unset.with_context(|| format!("{key} has no default"))?.1.to_owned()
        }
        (_, Some(time)) if time.fract() > 0.0 => format!("{}ms", time * 1000.0),
        (_, Some(time)) if time >= 7200.0 && time % 3600.0 == 0.0 => format!("{}h", time / 3600.0),
        // Sizes are printed as `64.0 KiB (65536 bytes)`.
        _ => value.split(" (").next().unwrap_or(value).replace(".0 ", ""),
    };
    Ok((key, value))
}

/// Each bound has a row, with its default. What it means is written by hand.
fn check_bounds(path: &str, name: &str, defaults: &str) -> Result<()> {
    let page = super::read(path)?;
    let written = super::table(&page, name)?.0;
    let mut made = format!("| key of `{name}` | default | meaning |\n| --- | --- | --- |\n");
    for line in defaults.lines().filter(|line| line.starts_with("    ")) {
        let (key, value) = default(line)?;
        let row =
            written.lines().find_map(|row| row.strip_prefix(&format!("| `{key}` | "))?.split_once(" | "));
        let (_, meaning) = row.with_context(|| format!("{path} has no row for {key}"))?;
        made.push_str(&format!("| `{key}` | {value} | {meaning}\n"));
    }
    ensure!(made.lines().count() > 10, "the defaults were not parsed: {defaults}");
    super::check(path, name, &made)
}

#[test]
fn every_bound_has_its_row_and_its_default() -> Result<()> {
    let (limits, timeouts) = (config::Limits::default(), config::Timeouts::default());
    check_bounds("docs/src/reference/limits.md", "limits", &format!("{limits:#?}"))?;
    check_bounds("docs/src/reference/timeouts.md", "timeouts", &format!("{timeouts:#?}"))
}

#[tokio::test]
async fn every_metric_has_its_row() -> Result<()> {
    let page = super::read("docs/src/reference/metrics.md")?;
    let rows = super::table(&page, "metrics")?.0.to_owned();
    let site = Site::with(&ZONES, Options::default())?;
    let gateway = site.gateway(&json!({})).await?;
    let metrics = gateway.metrics().await?;
    let names =
        metrics.lines().filter_map(|line| line.strip_prefix("# HELP quay_gateway_")?.split(' ').next());
    let names: BTreeSet<&str> = names.map(|name| name.trim_end_matches("_total")).collect();
    ensure!(names.len() > 40, "the metrics were not parsed: {names:?}");
    let missing: Vec<_> = names.iter().filter(|name| !rows.contains(&format!("`{name}"))).collect();
    ensure!(missing.is_empty(), "the page lacks {missing:?}");
    Ok(())
}
