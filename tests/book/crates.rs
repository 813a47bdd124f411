//! Checks which crate depends on which, and draws it: every arrow leads to a lower row.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

const PAGE: &str = "docs/src/contribute/dependencies.md";
const PICTURE: &str = "docs/src/pictures/crates.svg";

/// The rows of the drawing, from above: each crate with its column. A crate depends on lower rows only.
const ROWS: [&[(&str, u32)]; 10] = [
    &[("gateway", 2)],
    &[("offline", 1), ("operations", 2)],
    &[("registry", 1), ("blob-cache", 2), ("quay-db", 3)],
    &[("limits", 0), ("certificates", 3)],
    &[("config", 1)],
    &[("replication", 2)],
    &[("zone-router", 2), ("postgres-connection", 3)],
    &[("gateway-http", 0), ("sqlite-file", 1), ("backends", 2), ("followed-files", 3), ("atomic-file", 4)],
    &[("aws-credentials", 2)],
    &[("store-answers", 2)],
];

/// Programs and libraries for development. Only these may depend on one of them.
const TOOLS: [&str; 5] = ["tests", "benches", "demo", "harness", "real-servers"];

/// The dependencies from outside the workspace that a crate must not have.
const NEVER: [(&str, &[&str]); 3] = [
    ("zone-router", &["hyper", "hyper-util", "http", "reqwest"]),
    ("replication", &["hyper", "hyper-util", "http", "reqwest"]),
    ("backends", &["rusqlite", "tokio-postgres", "prometheus-client", "clap"]),
];

/// Which crate depends on which. Dependencies of tests do not count.
type Dependencies = BTreeMap<String, BTreeSet<String>>;

struct Workspace {
    /// Within the workspace.
    own: Dependencies,
    /// All of them.
    all: Dependencies,
    /// The folder of each crate.
    folders: BTreeMap<String, String>,
}

fn workspace() -> Result<Workspace> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = std::process::Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(super::root())
        .output()?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let text = |value: &Value| value.as_str().map(str::to_owned).context("no text");
    let root = text(&metadata["workspace_root"])?;
    let (mut own, mut all, mut folders) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for package in metadata["packages"].as_array().context("no packages")? {
        let (name, manifest) = (text(&package["name"])?, text(&package["manifest_path"])?);
        let folder =
            manifest.trim_start_matches(&root).trim_start_matches('/').trim_end_matches("/Cargo.toml");
        let dependencies = package["dependencies"].as_array().context("no dependencies")?;
        let counted = || dependencies.iter().filter(|dependency| dependency["kind"] != "dev");
        let within = counted().filter(|dependency| dependency["path"].is_string());
        own.insert(name.clone(), within.map(|one| text(&one["name"])).collect::<Result<_>>()?);
        all.insert(name.clone(), counted().map(|one| text(&one["name"])).collect::<Result<_>>()?);
        folders.insert(name, folder.to_owned());
    }
    Ok(Workspace { own, all, folders })
}

/// The row of a crate, 0 above.
fn row(name: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.iter().any(|(other, _)| *other == name))
}

#[test]
fn every_crate_depends_on_lower_rows_only() -> Result<()> {
    let workspace = workspace()?;
    for (name, dependencies) in &workspace.own {
        if TOOLS.contains(&name.as_str()) {
            continue;
        }
        let from = row(name).with_context(|| format!("{name} has no row in tests/book/crates.rs"))?;
        for to in dependencies {
            let lower = row(to).with_context(|| format!("{name} depends on {to}, which has no row"))?;
            ensure!(from < lower, "{name} depends on {to}, which is not in a lower row");
        }
    }
    let missing: Vec<_> =
        ROWS.concat().into_iter().filter(|(name, _)| !workspace.own.contains_key(*name)).collect();
    ensure!(missing.is_empty(), "there are no such crates: {missing:?}");
    Ok(())
}

#[test]
fn no_crate_has_a_forbidden_dependency() -> Result<()> {
    let workspace = workspace()?;
    for (name, never) in NEVER {
        let dependencies = workspace.all.get(name).with_context(|| format!("no crate {name}"))?;
        let known: Vec<_> = never.iter().filter(|other| dependencies.contains(**other)).collect();
        ensure!(known.is_empty(), "{name} depends on {known:?}");
    }
    Ok(())
}

#[test]
fn the_drawing_shows_the_dependencies() -> Result<()> {
    let workspace = workspace()?;
    super::check_file(PICTURE, &drawing(&workspace.own)?)?;
    let mut table = String::from("| crate | what it is | depends directly on |\n| --- | --- | --- |\n");
    for (name, _) in ROWS.concat() {
        let of = workspace.own.get(name).with_context(|| format!("no crate {name}"))?;
        let of: Vec<_> = of.iter().map(|other| format!("`{other}`")).collect();
        let of = if of.is_empty() { "none".to_owned() } else { of.join(", ") };
        let is = purpose(&workspace.folders[name])?;
        writeln!(table, "| `{name}` | {is} | {of} |")?;
    }
    super::check(PAGE, "dependencies", &table)
}

/// The first sentence of a crate's README.
fn purpose(folder: &str) -> Result<String> {
    let readme = super::read(&format!("{folder}/README.md"))?;
    let paragraph = readme.split("\n\n").nth(1).with_context(|| format!("{folder}/README.md is empty"))?;
    let paragraph = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = paragraph.find(". ").unwrap_or(paragraph.len());
    Ok(paragraph[..end].trim_end_matches(['.', ':']).to_owned())
}

/// The dependencies that do not follow from other dependencies.
fn arrows(own: &Dependencies) -> Vec<(&str, &str)> {
    let below = |name: &str| own.get(name).into_iter().flatten();
    let reaches = |from: &str, to: &str| {
        let mut left: Vec<&String> = below(from).collect();
        while let Some(next) = left.pop() {
            if next == to {
                return true;
            }
            left.extend(below(next));
        }
        false
    };
    let crates = own.iter().filter(|(name, _)| row(name).is_some());
    let all = crates.flat_map(|(from, of)| of.iter().map(move |to| (from.as_str(), to.as_str())));
    all.filter(|(from, to)| !below(from).any(|between| between != to && reaches(between, to))).collect()
}

/// In pixels: the size of a box, the distance from one box to the next, and the margin.
const BOX: (u32, u32) = (154, 34);
const STEP: (u32, u32) = (164, 70);
const MARGIN: u32 = 12;

/// The upper left corner of a crate's box.
fn place(name: &str) -> Result<(u32, u32)> {
    let row = row(name).with_context(|| format!("{name} has no row"))?;
    let column = ROWS[row].iter().find(|(other, _)| *other == name).map_or(0, |(_, column)| *column);
    Ok((MARGIN + column * STEP.0, MARGIN + u32::try_from(row)? * STEP.1))
}

fn drawing(own: &Dependencies) -> Result<String> {
    let below = u32::try_from(ROWS.len() - 1)?;
    let (width, height) = (2 * MARGIN + 4 * STEP.0 + BOX.0, 2 * MARGIN + below * STEP.1 + BOX.1);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"13\">\n  \
         <!-- Made by tests/book/crates.rs. -->\n  \
         <title>The crates and their dependencies</title>\n  \
         <desc>Every arrow leads down. Dependencies that follow from others are left out.</desc>\n  \
         <defs>\n    <marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" \
         orient=\"auto-start-reverse\">\n      <path d=\"M0 0 L8 4 L0 8 z\" fill=\"#344\"/>\n    </marker>\n  </defs>\n  \
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#fbfbf8\"/>\n"
    );
    for (from, to) in arrows(own) {
        let ((x, y), (to_x, to_y)) = (place(from)?, place(to)?);
        writeln!(
            svg,
            "  <line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" stroke=\"#344\" stroke-width=\"1.4\" marker-end=\"url(#head)\"/>",
            x + BOX.0 / 2,
            y + BOX.1,
            to_x + BOX.0 / 2,
            to_y - 2
        )?;
    }
    for (name, _) in ROWS.concat() {
        let (x, y) = place(name)?;
        writeln!(
            svg,
            "  <rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" rx=\"6\" fill=\"#e8eef6\" stroke=\"#456\"/>\n  \
             <text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"#123\" font-weight=\"600\">{name}</text>",
            BOX.0,
            BOX.1,
            x + BOX.0 / 2,
            y + 22
        )?;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}
