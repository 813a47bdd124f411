//! The home folder of a user of podman and skopeo: `~/.config/containers` and the logins.

use std::path::Path;

use anyhow::Result;
use tempfile::TempDir;

use super::process::Program;

/// A home folder. podman and skopeo read `certs.d` and `registries.conf.d` there, beside those of the machine.
#[derive(Debug)]
pub struct ContainersHome {
    folder: TempDir,
}

impl ContainersHome {
    /// A home whose `~/.config/containers` is this folder, and whose logins are these (`auth.json`).
    ///
    /// # Errors
    /// The temporary folder cannot be written.
    pub fn new(containers: &Path, logins: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("home-").tempdir()?;
        std::fs::create_dir(folder.path().join(".config"))?;
        std::os::unix::fs::symlink(containers, folder.path().join(".config/containers"))?;
        std::fs::write(folder.path().join("auth.json"), logins)?;
        Ok(Self { folder })
    }

    /// Lets a program have this home.
    #[must_use]
    pub fn apply(&self, program: Program) -> Program {
        let at = |name: &str| self.folder.path().join(name);
        program
            .env("HOME", at(""))
            .env("XDG_CONFIG_HOME", at(".config"))
            .env("REGISTRY_AUTH_FILE", at("auth.json"))
    }
}
