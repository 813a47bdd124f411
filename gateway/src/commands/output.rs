//! Output and runtime that all commands share.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::Path;

use anyhow::Context as _;

/// Writes to standard output. A closed pipe is not an error, because the reader may need only the first lines.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("the result cannot be written")
        }
        _ => Ok(()),
    }
}

/// A Tokio runtime with all drivers.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the Tokio runtime cannot be started")
}

/// Writes a result piece by piece to a file or to standard output.
pub(super) struct ResultWriter {
    to: Box<dyn Write + Send>,
    /// Whether the reader has closed the pipe.
    closed: bool,
}

impl ResultWriter {
    /// Creates the file, or uses standard output. An existing file is truncated.
    pub(super) fn open(file: Option<&Path>) -> anyhow::Result<Self> {
        let to: Box<dyn Write + Send> = match file {
            Some(file) => {
                let made =
                    File::create(file).with_context(|| format!("{} cannot be created", file.display()))?;
                Box::new(BufWriter::new(made))
            }
            None => Box::new(std::io::stdout()),
        };
        Ok(Self { to, closed: false })
    }

    /// Writes the next piece.
    pub(super) fn write(&mut self, text: &str) -> anyhow::Result<()> {
        if self.closed {
            return Ok(());
        }
        let written = self.to.write_all(text.as_bytes());
        self.check(written)
    }

    /// Flushes the output.
    pub(super) fn end(mut self) -> anyhow::Result<()> {
        let written = self.to.flush();
        self.check(written)
    }

    fn check(&mut self, written: std::io::Result<()>) -> anyhow::Result<()> {
        match written {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            written => written.context("the result cannot be written"),
        }
    }
}
