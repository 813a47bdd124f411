//! podman with a storage of its own.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use tempfile::TempDir;

use super::process::{Login, Program};

const BOUND: Duration = Duration::from_secs(120);

/// An empty podman; what it pulled goes with it.
#[derive(Debug)]
pub struct Podman {
    trusted: PathBuf,
    login: Login,
    folder: TempDir,
}

/// What podman knows of an image in its storage.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PodmanImage {
    /// The config's hex digest.
    pub id: String,
    /// Of the manifest it was pulled by.
    pub digest: String,
    /// The unpacked layers.
    #[serde(rename = "RootFS")]
    pub root: Layers,
}

/// An image's layers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Layers {
    /// Digests of the unpacked layers, `sha256:…`, computed as they were unpacked.
    pub layers: Vec<String>,
}

impl Podman {
    /// A podman without images. `trusted` is a folder with `ca.crt`.
    ///
    /// # Errors
    /// No temporary folder.
    pub fn new(trusted: PathBuf, login: Login) -> Result<Self> {
        Ok(Self { trusted, login, folder: tempfile::Builder::new().prefix("podman-").tempdir()? })
    }

    /// Pulls and unpacks an image.
    ///
    /// # Errors
    /// podman's own, such as a layer whose bytes do not match its digest.
    pub async fn pull(&self, reference: &str) -> Result<PodmanImage> {
        self.remote("pull")?.args(["--quiet", reference]).run(BOUND).await?;
        let text = self.program()?.args(["image", "inspect", reference]).run(BOUND).await?;
        let images: Vec<PodmanImage> = serde_json::from_str(&text)?;
        images.into_iter().next().context("podman knows no such image")
    }

    /// Pushes an image under another name; podman packs its layers anew.
    ///
    /// # Errors
    /// podman's own.
    pub async fn push(&self, image: &str, reference: &str) -> Result<()> {
        self.remote("push")?
            .args(["--quiet", image, &format!("docker://{reference}")])
            .run(BOUND)
            .await
            .map(drop)
    }

    fn remote(&self, command: &str) -> Result<Program> {
        let program = self.program()?.arg(command).arg(format!("--cert-dir={}", self.trusted.display()));
        Ok(program.arg(format!("--creds={}", self.login.pair())))
    }

    /// vfs works on every file system, in a container too.
    fn program(&self) -> Result<Program> {
        let at = |name: &str| self.folder.path().join(name);
        let program =
            Program::find("podman")?.arg("--root").arg(at("root")).arg("--runroot").arg(at("runroot"));
        let program = program.arg("--tmpdir").arg(at("tmp")).env("TMPDIR", self.folder.path());
        Ok(program.args(["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=none"]))
    }
}
