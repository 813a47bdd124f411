//! Checks that every limit, timeout, option and metric has a row on a page, and that no row is outdated.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::quay::Options;
use tests::site::{Site, ZONES};

/// The words in backticks in the first column of a table.
fn first_column(table: &str) -> BTreeSet<String> {
    let cells = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let words = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    words.map(str::to_owned).collect()
}

/// The public fields of a struct, read from its source.
fn fields(source: &str, name: &str) -> Result<BTreeSet<String>> {
    let start = source.find(&format!("pub struct {name} {{")).with_context(|| format!("no struct {name}"))?;
    let body = source[start..].split("\n}").next().unwrap_or_default();
    let names = body.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split(':').next());
    Ok(names.filter(|name| !name.starts_with("struct")).map(str::to_owned).collect())
}

#[test]
fn every_bound_has_its_row() -> Result<()> {
    let source = super::read("gateway/config/src/bounds.rs")?;
    for (name, page, table) in [
        ("Limits", "docs/src/reference/limits.md", "limits"),
        ("Timeouts", "docs/src/reference/timeouts.md", "timeouts"),
    ] {
        let page = super::read(page)?;
        let (mut rows, fields) = (first_column(super::table(&page, table)?.0), fields(&source, name)?);
        // The first column's heading.
        rows.remove(table);
        ensure!(
            !fields.is_empty() && rows == fields,
            "{table}: the page has {rows:?}, the code has {fields:?}"
        );
    }
    Ok(())
}

/// The long options and the subcommands in a command's help.
fn help(arguments: &[&str]) -> Result<(BTreeSet<String>, Vec<String>)> {
    let output =
        std::process::Command::new(tests::gateway::binary()).args(arguments).arg("--help").output()?;
    ensure!(output.status.success(), "{arguments:?} --help fails");
    let text = String::from_utf8(output.stdout)?;
    let options = text.lines().filter(|line| line.trim_start().starts_with('-'));
    let options = options.filter_map(|line| line.split_whitespace().find(|word| word.starts_with("--")));
    let options = options.map(|word| word.trim_end_matches([',', '.']).to_owned()).collect();
    let commands = text.split("\nCommands:\n").nth(1).unwrap_or_default().lines();
    let commands = commands.take_while(|line| !line.is_empty());
    let commands = commands.filter(|line| line.starts_with("  ") && !line.starts_with("    "));
    let commands = commands.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    Ok((options, commands.map(str::to_owned).collect()))
}

#[test]
fn every_option_is_on_the_page() -> Result<()> {
    let page = super::read("docs/src/reference/cli.md")?;
    let mut left: Vec<Vec<String>> = vec![Vec::new()];
    let mut seen = 0;
    while let Some(command) = left.pop() {
        let (options, commands) = help(&command.iter().map(String::as_str).collect::<Vec<_>>())?;
        for option in options.iter().filter(|option| !matches!(option.as_str(), "--help" | "--version")) {
            seen += 1;
            ensure!(page.contains(option.as_str()), "{}: the page lacks {option}", command.join(" "));
        }
        left.extend(commands.into_iter().map(|name| command.iter().cloned().chain([name]).collect()));
        ensure!(
            command.is_empty() || page.contains(&format!("`{}", command.join(" "))),
            "there is no row for {command:?}"
        );
    }
    ensure!(seen > 20, "the help was not parsed: {seen} options");
    Ok(())
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
