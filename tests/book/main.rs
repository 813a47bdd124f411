//! Checks the book against the code. The code map, the reference of the command line and the drawing of the
//! crates are made from the code. Every key, limit, timeout and metric has a row in a table. The runbook quotes
//! what the code logs, and has an entry for each warning and error.
//!
//! `UPDATE_BOOK=1 cargo nextest run --test book` writes the generated tables.

mod cli;
mod code_map;
mod configuration;
mod crates;
mod drivers;
mod router_constants;
mod rows;
mod runbook;
mod source;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// The folder of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Reads a file of the workspace.
fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(root().join(path)).with_context(|| format!("cannot read {path}"))
}

/// The text between the marks of a generated table on a page, and its position.
fn table<'a>(page: &'a str, name: &str) -> Result<(&'a str, std::ops::Range<usize>)> {
    let begin = format!("<!-- generated: {name} -->\n");
    let start = page.find(&begin).with_context(|| format!("no table {name}"))? + begin.len();
    let length =
        page[start..].find("<!-- end generated -->").with_context(|| format!("{name} has no end"))?;
    Ok((&page[start..start + length], start..start + length))
}

/// Checks that a whole file is equal to the generated one. With `UPDATE_BOOK` the file is written.
fn check_file(path: &str, made: &str) -> Result<()> {
    if std::fs::read_to_string(root().join(path)).is_ok_and(|written| written == made) {
        return Ok(());
    }
    ensure!(
        std::env::var_os("UPDATE_BOOK").is_some(),
        "{path} is out of date; UPDATE_BOOK=1 cargo nextest run --test book writes it"
    );
    Ok(std::fs::write(root().join(path), made)?)
}

/// Checks that a table of a page is equal to the generated one. With `UPDATE_BOOK` the table is written.
fn check(path: &str, name: &str, made: &str) -> Result<()> {
    let mut page = read(path)?;
    let (written, range) = table(&page, name)?;
    let made = format!("\n{made}\n");
    if written == made {
        return Ok(());
    }
    ensure!(
        std::env::var_os("UPDATE_BOOK").is_some(),
        "{path}: the table {name} is out of date; UPDATE_BOOK=1 cargo nextest run --test book writes it"
    );
    page.replace_range(range, &made);
    Ok(std::fs::write(root().join(path), page)?)
}
