//! skopeo, which copies images unchanged between folders and registries.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::process::{Login, Program};

const BOUND: Duration = Duration::from_secs(120);

/// The settings of skopeo.
#[derive(Debug, Clone)]
pub struct Skopeo {
    /// A folder with `ca.crt`.
    pub trusted: PathBuf,
    /// The login. `None` is anonymous.
    pub login: Option<Login>,
}

impl Skopeo {
    /// Pushes a `dir:` folder with unchanged manifests.
    ///
    /// # Errors
    /// skopeo fails.
    pub async fn push(&self, from: &Path, reference: &str) -> Result<()> {
        self.copy("dest", &format!("dir:{}", from.display()), &format!("docker://{reference}")).await
    }

    /// Pulls all platforms into a `dir:` folder.
    ///
    /// # Errors
    /// skopeo fails, for example because a blob's bytes do not match its digest.
    pub async fn pull(&self, reference: &str, to: &Path) -> Result<()> {
        self.copy("src", &format!("docker://{reference}"), &format!("dir:{}", to.display())).await
    }

    async fn copy(&self, side: &str, from: &str, to: &str) -> Result<()> {
        let mut program =
            Program::find("skopeo")?.args(["--insecure-policy", "copy", "--all", "--preserve-digests"]);
        program = program.arg(format!("--{side}-cert-dir={}", self.trusted.display()));
        program = match &self.login {
            Some(login) => program.arg(format!("--{side}-creds={}", login.pair())),
            None => program.arg(format!("--{side}-no-creds")),
        };
        program.args([from, to]).run(BOUND).await.map(drop)
    }
}
