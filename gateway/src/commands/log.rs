//! The log of a running gateway, on standard error.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::panic::PanicHookInfo;

use anyhow::Context as _;
use gateway::{LastLines, LogQueue, Traces};
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::arguments::LogFormat;

/// The log of this process. Nothing is logged before [`Log::start`].
pub(super) struct Log {
    queue: LogQueue,
    format: LogFormat,
}

impl Log {
    /// Opens the log; may be called once. No thread waits for the reader of the log. The last lines are written when
    /// the second result is dropped. Panics are written to the same queue, because a write to standard error itself
    /// would wait.
    pub(super) fn open(format: LogFormat) -> anyhow::Result<(Self, LastLines)> {
        // Rust's own handle has a lock, which would be held for as long as the reader takes nothing.
        let stderr = std::io::stderr().as_fd().try_clone_to_owned().context("no descriptor for the log")?;
        let (queue, last_lines) = LogQueue::start(File::from(stderr)).context("no thread for the log")?;
        let panics = queue.clone();
        std::panic::set_hook(Box::new(move |info| {
            let _ = panics.clone().write_all(of_panic(info).as_bytes());
        }));
        Ok((Self { queue, format }, last_lines))
    }

    /// Starts logging, and the export of spans if there is one. The level comes from `RUST_LOG`, or else is `info`;
    /// it says nothing about the export.
    pub(super) fn start(self, traces: Option<&Traces>) {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
        match traces {
            None => tracing_subscriber::registry().with(filter).with(self.lines()).init(),
            Some(traces) => tracing_subscriber::registry()
                .with(traces.layer())
                .with(self.lines().with_filter(filter))
                .init(),
        }
    }

    /// Writes lines. Terminals get colours, unless `NO_COLOR` is set.
    fn lines<S>(self) -> Box<dyn Layer<S> + Send + Sync>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let colours = std::io::stderr().is_terminal() && operations::may_colour();
        let queue = self.queue;
        let lines = tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(move || queue.clone());
        match self.format {
            LogFormat::Text => lines.boxed(),
            // Every line has at most one span, in the field `span`.
            LogFormat::Json => lines.json().with_span_list(false).boxed(),
        }
    }
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
