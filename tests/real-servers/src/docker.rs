//! The Docker daemon, with its own `/etc/docker`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tempfile::TempDir;

use super::containerd::Containerd;
use super::process::{Login, Program, ServerProcess};

const START_BOUND: Duration = Duration::from_secs(60);
const BOUND: Duration = Duration::from_secs(120);

/// In a mount namespace of its own: `/etc/docker` is the first argument, and `/etc/hosts` the second.
const IN_NAMESPACE: &str = "mkdir -p /etc/docker && mount --bind \"$1\" /etc/docker && mount --bind \"$2\" /etc/hosts \
                            && shift 2 && PATH=$PATH:/usr/sbin exec dockerd \"$@\"";
/// Where `HOST` seems to be (RFC 5737). Nothing connects to it, because of the proxy.
const NOWHERE: &str = "192.0.2.1";

/// A running dockerd with an empty storage. It reaches registries only through a proxy: dockerd does not verify
/// certificates of loopback addresses, so a registry must not seem to be one.
#[derive(Debug)]
pub struct Docker {
    // Dropped in this order: the user of containerd before it.
    _server: ServerProcess,
    _containerd: Containerd,
    folder: TempDir,
}

impl Docker {
    /// Starts dockerd. Its `/etc/docker` is the folder `etc`; `host` is the name of the one registry, and `proxy` the
    /// HTTP proxy to it.
    ///
    /// # Errors
    /// docker is not installed or does not start.
    pub async fn start(etc: &Path, host: &str, proxy: SocketAddr) -> Result<Self> {
        Program::find("dockerd")?;
        let folder = tempfile::Builder::new().prefix("docker-").tempdir()?;
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("hosts"), format!("127.0.0.1 localhost\n{NOWHERE} {host}\n"))?;
        std::fs::create_dir_all(at("none"))?;
        let login = Login::new("", "");
        let containerd = Containerd::with_hosts(&at("none"), login).await?;
        let program = Program::find("unshare")?.named("dockerd");
        let program = program.args(["--mount", "--propagation=private", "sh", "-c", IN_NAMESPACE, "sh"]);
        let program = program.arg(etc).arg(at("hosts")).arg("--containerd").arg(containerd.socket());
        let program = program.arg("--data-root").arg(at("root")).arg("--exec-root").arg(at("exec"));
        let program = program.arg("--pidfile").arg(at("pid")).arg("--host").arg(url(&at("sock")));
        let program = program.args(["--iptables=false", "--ip6tables=false", "--bridge=none"]);
        let program = program.args(["--storage-driver=vfs", "--group=root"]);
        let mut server = program.env("HTTPS_PROXY", format!("http://{proxy}")).serve(folder.path())?;
        server.ready(START_BOUND, || answers(at("sock"))).await?;
        Ok(Self { _server: server, _containerd: containerd, folder })
    }

    /// Pulls an image. Returns its id, `sha256:…`: the digest of its config.
    ///
    /// # Errors
    /// docker fails, for example because it does not trust the registry.
    pub async fn pull(&self, reference: &str, login: &Login) -> Result<String> {
        let host = reference.split('/').next().unwrap_or_default();
        let auth = STANDARD.encode(login.pair());
        let config = self.folder.path().join("client");
        std::fs::create_dir_all(&config)?;
        std::fs::write(
            config.join("config.json"),
            json!({ "auths": { host: { "auth": auth } } }).to_string(),
        )?;
        self.client()?.args(["pull", "--quiet", reference]).run(BOUND).await?;
        let inspect = self.client()?.args(["image", "inspect", "--format={{.Id}}", reference]);
        Ok(inspect.run(BOUND).await?.trim().to_owned())
    }

    fn client(&self) -> Result<Program> {
        let at = |name: &str| self.folder.path().join(name);
        Ok(docker(&at("sock"))?.arg("--config").arg(at("client")))
    }
}

fn docker(socket: &Path) -> Result<Program> {
    Ok(Program::find("docker")?.arg("--host").arg(url(socket)))
}

fn url(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

async fn answers(socket: PathBuf) -> bool {
    match docker(&socket) {
        Ok(program) => program.arg("version").run(BOUND).await.is_ok(),
        Err(_) => false,
    }
}
