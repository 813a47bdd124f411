//! The place of a journal: its own database in a real PostgreSQL.

use std::sync::Arc;

use async_trait::async_trait;
use backends::Secret;
use postgres_connection::Database;
use real_servers::Postgres;
use replication::conformance::Place;
use replication::{Journal, JournalError};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Mutex;
use tokio_postgres::{Client, NoTls};

/// A database. The server ends with its last place.
pub(crate) struct DatabasePlace {
    server: Arc<Mutex<Postgres>>,
    url: String,
}

/// Starts a PostgreSQL for several places.
pub(crate) async fn server() -> Arc<Mutex<Postgres>> {
    Arc::new(Mutex::new(Postgres::start(None).await.unwrap()))
}

impl DatabasePlace {
    /// A place on its own server.
    pub(crate) async fn start() -> Self {
        Self::on(&server().await).await
    }

    /// Creates a database on this server.
    pub(crate) async fn on(server: &Arc<Mutex<Postgres>>) -> Self {
        let name = format!("journal{}", fastrand::u64(..));
        let (all, url) = {
            let server = server.lock().await;
            (server.url(), server.url_of(&name))
        };
        client(&all).await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        Self { server: Arc::clone(server), url }
    }

    pub(crate) async fn connect(&self) -> Result<Journal, JournalError> {
        self.connect_to(&self.url).await
    }

    /// Like [`DatabasePlace::connect`], with another password.
    pub(crate) async fn connect_as(&self, password: &str) -> Result<Journal, JournalError> {
        self.connect_to(&self.url.replace(real_servers::POSTGRES_PASSWORD, password)).await
    }

    async fn connect_to(&self, url: &str) -> Result<Journal, JournalError> {
        Journal::connect(Database::parse(&Secret::new(url)).unwrap(), &tls()).await
    }

    /// A connection that does not belong to the journal.
    pub(crate) async fn client(&self) -> Client {
        client(&self.url).await
    }

    /// Changes the tables without the journal. Returns the number of rows.
    pub(crate) async fn sql(&self, statement: &str) -> u64 {
        self.client().await.execute(statement, &[]).await.unwrap()
    }

    /// Kills the server: connections break, and nothing more is written.
    pub(crate) async fn crash(&self) {
        self.server.lock().await.crash();
    }

    /// Starts the server again.
    pub(crate) async fn restart(&self) {
        self.server.lock().await.restart().await.unwrap();
    }

    /// The server's log.
    pub(crate) async fn log(&self) -> String {
        self.server.lock().await.log()
    }
}

#[async_trait]
impl Place for DatabasePlace {
    async fn open(&self) -> Journal {
        self.connect().await.unwrap()
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn refuse_rewrites(&self) {
        let trigger = "CREATE FUNCTION rewritten() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'rewritten'; END $$;
            CREATE TRIGGER rewritten AFTER UPDATE ON quay_gateway_job FOR EACH ROW EXECUTE FUNCTION rewritten();";
        self.client().await.batch_execute(trigger).await.unwrap();
    }
}

async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn tls() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}
