//! `USER_EVENTS_REDIS` of Quay's `config.yaml`: Quay's Redis.

use std::fmt;
use std::path::{Path, PathBuf};

use backends::Secret;
use serde::Deserialize;

use super::database::locate;
use super::quay::RawValue;

/// Redis's default port.
const PORT: u16 = 6379;

/// The keyword arguments of Python's Redis client (`util/locking.py:_redis_lock_factory`).
#[derive(Debug, Deserialize)]
struct RedisEntry {
    host: String,
    port: Option<u16>,
    db: Option<u32>,
    username: Option<String>,
    password: Option<Secret>,
    #[serde(default)]
    ssl: bool,
    ssl_ca_certs: Option<PathBuf>,
    ssl_certfile: Option<PathBuf>,
}

/// Why `USER_EVENTS_REDIS` cannot be used. The message repeats no value of it except a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RedisEntryError {
    #[error(
        "USER_EVENTS_REDIS is not understood: expected are host, and port, db, username, password, ssl, \
         ssl_ca_certs"
    )]
    Malformed,
    #[error("host in USER_EVENTS_REDIS must be a name or an address, not a URL")]
    Host,
    #[error("ssl_certfile in USER_EVENTS_REDIS: a client certificate is not supported")]
    ClientCertificate,
    #[error("ssl_ca_certs in USER_EVENTS_REDIS: there is no file {}, nor one of its name beside Quay's config.yaml", .0.display())]
    Roots(PathBuf),
}

/// Quay's Redis, which holds its locks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisSettings {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The number of the database.
    pub database: u32,
    /// The ACL user. Without one, Redis uses `default`.
    pub username: Option<String>,
    /// The password, if Redis requires one.
    pub password: Option<Secret>,
    /// Whether to use TLS and verify the certificate.
    pub tls: bool,
    /// A file with further roots for its certificate.
    pub root: Option<PathBuf>,
}

impl fmt::Display for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = if self.tls { "TLS, verified" } else { "no TLS" };
        write!(f, "Redis {}:{}, database {}, {tls}", self.host, self.port, self.database)
    }
}

/// Reads `USER_EVENTS_REDIS` of the file at `config`.
///
/// # Errors
/// The entry is malformed, its host is a URL, it has a client certificate, or its file of roots does not exist.
pub(super) fn redis(config: &Path, entry: &RawValue) -> Result<RedisSettings, RedisEntryError> {
    let entry: RedisEntry = entry.read().ok_or(RedisEntryError::Malformed)?;
    // The host is shown, and a URL may hold the password.
    if entry.host.is_empty() || entry.host.contains(['/', '@', ' ']) {
        return Err(RedisEntryError::Host);
    }
    if entry.ssl_certfile.is_some() {
        return Err(RedisEntryError::ClientCertificate);
    }
    let root = match &entry.ssl_ca_certs {
        Some(file) => Some(locate(config, file).ok_or_else(|| RedisEntryError::Roots(file.clone()))?),
        None => None,
    };
    Ok(RedisSettings {
        host: entry.host,
        port: entry.port.unwrap_or(PORT),
        database: entry.db.unwrap_or(0),
        username: entry.username.filter(|name| !name.is_empty()),
        password: entry.password.filter(|password| !password.reveal().is_empty()),
        tls: entry.ssl,
        root,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entry: serde_json::Value) -> Result<RedisSettings, RedisEntryError> {
        redis(Path::new("/nowhere/config.yaml"), &RawValue::of(entry))
    }

    #[test]
    fn an_entry_of_quay_is_parsed() {
        let entry = serde_json::json!({"host": "r", "port": 7, "password": "hunter2", "ssl": true, "ssl_cert_reqs": "required"});
        let settings = read(entry).expect("fine");
        assert_eq!(settings.to_string(), "Redis r:7, database 0, TLS, verified");
        assert!(!format!("{settings:?}").contains("hunter2"));
        let plain = read(serde_json::json!({"host": "r", "password": ""})).expect("fine");
        assert_eq!((plain.port, plain.password, plain.tls), (6379, None, false));
        for (entry, expected) in [
            (serde_json::json!({"port": 1}), RedisEntryError::Malformed),
            (
                serde_json::json!({"host": "r", "ssl_ca_certs": "/none"}),
                RedisEntryError::Roots("/none".into()),
            ),
            (serde_json::json!({"host": "r", "ssl_certfile": "/none"}), RedisEntryError::ClientCertificate),
        ] {
            assert_eq!(read(entry).expect_err("refused"), expected);
        }
    }
}
