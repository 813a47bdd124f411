//! The log of a running gateway, on standard error.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::panic::PanicHookInfo;

use anyhow::Context as _;
use gateway::{LastLines, LogQueue};
use tracing_subscriber::EnvFilter;

use crate::arguments::LogFormat;

/// Starts logging; may be called once. The level comes from `RUST_LOG`, or else is `info`. Terminals get
/// colours, unless `NO_COLOR` is set. No thread waits for the reader of the log. The last lines are written when the result is dropped.
/// Panics are written to the same queue, because a write to standard error itself would wait.
pub(super) fn start(format: LogFormat) -> anyhow::Result<LastLines> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal() && operations::may_colour();
    // Rust's own handle has a lock, which would be held for as long as the reader takes nothing.
    let stderr = std::io::stderr().as_fd().try_clone_to_owned().context("no descriptor for the log")?;
    let (queue, last_lines) = LogQueue::start(File::from(stderr)).context("no thread for the log")?;
    let panics = queue.clone();
    std::panic::set_hook(Box::new(move |info| {
        let _ = panics.clone().write_all(of_panic(info).as_bytes());
    }));
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

/// A panic as Rust's own hook tells it.
fn of_panic(info: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let backtrace = Backtrace::capture();
    let trace = match backtrace.status() {
        BacktraceStatus::Captured => format!("\n{backtrace}"),
        _ => String::new(),
    };
    format!("thread '{}' {info}{trace}\n", thread.name().unwrap_or("<unnamed>"))
}
