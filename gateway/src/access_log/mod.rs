//! The access log apart from the log: `access_log`.
//!
//! A request's thread only makes the line. Another thread writes it, and a bounded queue is between them.

mod file;
mod line;

use std::fs::File;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use anyhow::Context as _;
use config::{AccessLogFormat, AccessLogSettings, AccessLogTarget};
use prometheus_client::metrics::counter::Counter;

use self::file::LogFile;
pub(crate) use self::line::Record;
use crate::log_queue::LogQueue;

/// The name of the thread that writes.
const THREAD: &str = "access-log";

static LOST: LazyLock<Counter> = LazyLock::new(Counter::default);

/// Counts the lines of the access log that this process has lost.
pub(crate) fn lost() -> Counter {
    LOST.clone()
}

/// Writes a line for each request.
#[derive(Debug)]
pub(crate) struct AccessLog {
    queue: LogQueue,
    format: AccessLogFormat,
    /// Set when the file is to be opened again.
    reopen: Arc<AtomicBool>,
}

impl AccessLog {
    /// Opens the access log, and starts the thread that writes it.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread cannot be started.
    pub(crate) fn open(settings: &AccessLogSettings) -> anyhow::Result<Self> {
        let reopen = Arc::new(AtomicBool::new(false));
        let report = |lines| {
            tracing::warn!(lines, "lines of the access log were lost, as they were not taken for a while");
        };
        let queue = match &settings.to {
            AccessLogTarget::File(path) => {
                let opened = LogFile::open(path.clone(), Arc::clone(&reopen));
                let file =
                    opened.with_context(|| format!("access_log.to: {} cannot be opened", path.display()))?;
                LogQueue::of(THREAD, file, lost(), report)
            }
            AccessLogTarget::Stdout => {
                // Rust's own handle has a lock, which would be held for as long as the reader takes nothing.
                let stdout = std::io::stdout().as_fd().try_clone_to_owned();
                let stdout = stdout.context("access_log.to: no descriptor for standard output")?;
                LogQueue::of(THREAD, File::from(stdout), lost(), report)
            }
        };
        let queue = queue.context("access_log: no thread for it")?;
        Ok(Self { queue, format: settings.format, reopen })
    }

    /// Takes the line of a request. It waits for nothing.
    pub(crate) fn write(&self, record: &Record<'_>) {
        self.queue.push(&record.line(self.format));
    }

    /// Opens the file again with the next line.
    pub(crate) fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    /// Waits until all lines are written, but at most 2 s.
    pub(crate) fn finish(&self) {
        self.queue.finish();
    }
}
