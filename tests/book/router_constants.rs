//! Checks that each constant of the router has a row that says what breaks without it, and names a test that says so.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

const PAGE: &str = "docs/src/reference/constants.md";

const FOLDER: &str = "zone-router";

/// Few enough to be known by name.
const MOST: usize = 40;

/// A constant of a module.
struct Constant {
    file: String,
    name: String,
    value: String,
}

#[test]
fn every_constant_of_the_router_has_its_row() -> Result<()> {
    let (mut constants, mut code) = (Vec::new(), String::new());
    let folder = super::root().join(FOLDER);
    read_constants(&folder.join("src"), "", &mut constants, &mut code)?;
    read_tests(&folder.join("tests"), &mut code)?;
    ensure!(constants.len() > 20, "the constants were not parsed");
    ensure!(constants.len() < MOST, "{} constants: take one away", constants.len());
    let page = super::read(PAGE)?;
    let written = super::table(&page, "router-constants")?.0;
    let mut made = String::from(
        "| file | constant | value | what breaks without it, and which test says so |\n| --- | --- | --- | --- |\n",
    );
    for Constant { file, name, value } in &constants {
        let start = format!("| `{file}` | `{name}` | ");
        let row = written.lines().find_map(|row| row.strip_prefix(&start)?.split_once(" | "));
        let (_, breaks) = row.with_context(|| format!("{PAGE} has no row for {file} {name}"))?;
        let tests: Vec<_> = breaks.split('`').skip(1).step_by(2).collect();
        ensure!(!tests.is_empty(), "no test misses {file} {name}");
        for test in tests {
            ensure!(code.contains(&format!("fn {test}(")), "{file} {name}: there is no test {test}");
        }
        made.push_str(&format!("{start}{value} | {breaks}\n"));
    }
    super::check(PAGE, "router-constants", &made)
}

/// Reads the constants of each module below a folder, in the order of files, and appends all text to `code`.
fn read_constants(folder: &Path, within: &str, found: &mut Vec<Constant>, code: &mut String) -> Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let file = format!("{within}{name}");
        if path.is_dir() {
            read_constants(&path, &format!("{file}/"), found, code)?;
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        code.push_str(&text);
        if name == "tests.rs" || name.ends_with("_tests.rs") {
            continue;
        }
        let head = text.split("\n#[cfg(test)]").next().unwrap_or_default();
        // A constant of a module begins a line.
        let starts = head.match_indices('\n').map(|(at, _)| &head[at + 1..]);
        let constants = starts.filter_map(constant);
        found.extend(constants.map(|(name, value)| Constant { file: file.clone(), name, value }));
    }
    Ok(())
}

/// The name and the value of the constant that a text begins with.
fn constant(text: &str) -> Option<(String, String)> {
    let declared = ["const ", "pub const ", "pub(crate) const ", "pub(super) const "];
    let declared = declared.iter().find_map(|start| text.strip_prefix(start))?;
    let (name, rest) = declared.split_once(": ")?;
    let (value, _) = rest.split_once(" =")?.1.split_once(';')?;
    let is_name = name.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_');
    is_name.then(|| (name.to_owned(), shown(value.trim())))
}

/// A value as a reader wants to see it.
fn shown(value: &str) -> String {
    let mut value = value.replace('_', " ");
    for (code, unit) in [("Duration::from secs(", "s"), ("Duration::from millis(", "ms")] {
        while let Some(at) = value.find(code) {
            let Some(end) = value[at..].find(')') else { break };
            let number = value[at + code.len()..at + end].to_owned();
            value.replace_range(at..=at + end, &format!("{number} {unit}"));
        }
    }
    for (shift, unit) in [(" << 10", " KiB"), (" << 20", " MiB")] {
        value = value.replace(shift, unit);
    }
    value.replace(['(', ')'], "").trim_start_matches("Backoff { ").trim_end_matches(" }").to_owned()
}

fn read_tests(folder: &Path, code: &mut String) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => read_tests(&path, code)?,
            false => code.push_str(&std::fs::read_to_string(&path)?),
        }
    }
    Ok(())
}
