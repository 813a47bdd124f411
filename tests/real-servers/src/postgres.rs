//! PostgreSQL, for the replicas of a gateway that share it.

use std::io::Write as _;
use std::os::unix::fs::chown;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Signal, geteuid};
use tempfile::TempDir;
use tokio_postgres::NoTls;

use super::ports::free_port;
use super::process::{Program, ServerProcess};
use harness::certs::Authority;

/// The timeout for creating the database files and for the start, on a busy machine.
const START: Duration = Duration::from_secs(120);
/// Debian's user `nobody`. PostgreSQL refuses to run as root.
const NOBODY: u32 = 65_534;
const USER: &str = "quay";
/// The password. It must never appear in a log.
pub const PASSWORD: &str = "correct-horse";

/// A PostgreSQL with one database, in a temporary folder. It listens on a Unix socket, and with TLS also on
/// `localhost`.
#[derive(Debug)]
pub struct Postgres {
    server: ServerProcess,
    folder: TempDir,
    port: u16,
}

impl Postgres {
    /// Starts PostgreSQL. With `authority` it also listens on loopback, with a certificate of that authority.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or does not start.
    pub async fn start(authority: Option<&Authority>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("postgres-").tempdir()?;
        let at = folder.path();
        std::fs::write(at.join("password"), PASSWORD)?;
        if let Some(authority) = authority {
            let certificate = authority.certificate(&["localhost"])?;
            certificate.write(&at.join("tls.crt"), &at.join("tls.key"))?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(at.join("tls.key"), mode)?;
        }
        if geteuid().is_root() {
            chown(at, Some(NOBODY), Some(NOBODY))?;
            for entry in std::fs::read_dir(at)? {
                chown(entry?.path(), Some(NOBODY), Some(NOBODY))?;
            }
        }
        let made = program("initdb", at)?
            .args(["--no-sync", "--no-locale", "--encoding=UTF8", "--auth=scram-sha-256"])
            .arg(format!("--username={USER}"))
            .arg(format!("--pwfile={}", at.join("password").display()))
            .arg("--pgdata")
            .arg(at.join("data"));
        made.run(START).await?;
        if authority.is_some() {
            // The password is in a file, so that a test can change it.
            let (certificate, key) = (at.join("tls.crt"), at.join("tls.key"));
            let ssl = format!(
                "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\n",
                certificate.display(),
                key.display()
            );
            std::fs::OpenOptions::new()
                .append(true)
                .open(at.join("data/postgresql.conf"))?
                .write_all(ssl.as_bytes())?;
        }
        let port = free_port();
        let mut server = program("postgres", at)?.arg("-D").arg(at.join("data")).arg("-k").arg(at);
        server = server.arg("-p").arg(port.to_string());
        // The tests do not cover a loss of power, so the data need not be synced.
        server = server.args(["-c", "fsync=off", "-c", "shared_buffers=32MB"]);
        let address = if authority.is_some() { "listen_addresses=127.0.0.1" } else { "listen_addresses=" };
        server = server.args(["-c", address]);
        let server = server.serve(at)?;
        let mut postgres = Self { server, folder, port };
        postgres.ready().await?;
        Ok(postgres)
    }

    /// The URL of the database over the Unix socket.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// The URL of another database over the Unix socket.
    #[must_use]
    pub fn url_of(&self, database: &str) -> String {
        let folder = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://{USER}:{PASSWORD}@{folder}:{}/{database}", self.port)
    }

    /// The server's log.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.log_text()
    }

    /// The URL of the database over TLS, if there is a certificate.
    #[must_use]
    pub fn tls_url(&self) -> String {
        format!("postgres://{USER}:{PASSWORD}@localhost:{}/postgres", self.port)
    }

    /// Ends the server like a crash: connections break, and open transactions are lost.
    pub fn crash(&mut self) {
        self.server.end(Signal::QUIT);
    }

    /// Starts the server again after [`Postgres::crash`].
    ///
    /// # Errors
    /// PostgreSQL does not start.
    pub async fn restart(&mut self) -> Result<()> {
        self.server.start_again()?;
        self.ready().await
    }

    async fn ready(&mut self) -> Result<()> {
        let url = self.url();
        // The server listens before it has recovered, and refuses logins until then.
        let admits = || async { tokio_postgres::connect(&url, NoTls).await.is_ok() };
        self.server.ready(START, admits).await
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.crash();
    }
}

/// A program of Debian's `postgresql-15`. If this process runs as root, it runs as `nobody`.
fn program(name: &str, folder: &Path) -> Result<Program> {
    let debian = Path::new("/usr/lib/postgresql/15/bin").join(name);
    let program = if debian.is_file() { Program::at(&debian) } else { Program::find(name) };
    let program = program.context("PostgreSQL")?.env("LC_ALL", "C").in_folder(folder);
    Ok(if geteuid().is_root() { program.as_user(NOBODY) } else { program })
}
