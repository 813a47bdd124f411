//! skopeo: images as they are, between folders and registries.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::process::{Login, Program};

const BOUND: Duration = Duration::from_secs(120);

/// How skopeo is run.
#[derive(Debug, Clone)]
pub struct Skopeo {
    /// A folder with `ca.crt`.
    pub trusted: PathBuf,
    /// As whom; anonymous without.
    pub login: Option<Login>,
}

impl Skopeo {
    /// Pushes a `dir:` folder, its manifests unchanged.
    ///
    /// # Errors
    /// skopeo's own.
    pub async fn push(&self, from: &Path, reference: &str) -> Result<()> {
        self.copy("dest", &format!("dir:{}", from.display()), &format!("docker://{reference}")).await
    }

    /// Pulls all platforms into a `dir:` folder.
    ///
    /// # Errors
    /// skopeo's own, such as a blob whose bytes do not match its digest.
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
