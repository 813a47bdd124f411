//! The temporary folder for all files of the demo.

use std::path::Path;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// How often the removal is tried, because a write in progress may add a file.
const REMOVALS_MAX: usize = 5;

/// The demo's folder. Stores and spools create their own folders in it.
pub(crate) struct Folder(TempDir);

impl Folder {
    /// Creates the folder, and uses it for all temporary files of this process.
    pub(crate) fn make() -> Result<Self> {
        let made = tempfile::Builder::new().prefix("quay-gateway-demo-").tempdir();
        let folder =
            made.context("cannot create a temporary folder; set TMPDIR to a folder with 1.5 GB free")?;
        let taken = tempfile::env::override_temp_dir(folder.path());
        taken.map_err(|_| anyhow::anyhow!("the folder for temporary files is already set"))?;
        Ok(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Removes the folder and everything in it.
    pub(crate) fn remove(self) {
        for _ in 0..REMOVALS_MAX {
            match std::fs::remove_dir_all(self.path()) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {}
                _ => break,
            }
        }
    }
}
