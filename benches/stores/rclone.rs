//! The other side: rclone, and its settings for the servers.

use std::path::Path;

use anyhow::{Result, ensure};
use benches::rclone::Rclone;

use crate::files::Set;

/// The name of the remote. Its configuration is in the environment.
const REMOTE: &str = "bench";

/// A server in rclone's configuration.
#[derive(Debug)]
pub(crate) struct Remote {
    /// The variables `RCLONE_CONFIG_BENCH_…`, without that prefix.
    pub(crate) settings: Vec<(&'static str, String)>,
    /// The flags for this kind of server.
    pub(crate) flags: &'static [&'static str],
    /// Container and root, without a slash at the end.
    pub(crate) root: String,
}

impl Remote {
    /// Writes a set below `prefix`.
    pub(crate) async fn put(&self, rclone: &Rclone, prefix: &str, set: &Set, at_once: usize) -> Result<()> {
        self.copy(rclone, &set.folder.display().to_string(), &self.at(prefix), at_once).await
    }

    /// Reads everything below `prefix` into files of `folder`.
    pub(crate) async fn get(
        &self,
        rclone: &Rclone,
        prefix: &str,
        set: &Set,
        folder: &Path,
        at_once: usize,
    ) -> Result<()> {
        self.copy(rclone, &self.at(prefix), &folder.display().to_string(), at_once).await?;
        for item in &set.items {
            let length = std::fs::metadata(folder.join(&item.name))?.len();
            ensure!(length == item.size, "rclone left {length} bytes of {}", item.size);
        }
        Ok(())
    }

    async fn copy(&self, rclone: &Rclone, from: &str, to: &str, at_once: usize) -> Result<()> {
        let settings = self.settings.iter().map(|(name, value)| (format!("BENCH_{name}"), value.clone()));
        rclone.copy(settings, (from, to), at_once, self.flags).await
    }

    fn at(&self, prefix: &str) -> String {
        format!("{REMOTE}:{}/{prefix}", self.root)
    }
}
