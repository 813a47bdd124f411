//! Where a database is, and why a URL of one is not accepted.

use backends::Secret;

/// The form of a database's URL.
const EXPECTED: &str = "expected is postgres://user:password@host:port/database?sslmode=verify-full (or \
    sslmode=disable), special characters in user and password percent-encoded";

/// Where a database is, and the login.
#[derive(Debug)]
pub struct Address<'a> {
    /// A name or an IP address, without brackets.
    pub host: &'a str,
    /// `None` for 5432.
    pub port: Option<u16>,
    /// The role.
    pub user: &'a str,
    /// Its password, if it has one.
    pub password: Option<&'a Secret>,
    /// The database's name.
    pub database: &'a str,
}

/// Whether the connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// TLS; the certificate's chain and name are verified.
    Verified,
    /// No TLS.
    Plain,
}

/// Why a database's URL is not accepted. Contains no part of the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// It is not of the expected form.
    #[error("{EXPECTED}")]
    Malformed,
    /// Its `sslmode` is neither `verify-full` nor `disable`.
    #[error(
        "of sslmode there are `verify-full`, the default, and `disable`: the others would send the password to \
         whoever answers"
    )]
    SslMode,
    /// It demands TLS on a Unix socket.
    #[error("a Unix socket has no TLS: use sslmode=disable")]
    SocketTls,
    /// This build has no driver for PostgreSQL.
    #[error(
        "this build has no PostgreSQL: build the gateway with its feature `postgres`, which is a default"
    )]
    NoDriver,
}
