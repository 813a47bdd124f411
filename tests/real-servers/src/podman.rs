//! podman with its own storage.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use tempfile::TempDir;

use super::containers_home::ContainersHome;
use super::process::{Login, Program};

const BOUND: Duration = Duration::from_secs(120);

/// A podman with an empty storage, which is removed when this is dropped.
#[derive(Debug)]
pub struct Podman {
    access: Access,
    folder: TempDir,
}

/// What it trusts, and its logins.
#[derive(Debug)]
enum Access {
    /// Both on the command line.
    Arguments { trusted: PathBuf, login: Login },
    /// Both from files, as a user has them.
    Files(Box<ContainersHome>),
}

/// podman's description of an image in its storage.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PodmanImage {
    /// The config's hex digest.
    pub id: String,
    /// The digest of the manifest that was pulled.
    pub digest: String,
    /// The unpacked layers.
    #[serde(rename = "RootFS")]
    pub root: Layers,
}

/// The layers of an image.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Layers {
    /// The digests of the unpacked layers, `sha256:…`, computed while they were unpacked.
    pub layers: Vec<String>,
}

impl Podman {
    /// A podman without images. `trusted` is a folder with `ca.crt`.
    ///
    /// # Errors
    /// The temporary folder cannot be created.
    pub fn new(trusted: PathBuf, login: Login) -> Result<Self> {
        Ok(Self { access: Access::Arguments { trusted, login }, folder: folder()? })
    }

    /// A podman without images that has its configuration from the home folder of a user.
    ///
    /// # Errors
    /// The temporary folder cannot be created.
    pub fn at_home(home: ContainersHome) -> Result<Self> {
        Ok(Self { access: Access::Files(Box::new(home)), folder: folder()? })
    }

    /// Pulls and unpacks an image.
    ///
    /// # Errors
    /// podman fails, for example because a layer's bytes do not match its digest.
    pub async fn pull(&self, reference: &str) -> Result<PodmanImage> {
        self.remote("pull")?.args(["--quiet", reference]).run(BOUND).await?;
        let text = self.program()?.args(["image", "inspect", reference]).run(BOUND).await?;
        let images: Vec<PodmanImage> = serde_json::from_str(&text)?;
        images.into_iter().next().context("podman does not have the image")
    }

    /// Pushes an image under another name. podman packs its layers again.
    ///
    /// # Errors
    /// podman fails.
    pub async fn push(&self, image: &str, reference: &str) -> Result<()> {
        self.remote("push")?
            .args(["--quiet", image, &format!("docker://{reference}")])
            .run(BOUND)
            .await
            .map(drop)
    }

    fn remote(&self, command: &str) -> Result<Program> {
        let program = self.program()?.arg(command);
        Ok(match &self.access {
            Access::Arguments { trusted, login } => program
                .arg(format!("--cert-dir={}", trusted.display()))
                .arg(format!("--creds={}", login.pair())),
            Access::Files(home) => home.apply(program),
        })
    }

    /// The vfs driver works on every file system, also in a container.
    fn program(&self) -> Result<Program> {
        let at = |name: &str| self.folder.path().join(name);
        let program =
            Program::find("podman")?.arg("--root").arg(at("root")).arg("--runroot").arg(at("runroot"));
        let program = program.arg("--tmpdir").arg(at("tmp")).env("TMPDIR", self.folder.path());
        Ok(program.args(["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=none"]))
    }
}

fn folder() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("podman-").tempdir()?)
}
