//! Checks that every key of the configuration has a row, and that every row has its key.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

/// The tables of keys: page, table, and what stands before each key.
const TABLES: [(&str, &str, &str); 3] = [
    ("docs/src/reference/configuration.md", "configuration", ""),
    ("docs/src/reference/configuration.md", "routing", "routing."),
    ("docs/src/reference/limits.md", "copy-limits", "replication.limits.default."),
];

/// Maps whose keys are names, with the name that the page uses.
const MAPS: [(&str, &str); 1] = [("routing.zones", "NAME")];

/// Groups with a row whose keys have rows of their own in another table.
const ON_ANOTHER_TABLE: [&str; 3] = ["routing", "replication.limits", "replication.limits.default"];

/// Has the keys of `replication.limits.default`, for each zone.
const SAME_AS_ANOTHER: [&str; 1] = ["replication.limits.zones"];

/// This is not a key of the configuration.
const UNKNOWN: &str = "no_such_key";

/// The keys in the first columns.
fn rows() -> Result<BTreeSet<String>> {
    let mut rows = BTreeSet::new();
    for (page, table, before) in TABLES {
        let page = super::read(page)?;
        let lines = super::table(&page, table)?.0.lines().skip(3);
        for cell in lines.filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()) {
            let mut group = String::new();
            for key in cell.split('`').skip(1).step_by(2) {
                // `a.b`, `.c` stands for `a.b`, `a.c`.
                let key =
                    if key.starts_with('.') { format!("{group}{key}") } else { format!("{before}{key}") };
                group = key.rsplit_once('.').map_or_else(String::new, |(group, _)| group.to_owned());
                rows.insert(key);
            }
        }
    }
    Ok(rows)
}

/// The keys below a key. The gateway lists them in the error for an unknown key. `None` if there are none.
fn keys_below(path: &str) -> Result<Option<Vec<String>>> {
    let nested = |inner: Value, key: &str| json!({ key: inner });
    let all = path.split('.').filter(|key| !key.is_empty()).chain([UNKNOWN]);
    let configuration = all.rev().fold(json!(1), nested);
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), configuration.to_string())?;
    let output = std::process::Command::new(harness::gateway::binary())
        .args(["check-config", "--config"])
        .arg(file.path())
        .output()?;
    ensure!(!output.status.success(), "{configuration} is taken");
    let refusal = String::from_utf8(output.stderr)?;
    let Some((_, names)) = refusal.split_once("unknown field; there are ") else { return Ok(None) };
    Ok(Some(names.split('`').skip(1).step_by(2).map(str::to_owned).collect()))
}

#[test]
fn every_key_has_its_row() -> Result<()> {
    let rows = rows()?;
    let mut known = BTreeSet::new();
    let mut left = vec![String::new()];
    while let Some(path) = left.pop() {
        if SAME_AS_ANOTHER.contains(&path.as_str()) {
            continue;
        }
        if let Some((_, name)) = MAPS.iter().find(|(map, _)| *map == path) {
            left.push(format!("{path}.{name}"));
            continue;
        }
        // A row may describe a whole group.
        let is_row = rows.contains(&path);
        if is_row {
            known.insert(path.clone());
        }
        let below = keys_below(&path)?;
        ensure!(is_row || below.is_some(), "there is no row for {path}");
        let names =
            below.filter(|_| !is_row || ON_ANOTHER_TABLE.contains(&path.as_str())).unwrap_or_default();
        let dot = if path.is_empty() { "" } else { "." };
        left.extend(names.iter().map(|name| format!("{path}{dot}{name}")));
    }
    ensure!(known.len() > 40, "the keys were not parsed: {known:?}");
    let outdated: Vec<_> = rows.difference(&known).collect();
    ensure!(outdated.is_empty(), "rows without a key: {outdated:?}");
    Ok(())
}

/// The keys that need a restart, in one line each.
#[test]
fn the_keys_that_need_a_restart_are_listed() -> Result<()> {
    let keys: Vec<_> = config::RESTART_KEYS.iter().map(|key| format!("`{key}`")).collect();
    for page in ["docs/src/reference/configuration.md", "docs/src/operate/change.md"] {
        super::check(page, "restart-keys", &format!("{}\n", keys.join(", ")))?;
    }
    Ok(())
}
