//! What commands share.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::Path;

use anyhow::Context as _;

/// Writes to standard output. Whoever reads only the first lines has seen enough.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("the result cannot be written")
        }
        _ => Ok(()),
    }
}

/// Tokio's, with all it has.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")
}

/// Where a result goes, piece by piece.
pub(super) struct Out {
    to: Box<dyn Write + Send>,
    /// Whoever read it has seen enough.
    closed: bool,
}

impl Out {
    /// A file, made anew, or standard output.
    pub(super) fn open(file: Option<&Path>) -> anyhow::Result<Self> {
        let to: Box<dyn Write + Send> = match file {
            Some(file) => {
                let made =
                    File::create(file).with_context(|| format!("{} cannot be made", file.display()))?;
                Box::new(BufWriter::new(made))
            }
            None => Box::new(std::io::stdout()),
        };
        Ok(Self { to, closed: false })
    }

    /// The next piece.
    pub(super) fn write(&mut self, text: &str) -> anyhow::Result<()> {
        if self.closed {
            return Ok(());
        }
        let written = self.to.write_all(text.as_bytes());
        self.check(written)
    }

    /// The end.
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
