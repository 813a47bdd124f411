//! What commands share.

use std::io::{ErrorKind, Write as _};

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
