//! Checks the code map: each crate's modules with the first sentence of their documentation.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

const PAGE: &str = "docs/src/contribute/code-map.md";

/// The folders of the crates in the map. Each contains a `src`.
const CRATES: [&str; 18] = [
    "backends",
    "backends/aws-credentials",
    "backends/store-answers",
    "zone-router",
    "zone-router/replication",
    "zone-router/postgres-connection",
    "gateway/atomic-file",
    "gateway/followed-files",
    "gateway/http",
    "gateway/limits",
    "gateway/config",
    "gateway/certificates",
    "gateway/registry",
    "gateway/quay-db",
    "gateway/blob-cache",
    "gateway/operations",
    "gateway",
    "deploy/demo",
];

/// Modules that are not in the map.
const LEFT_OUT: [&str; 3] = ["lib", "main", "tests"];

#[test]
fn every_module_has_its_row() -> Result<()> {
    for folder in CRATES {
        super::check(PAGE, &format!("code-map-{}", folder.replace('/', "-")), &rows(folder)?)?;
    }
    Ok(())
}

fn rows(folder: &str) -> Result<String> {
    let src = super::root().join(folder).join("src");
    let mut rows = String::from("| module | what it is |\n| --- | --- |\n");
    let mut names: Vec<_> = std::fs::read_dir(&src)?.collect::<Result<_, _>>()?;
    names.sort_by_key(std::fs::DirEntry::file_name);
    for entry in names {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let (file, shown) = match path.is_dir() {
            true => (path.join("mod.rs"), format!("{name}/")),
            false => (path.clone(), name.clone()),
        };
        let module = name.trim_end_matches(".rs");
        // A folder without a module may be left over from another branch.
        if LEFT_OUT.contains(&module) || module.ends_with("_tests") || !file.is_file() {
            continue;
        }
        rows.push_str(&format!("| `{shown}` | {} |\n", sentence(&file)?));
    }
    Ok(rows)
}

/// The first sentence of a file's documentation, without its full stop.
fn sentence(file: &Path) -> Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let lines = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
    let paragraph: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    ensure!(!paragraph.is_empty(), "{} has no module documentation", file.display());
    let paragraph = paragraph.join(" ");
    let end = paragraph.find(". ").unwrap_or(paragraph.len());
    // Names in brackets are links only in the documentation of the code.
    Ok(paragraph[..end].trim_end_matches('.').replace("[`", "`").replace("`]", "`").replace('|', "\\|"))
}
