//! Quay's Redis, as its own `config.yaml` names it: `USER_EVENTS_REDIS`.

use std::fmt;
use std::path::{Path, PathBuf};

use backends::Secret;
use serde::Deserialize;

use super::database::found;
use super::quay::Untyped;

/// Redis's own port.
const PORT: u16 = 6379;

/// As the keyword arguments of Python's client (`util/locking.py:_redis_lock_factory`).
#[derive(Debug, Deserialize)]
struct Entry {
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

/// Quay's Redis, where its locks are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisSettings {
    /// A name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The number of its database.
    pub database: u32,
    /// An ACL user; Redis's `default` without one.
    pub username: Option<String>,
    /// What it wants to hear first.
    pub password: Option<Secret>,
    /// Whether it is spoken to over TLS, its certificate verified.
    pub tls: bool,
    /// Roots beside the others.
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
/// In words, without any part of it.
pub(super) fn redis(config: &Path, entry: &Untyped) -> Result<RedisSettings, String> {
    let entry: Entry = entry.read().map_err(|()| {
        "USER_EVENTS_REDIS is not understood: expected are host, and port, db, username, password, ssl, \
         ssl_ca_certs"
            .to_owned()
    })?;
    // It is shown, and a URL may hold the password.
    if entry.host.is_empty() || entry.host.contains(['/', '@', ' ']) {
        return Err("host in USER_EVENTS_REDIS is a name or an address, and no URL".to_owned());
    }
    if entry.ssl_certfile.is_some() {
        return Err("ssl_certfile in USER_EVENTS_REDIS: a client's certificate is not supported".to_owned());
    }
    let root = match &entry.ssl_ca_certs {
        Some(file) => Some(found(config, file).ok_or_else(|| {
            format!(
                "ssl_ca_certs in USER_EVENTS_REDIS: {} is not here, nor beside Quay's config.yaml",
                file.display()
            )
        })?),
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

    fn read(entry: serde_json::Value) -> Result<RedisSettings, String> {
        redis(Path::new("/nowhere/config.yaml"), &Untyped::of(entry))
    }

    #[test]
    fn as_quay_has_it() {
        let entry = serde_json::json!({"host": "r", "port": 7, "password": "hunter2", "ssl": true, "ssl_cert_reqs": "required"});
        let settings = read(entry).expect("fine");
        assert_eq!(settings.to_string(), "Redis r:7, database 0, TLS, verified");
        assert!(!format!("{settings:?}").contains("hunter2"));
        let plain = read(serde_json::json!({"host": "r", "password": ""})).expect("fine");
        assert_eq!((plain.port, plain.password, plain.tls), (6379, None, false));
        for (entry, why) in [
            (serde_json::json!({"port": 1}), "is not understood"),
            (serde_json::json!({"host": "r", "ssl_ca_certs": "/none"}), "is not here"),
            (serde_json::json!({"host": "r", "ssl_certfile": "/none"}), "client's certificate"),
        ] {
            assert!(read(entry).expect_err(why).contains(why));
        }
    }
}
