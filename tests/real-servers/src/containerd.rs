//! containerd, controlled with `ctr`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::image_dir::ImageDir;
use super::image_dir::same_bytes;
use super::process::{Login, Program, ServerProcess};

const START_BOUND: Duration = Duration::from_secs(20);
const BOUND: Duration = Duration::from_secs(120);

/// A running containerd with an empty store.
#[derive(Debug)]
pub struct Containerd {
    login: Login,
    _server: ServerProcess,
    folder: TempDir,
}

impl Containerd {
    /// Starts containerd. It trusts the folder `trusted` (with `ca.crt`) for `endpoint`.
    ///
    /// # Errors
    /// containerd is not installed or does not start.
    pub async fn start(endpoint: &str, trusted: &Path, login: Login) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("containerd-").tempdir()?;
        write_hosts(&folder.path().join("hosts").join(endpoint), endpoint, &trusted.join("ca.crt"))?;
        let file = folder.path().join("config.toml");
        std::fs::write(&file, configuration(folder.path()))?;
        let mut server = Program::find("containerd")?.arg("--config").arg(&file).serve(folder.path())?;
        let socket = folder.path().join("sock");
        server.ready(START_BOUND, || version(&socket)).await?;
        Ok(Self { login, _server: server, folder })
    }

    /// Pulls an image with all its platforms. A runnable image is unpacked.
    ///
    /// # Errors
    /// ctr fails, for example because a blob's bytes do not match its digest.
    pub async fn pull(&self, image: &ImageDir, reference: &str) -> Result<()> {
        let command = if image.runnable {
            self.ctr()?.args(["images", "pull", "--all-platforms", "--snapshotter=native"])
        } else {
            self.ctr()?.args(["content", "fetch"])
        };
        self.remote(command).arg(reference).run(BOUND).await.map(drop)
    }

    /// Pushes a pulled image under another name, unchanged.
    ///
    /// # Errors
    /// ctr fails.
    pub async fn push(&self, pulled: &str, reference: &str) -> Result<()> {
        self.ctr()?.args(["images", "tag", "--force", pulled, reference]).run(BOUND).await?;
        self.remote(self.ctr()?.args(["images", "push"])).arg(reference).run(BOUND).await.map(drop)
    }

    /// Compares the stored image with the original, byte for byte.
    ///
    /// # Errors
    /// A blob or manifest is missing or differs.
    pub fn holds(&self, image: &ImageDir) -> Result<()> {
        let stored = self.folder.path().join("root/io.containerd.content.v1.content/blobs/sha256");
        for hex in image.blobs.keys().chain(&image.manifests) {
            same_bytes(&image.file(hex), &stored.join(hex))
                .with_context(|| format!("{hex} in containerd"))?;
        }
        Ok(())
    }

    fn ctr(&self) -> Result<Program> {
        ctr(&self.folder.path().join("sock"))
    }

    fn remote(&self, command: Program) -> Program {
        let hosts = self.folder.path().join("hosts");
        command.arg("--hosts-dir").arg(hosts).arg("--user").arg(self.login.pair())
    }
}

fn ctr(socket: &PathBuf) -> Result<Program> {
    Ok(Program::find("ctr")?.arg("--address").arg(socket))
}

async fn version(socket: &PathBuf) -> bool {
    match ctr(socket) {
        Ok(program) => program.arg("version").run(BOUND).await.is_ok(),
        Err(_) => false,
    }
}

/// The root certificate is also set at the top level. That setting applies to the fallback to the server
/// itself, which containerd tries after a 404 of the host.
fn write_hosts(folder: &Path, endpoint: &str, ca: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let ca = ca.display();
    let text = format!(
        "server = \"https://{endpoint}\"
ca = \"{ca}\"

[host.\"https://{endpoint}\"]
capabilities = [\"pull\", \"resolve\", \"push\"]
ca = \"{ca}\"
"
    );
    Ok(std::fs::write(folder.join("hosts.toml"), text)?)
}

/// Only content, metadata and the snapshotter that works everywhere. Nothing needs a kernel module or the
/// network.
fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "version = 2
root = \"{folder}/root\"
state = \"{folder}/state\"
disabled_plugins = [
  \"io.containerd.grpc.v1.cri\", \"io.containerd.snapshotter.v1.aufs\", \"io.containerd.snapshotter.v1.btrfs\",
  \"io.containerd.snapshotter.v1.devmapper\", \"io.containerd.snapshotter.v1.zfs\",
]

[grpc]
address = \"{folder}/sock\"

[plugins.\"io.containerd.internal.v1.opt\"]
path = \"{folder}/opt\"
"
    )
}
