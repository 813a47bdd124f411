//! Squid, as a forward proxy.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::ports::free_port;
use super::process::{Program, ServerProcess};
use super::registry::TlsFiles;

const START: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// The login that Squid asks for, as `user:password`.
pub const SQUID_LOGIN: &str = "gateway:hunter2";

/// The same for Squid: `openssl passwd -apr1 -salt quaygate hunter2`.
const PASSWORDS: &str = "gateway:$apr1$quaygate$0AcBDIZxNAj7AhMJ6/qee/\n";

/// A user without rights. Squid does not run as root.
const NOBODY: u32 = 65534;

/// A running Squid, which asks for [`SQUID_LOGIN`]. Its log has a line for each request and each tunnel that has ended.
#[derive(Debug)]
pub struct Squid {
    port: u16,
    tls_port: Option<u16>,
    process: ServerProcess,
    folder: TempDir,
}

impl Squid {
    /// Starts Squid on free ports of loopback, also with TLS if there are files for it. It knows these names, which are
    /// loopback, although no resolver does.
    ///
    /// # Errors
    /// Squid is not installed or does not start.
    pub async fn start(names: &[&str], tls: Option<&TlsFiles>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("squid-").tempdir()?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777))?;
        let at = |name: &str| folder.path().join(name);
        let hosts: String = names.iter().map(|name| format!("127.0.0.1 {name}\n")).collect();
        std::fs::write(at("hosts"), hosts)?;
        std::fs::write(at("passwords"), PASSWORDS)?;
        let port = free_port();
        let mut config = format!(
            "http_port 127.0.0.1:{port}\n\
             pid_filename none\n\
             hosts_file {hosts}\n\
             logformat short %rm %ru %>Hs %un\n\
             access_log stdio:{log} short\n\
             cache_log {cache_log}\n\
             coredump_dir none\n\
             pinger_enable off\n\
             cache deny all\n\
             shutdown_lifetime 0 seconds\n\
             max_filedescriptors 1024\n\
             visible_hostname squid.test\n\
             auth_param basic program /usr/lib/squid/basic_ncsa_auth {passwords}\n\
             acl known proxy_auth REQUIRED\n\
             http_access allow known\n\
             http_access deny all\n",
            hosts = at("hosts").display(),
            log = at("access.log").display(),
            cache_log = at("cache.log").display(),
            passwords = at("passwords").display(),
        );
        let mut tls_port = None;
        if let Some(tls) = tls {
            let port = free_port();
            for (file, name) in [(&tls.certificate, "tls.crt"), (&tls.key, "tls.key")] {
                std::fs::copy(file, at(name))?;
                std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(0o644))?;
            }
            let (certificate, key) = (at("tls.crt"), at("tls.key"));
            writeln!(
                config,
                "https_port 127.0.0.1:{port} tls-cert={} tls-key={}",
                certificate.display(),
                key.display()
            )?;
            tls_port = Some(port);
        }
        std::fs::write(at("squid.conf"), config)?;
        let program = Program::find("squid")?.arg("-N").arg("-f").arg(at("squid.conf")).as_user(NOBODY);
        let process = program.in_folder(folder.path()).serve(folder.path())?;
        let mut squid = Self { port, tls_port, process, folder };
        squid.ready().await?;
        Ok(squid)
    }

    async fn ready(&mut self) -> Result<()> {
        let ports = [Some(self.port), self.tls_port];
        let is_open = || async move {
            for port in ports.into_iter().flatten() {
                if TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                    return false;
                }
            }
            true
        };
        self.process.ready(START, is_open).await.with_context(|| {
            std::fs::read_to_string(self.folder.path().join("cache.log")).unwrap_or_default()
        })
    }

    /// Its URL, without a login.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its URL with TLS.
    ///
    /// # Errors
    /// It was started without.
    pub fn tls_url(&self) -> Result<String> {
        Ok(format!("https://localhost:{}", self.tls_port.context("Squid was started without TLS")?))
    }

    /// Kills it.
    pub fn stop(&mut self) {
        self.process.stop();
    }

    /// Starts it again after [`Squid::stop`], on the same ports.
    ///
    /// # Errors
    /// Squid does not start.
    pub async fn start_again(&mut self) -> Result<()> {
        self.process.start_again()?;
        self.ready().await
    }

    /// What passed through it, as `METHOD URL STATUS USER`, one a line. Waits until `expected` is in the log: a tunnel is
    /// there only after its end.
    ///
    /// # Errors
    /// It is not there within 30 s.
    pub async fn passed(&self, expected: &str) -> Result<String> {
        let end = Instant::now() + START;
        loop {
            let log = std::fs::read_to_string(self.log_file()).unwrap_or_default();
            if log.contains(expected) {
                return Ok(log);
            }
            anyhow::ensure!(Instant::now() < end, "no {expected} in Squid's log:\n{log}");
            tokio::time::sleep(POLL).await;
        }
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("access.log")
    }
}
