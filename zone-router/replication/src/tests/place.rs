//! Where a journal lies in these tests: a file, or a database of a real PostgreSQL.

use std::fs::File;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backends::Secret;
use postgres_connection::Database;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use super::super::{Journal, JournalError};

/// Debian's `nobody`: PostgreSQL does not run as root.
const NOBODY: u32 = 65_534;
pub(super) const PASSWORD: &str = "hunter2";
const USER: &str = "quay";
/// For PostgreSQL to start.
const START: Duration = Duration::from_secs(120);

/// A place that outlives its journal.
#[derive(Clone)]
pub(super) enum Place {
    File(Arc<TempDir>),
    Database(Arc<Postgres>, String),
}

impl Place {
    pub(super) fn file() -> Self {
        Self::File(Arc::new(tempfile::tempdir().unwrap()))
    }

    pub(super) fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    pub(super) async fn open(&self) -> Journal {
        match self {
            Self::File(folder) => Journal::open(&folder.path().join("journal.db")).unwrap(),
            Self::Database(..) => self.connect().await.unwrap(),
        }
    }

    pub(super) async fn connect(&self) -> Result<Journal, JournalError> {
        Journal::connect(self.database(PASSWORD), &tls()).await
    }

    pub(super) fn database(&self, password: &str) -> Database {
        let Self::Database(server, name) = self else { panic!("no database") };
        let socket = server.folder.path().display().to_string().replace('/', "%2F");
        Database::parse(&Secret::new(format!("postgres://{USER}:{password}@{socket}/{name}"))).unwrap()
    }

    /// Somebody else's connection.
    pub(super) async fn stranger(&self) -> Client {
        let Self::Database(server, name) = self else { panic!("no database") };
        let (client, connection) = tokio_postgres::connect(&server.url(name), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Changes the journal past it; gives how many rows.
    pub(super) async fn sql(&self, statement: &str) -> u64 {
        let Self::Database(server, name) = self else { panic!("no database") };
        server.sql(name, statement).await
    }
}

pub(super) fn tls() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}

/// A PostgreSQL on a Unix socket; its data go with it.
pub(super) struct Postgres {
    folder: TempDir,
    server: std::sync::Mutex<Option<Child>>,
    databases: AtomicUsize,
}

impl Postgres {
    pub(super) async fn start() -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        let password = folder.path().join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        if geteuid().is_root() {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
            chown(&password, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let made = program("initdb", folder.path())
            .args(["--no-sync", "--no-locale", "--encoding=UTF8", "--auth=scram-sha-256"])
            .arg(format!("--username={USER}"))
            .arg(format!("--pwfile={}", password.display()))
            .arg("--pgdata")
            .arg(folder.path().join("data"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let postgres = Self { folder, server: std::sync::Mutex::new(None), databases: AtomicUsize::new(0) };
        postgres.go_on().await;
        Arc::new(postgres)
    }

    /// A database of its own.
    pub(super) async fn place(self: &Arc<Self>) -> Place {
        let name = format!("journal{}", self.databases.fetch_add(1, Ordering::SeqCst));
        self.sql("postgres", &format!("CREATE DATABASE {name}")).await;
        Place::Database(Arc::clone(self), name)
    }

    /// Ends it as a crash does: connections break, nothing is written any more.
    pub(super) fn crash(&self) {
        if let Some(mut server) = self.server.lock().unwrap().take() {
            let _ = kill_process(Pid::from_child(&server), Signal::QUIT);
            server.wait().unwrap();
        }
    }

    /// What it wrote.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Starts it, again or for the first time.
    pub(super) async fn go_on(&self) {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = program("postgres", self.folder.path());
        command.arg("-D").arg(self.folder.path().join("data")).arg("-k").arg(self.folder.path()).args([
            "-c",
            "listen_addresses=",
            "-c",
            "fsync=off",
            "-c",
            "shared_buffers=16MB",
        ]);
        let server = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        *self.server.lock().unwrap() = Some(server);
        let ready = async {
            while tokio_postgres::connect(&self.url("postgres"), NoTls).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(START, ready).await.is_err() {
            panic!("{}", self.log());
        }
    }

    async fn sql(&self, database: &str, statement: &str) -> u64 {
        let (client, connection) = tokio_postgres::connect(&self.url(database), NoTls).await.unwrap();
        let driven = tokio::spawn(connection);
        let rows = client.execute(statement, &[]).await.unwrap();
        drop(client);
        driven.await.unwrap().unwrap();
        rows
    }

    fn url(&self, database: &str) -> String {
        format!("host={} user={USER} password={PASSWORD} dbname={database}", self.folder.path().display())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.crash();
    }
}

/// One of Debian's `postgresql-15`, or on the `PATH`, as nobody where this is root.
fn program(name: &str, folder: &Path) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = PathBuf::from("/usr/lib/postgresql/15/bin");
    let found = std::iter::once(debian).chain(std::env::split_paths(&path)).map(|place| place.join(name));
    let found = found.into_iter().find(|file| file.is_file());
    let found = found.unwrap_or_else(|| panic!("{name} is not installed: run tests/run --install-only"));
    let mut command = Command::new(found);
    command.current_dir(folder).stdin(Stdio::null()).env("LC_ALL", "C");
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}
