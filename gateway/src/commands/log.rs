//! The log of a running gateway, on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::arguments::LogFormat;

/// Starts logging; may be called once. The level is that of `RUST_LOG`, or else `info`. Terminals get colours.
pub(super) fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.init(),
        // Every line has one span at most, which is `span`.
        LogFormat::Json => log.json().with_span_list(false).init(),
    }
}
