//! `auth`: which decisions about reads the gateway makes by itself.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::ConfigError;
use super::env::keys;
use super::file::RegistryKind;
use super::quay::{QuayFile, TokenKeys};

/// The longest `auth.freshness`: for so long, Quay itself caches that a blob is in a repository
/// (`data/cache/impl.py`).
const FRESHNESS_MAX: Duration = Duration::from_secs(60);

/// Keys of `auth`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AuthEntry {
    /// For how long the gateway believes that a blob is in a repository, after the registry confirmed it.
    #[serde(with = "humantime_serde")]
    pub(super) freshness: Duration,
    /// Whether the gateway verifies the registry's tokens.
    pub(super) verify_tokens: bool,
}

impl Default for AuthEntry {
    fn default() -> Self {
        Self { freshness: FRESHNESS_MAX, verify_tokens: true }
    }
}

keys!(AuthEntry { freshness, verify_tokens });

/// Which decisions about reads the gateway makes by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthSettings {
    /// `auth.freshness`.
    pub freshness: Duration,
    /// What the registry's tokens must say. `None` if they are not verified here.
    pub tokens: Option<TokenSettings>,
}

/// What a token of the registry says, apart from its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSettings {
    /// Quay's `INSTANCE_SERVICE_KEY_SERVICE`, which is also a part of the path of the key set.
    pub issuer: String,
    /// Quay's `SERVER_HOSTNAME`.
    pub audience: String,
    /// Quay's `REGISTRY_JWT_AUTH_MAX_FRESH_S`.
    pub life_max: Duration,
}

/// # Errors
/// `auth.freshness` is longer than Quay's own memory.
pub(super) fn auth(
    path: &Path,
    entry: &AuthEntry,
    kind: RegistryKind,
    quay: &QuayFile,
    audience: &str,
) -> Result<AuthSettings, ConfigError> {
    if entry.freshness > FRESHNESS_MAX {
        let why = "auth.freshness: must not be more than 60s, for which Quay itself caches that a blob is in a repository";
        return Err(ConfigError::new(path, None, why));
    }
    let verifies = entry.verify_tokens && kind == RegistryKind::Quay;
    let keys = verifies.then(|| quay.token_keys()).flatten();
    let tokens = keys.map(|TokenKeys { service, life_max }| TokenSettings {
        issuer: service,
        audience: audience.to_owned(),
        life_max,
    });
    Ok(AuthSettings { freshness: entry.freshness, tokens })
}
