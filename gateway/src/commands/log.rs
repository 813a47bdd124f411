//! The log of a running gateway, on standard error.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use gateway::{LastLines, LogQueue};
use tracing_subscriber::EnvFilter;

use crate::arguments::LogFormat;

/// Starts logging; may be called once. The level comes from `RUST_LOG`, or else is `info`. Terminals get
/// colours. No thread waits for the reader of the log. The last lines are written when the result is dropped.
pub(super) fn start(format: LogFormat) -> anyhow::Result<LastLines> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    let (queue, last_lines) = LogQueue::start(std::io::stderr()).context("no thread for the log")?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(move || queue.clone());
    match format {
        LogFormat::Text => log.init(),
        // Every line has at most one span, in the field `span`.
        LogFormat::Json => log.json().with_span_list(false).init(),
    }
    Ok(last_lines)
}
