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
    /// The folder with a folder for each registry.
    hosts: PathBuf,
    folder: TempDir,
}

impl Containerd {
    /// Starts containerd. It trusts the folder `trusted` (with `ca.crt`) for `endpoint`.
    ///
    /// # Errors
    /// containerd is not installed or does not start.
    pub async fn start(endpoint: &str, trusted: &Path, login: Login) -> Result<Self> {
        let folder = folder()?;
        let hosts = folder.path().join("hosts");
        write_hosts(&hosts.join(endpoint), endpoint, &trusted.join("ca.crt"))?;
        let configuration = configuration(folder.path(), Cri::Off);
        Self::serve(folder, hosts, login, &configuration).await
    }

    /// Starts containerd with a folder that has a folder with `hosts.toml` for each registry, and with its
    /// service for the kubelet (CRI).
    ///
    /// # Errors
    /// containerd is not installed or does not start.
    pub async fn with_hosts(hosts: &Path, login: Login) -> Result<Self> {
        let folder = folder()?;
        let configuration = configuration(folder.path(), Cri::On(hosts));
        Self::serve(folder, hosts.to_owned(), login, &configuration).await
    }

    async fn serve(folder: TempDir, hosts: PathBuf, login: Login, configuration: &str) -> Result<Self> {
        let file = folder.path().join("config.toml");
        std::fs::write(&file, configuration)?;
        let mut server = Program::find("containerd")?.arg("--config").arg(&file).serve(folder.path())?;
        let socket = folder.path().join("sock");
        server.ready(START_BOUND, || version(&socket)).await?;
        Ok(Self { login, _server: server, hosts, folder })
    }

    /// The socket of its API.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("sock")
    }

    /// Pulls and unpacks a runnable image for this machine's platform with `ctr`.
    ///
    /// # Errors
    /// ctr fails.
    pub async fn pull_runnable(&self, reference: &str) -> Result<()> {
        let command = self.ctr()?.args(["images", "pull", "--snapshotter=native"]);
        self.remote(command).arg(reference).run(BOUND).await.map(drop)
    }

    /// Pulls an image as the kubelet does: `PullImage` of CRI, with the login and without the name of a server.
    ///
    /// # Errors
    /// containerd refuses, or `tests/install` has not run.
    pub async fn pull_by_cri(&self, reference: &str) -> Result<()> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/cri_pull.py");
        let program = Program::python("kubernetes")?.env("CRI_PASSWORD", &self.login.password);
        program.arg(script).arg(self.socket()).arg(reference).arg(&self.login.user).run(BOUND).await.map(drop)
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
        ctr(&self.socket())
    }

    fn remote(&self, command: Program) -> Program {
        command.arg("--hosts-dir").arg(&self.hosts).arg("--user").arg(self.login.pair())
    }
}

fn folder() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("containerd-").tempdir()?)
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

/// The service for the kubelet, with its folder of registries.
enum Cri<'a> {
    Off,
    On(&'a Path),
}

/// Only content, metadata and the snapshotter that works everywhere. Nothing needs a kernel module or the
/// network.
fn configuration(folder: &Path, cri: Cri<'_>) -> String {
    let folder = folder.display();
    let (disabled, cri) = match cri {
        Cri::Off => ("\"io.containerd.grpc.v1.cri\",", String::new()),
        Cri::On(hosts) => ("", cri_configuration(hosts)),
    };
    format!(
        "version = 2
root = \"{folder}/root\"
state = \"{folder}/state\"
disabled_plugins = [
  {disabled} \"io.containerd.snapshotter.v1.aufs\", \"io.containerd.snapshotter.v1.btrfs\",
  \"io.containerd.snapshotter.v1.devmapper\", \"io.containerd.snapshotter.v1.zfs\",
]

[grpc]
address = \"{folder}/sock\"

[plugins.\"io.containerd.internal.v1.opt\"]
path = \"{folder}/opt\"
{cri}"
    )
}

fn cri_configuration(hosts: &Path) -> String {
    let hosts = hosts.display();
    format!(
        "
[plugins.\"io.containerd.grpc.v1.cri\"]
stream_server_address = \"127.0.0.1\"
stream_server_port = \"0\"

[plugins.\"io.containerd.grpc.v1.cri\".containerd]
snapshotter = \"native\"

[plugins.\"io.containerd.grpc.v1.cri\".registry]
config_path = \"{hosts}\"
"
    )
}
