//! The log of the gateway and the stores, in a file or on the terminal.

use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, Result};
use tracing_subscriber::EnvFilter;

use crate::screen::Screen;

const FILE: &str = "demo.log";
const QUIET: &str = "warn";
const VERBOSE: &str =
    "warn,gateway=info,zone_router=info,replication=info,postgres_connection=info,backends=info";

/// The number of log lines that are shown after a failure.
const END_LINES: usize = 15;

/// Starts logging: warnings to a file in `folder`, or with `verbose` more details to the terminal.
pub(crate) fn start(folder: &Path, verbose: bool) -> Result<()> {
    let log = tracing_subscriber::fmt().with_ansi(false);
    if verbose {
        log.with_env_filter(EnvFilter::new(VERBOSE)).with_writer(std::io::stderr).init();
    } else {
        let file = File::create(folder.join(FILE)).context("cannot create the log file")?;
        log.with_env_filter(EnvFilter::new(QUIET)).with_writer(file).init();
    }
    Ok(())
}

/// Shows the last lines of the log file.
pub(crate) fn show_end(folder: &Path, screen: &Screen) {
    let text = std::fs::read_to_string(folder.join(FILE)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return;
    }
    screen.print("\nThe last warnings (--verbose shows all):");
    for line in &lines[lines.len().saturating_sub(END_LINES)..] {
        screen.print(line);
    }
}
