//! Writes the result of a run to a file.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Writes the report, if a file is named.
///
/// # Errors
/// The file cannot be written.
pub fn keep(report: &impl Serialize, file: Option<&Path>) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    let text = serde_json::to_string_pretty(report)?;
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
