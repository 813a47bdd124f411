//! The same types in a build without the driver. No value of them exists, because no database is accepted.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use backends::Secret;
use rustls::ClientConfig;
use tokio_util::sync::CancellationToken;

use crate::PostgresError;
use crate::address::{Address, InvalidUrl, Mode};
use crate::purpose::{Parameter, Purpose};

/// A PostgreSQL database.
#[derive(Debug, Clone)]
pub struct Database(Infallible);

impl Database {
    /// # Errors
    /// Always: this build has no driver.
    pub fn parse(_: &Secret) -> Result<Self, InvalidUrl> {
        Err(InvalidUrl::NoDriver)
    }

    /// # Errors
    /// Always: this build has no driver.
    pub fn at(_: &Address<'_>, _: Mode) -> Result<Self, InvalidUrl> {
        Err(InvalidUrl::NoDriver)
    }

    /// A text that differs if two databases differ.
    #[must_use]
    pub fn compared(&self) -> Secret {
        match self.0 {}
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> &str {
        match self.0 {}
    }
}

impl fmt::Display for Database {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {}
    }
}

/// A connection that many callers share.
#[derive(Debug)]
pub struct SharedConnection(Infallible);

#[allow(clippy::unused_async, reason = "the signatures are the driver's")]
impl SharedConnection {
    /// Keeps a connection until `end`.
    #[must_use]
    pub fn keep(database: &Database, _: &ClientConfig, _: Arc<dyn Purpose>, _: CancellationToken) -> Self {
        match database.0 {}
    }

    /// Waits for the first attempt to connect.
    ///
    /// # Errors
    /// None: there is no connection.
    pub async fn started(&self) -> Result<(), PostgresError> {
        match self.0 {}
    }

    /// Runs one statement.
    ///
    /// # Errors
    /// None: there is no connection.
    pub async fn query(&self, _: &str, _: &[Parameter<'_>]) -> Result<Vec<Row>, PostgresError> {
        match self.0 {}
    }

    /// Closes the connection.
    pub fn hang_up(&self) {
        match self.0 {}
    }

    /// Runs one statement that may take long.
    ///
    /// # Errors
    /// None: there is no connection.
    pub async fn query_slow(&self, _: &str, _: &[Parameter<'_>]) -> Result<Vec<Row>, PostgresError> {
        match self.0 {}
    }
}

/// A connection.
#[derive(Debug)]
pub struct Client(Infallible);

#[allow(clippy::unused_async, reason = "the signatures are the driver's")]
impl Client {
    /// Runs statements without results.
    ///
    /// # Errors
    /// None: there is no connection.
    pub async fn batch_execute(&self, _: &str) -> Result<(), Error> {
        match self.0 {}
    }

    /// Runs a statement whose result has one row.
    ///
    /// # Errors
    /// None: there is no connection.
    pub async fn query_one(&self, _: &str, _: &[&(dyn ToSql + Sync)]) -> Result<Row, Error> {
        match self.0 {}
    }

    /// Runs a statement.
    ///
    /// # Errors
    /// None: there is no connection.
    pub async fn query_typed(&self, _: &str, _: &[Parameter<'_>]) -> Result<Vec<Row>, Error> {
        match self.0 {}
    }
}

/// Why a statement failed.
#[derive(Debug)]
pub struct Error(Infallible);

impl PostgresError {
    /// The error of a statement or of the connection.
    #[must_use]
    pub fn said(_: &Database, error: &Error) -> Self {
        match error.0 {}
    }
}

/// A row of a result.
#[derive(Debug)]
pub struct Row(Infallible);

impl Row {
    /// The value of a column.
    #[must_use]
    pub fn get<'a, I, T: 'a>(&'a self, _: I) -> T {
        match self.0 {}
    }
}

/// What can be a parameter.
pub trait ToSql: std::fmt::Debug {}

impl<T: std::fmt::Debug> ToSql for T {}

/// The type of a parameter.
#[derive(Debug, Clone)]
pub struct Type;

impl Type {
    /// `bigint`.
    pub const INT8: Self = Self;
    /// `bigint[]`.
    pub const INT8_ARRAY: Self = Self;
    /// `integer`.
    pub const INT4: Self = Self;
    /// `double precision`.
    pub const FLOAT8: Self = Self;
    /// `boolean`.
    pub const BOOL: Self = Self;
    /// `text`.
    pub const TEXT: Self = Self;
    /// `text[]`.
    pub const TEXT_ARRAY: Self = Self;
}
