//! What a connection is used for, and the parameters of a statement.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use super::{Client, Database, PostgresError, ToSql, Type};

/// How long one address may take to connect, and how long the handshake may take after that.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A parameter and its type, so that a statement needs one round trip.
pub type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// What a connection is used for.
#[async_trait]
pub trait Purpose: fmt::Debug + Send + Sync + 'static {
    /// The name of the database in the log, such as `the journal's database`.
    fn name(&self) -> &'static str;

    /// How long [`Purpose::prepare`] may take. After 5 s, statements fail with the error that the connection is
    /// not ready yet.
    fn prepare_timeout(&self) -> Duration {
        CONNECT_TIMEOUT
    }

    /// Prepares a new connection, before any statement runs on it.
    ///
    /// # Errors
    /// The database is not in the required state. The connection is then closed and made again.
    async fn prepare(&self, _database: &Database, _client: &Client) -> Result<(), PostgresError> {
        Ok(())
    }

    /// A connection is ready. Notifications that were sent while there was none are lost.
    fn connected(&self) {}

    /// A notification arrived on a channel that [`Purpose::prepare`] listens on.
    fn notified(&self, _channel: &str, _payload: &str) {}
}
