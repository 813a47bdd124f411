//! The one temporary folder in which everything lies.

use std::path::Path;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// How often its removal is tried: a write under way may add a file meanwhile.
const REMOVALS_MAX: usize = 5;

/// The demo's folder. Stores and spools make their own folders in it.
pub(crate) struct Folder(TempDir);

impl Folder {
    /// Makes it, and makes it the place of all temporary files of this process.
    pub(crate) fn make() -> Result<Self> {
        let made = tempfile::Builder::new().prefix("quay-gateway-demo-").tempdir();
        let folder = made.context("no temporary folder; set TMPDIR to a place with 1.5 GB free")?;
        let taken = tempfile::env::override_temp_dir(folder.path());
        taken.map_err(|_| anyhow::anyhow!("temporary files have a place already"))?;
        Ok(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Removes it with all that is in it.
    pub(crate) fn remove(self) {
        for _ in 0..REMOVALS_MAX {
            match std::fs::remove_dir_all(self.path()) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {}
                _ => break,
            }
        }
    }
}
