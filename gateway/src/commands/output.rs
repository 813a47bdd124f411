//! Output and runtime that all commands share.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::Path;

use anyhow::Context as _;
use operations::records;
use serde::Serialize;
use serde_json::Value;

use crate::arguments::Output;

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

/// The text of a result in the demanded format. `table` and `csv` are made only if they are needed.
pub(super) fn rendered<T: Serialize>(
    output: Output,
    result: &T,
    table: impl FnOnce() -> String,
    csv: impl FnOnce(&Value) -> String,
) -> anyhow::Result<String> {
    Ok(match output {
        Output::Table => table(),
        Output::Json => serde_json::to_string_pretty(result)? + "\n",
        Output::Yaml => records::yaml(result)?,
        Output::Csv => csv(&serde_json::to_value(result)?),
    })
}

/// Makes CSV of a result that is a list, or has the list at this key, or is one record.
pub(super) fn csv_of<'a>(columns: &'a [&'a str], key: Option<&'a str>) -> impl FnOnce(&Value) -> String + 'a {
    move |result| {
        let list = key.map_or(result, |key| &result[key]);
        match list.as_array() {
            Some(list) => records::csv(columns, list),
            // Null is an empty list.
            None => records::csv(columns, Some(list).filter(|list| !list.is_null())),
        }
    }
}
