//! `auth`: which decisions about reads the gateway makes by itself.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backends::Digest;
use serde::Deserialize;

use super::ConfigError;
use super::env::keys;
use super::file::{ConfigFile, RegistryKind, TokenKeysEntry};
use super::files::existing;
use super::located::Located;
use super::quay::{QuayFile, QuayKeys};

/// The longest `auth.freshness`: for so long, Quay itself caches that a blob is in a repository
/// (`data/cache/impl.py`).
const FRESHNESS_MAX: Duration = Duration::from_secs(60);

/// The bytes of a file of token keys that are compared.
const KEYS_FILE_MAX: u64 = 1024 * 1024;

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

/// What a token of the registry says, and the keys that sign it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSettings {
    /// Quay's `INSTANCE_SERVICE_KEY_SERVICE`, which is also a part of the path of its key set, or distribution's `issuer`.
    pub issuer: String,
    /// Quay's `SERVER_HOSTNAME`, or distribution's `service`.
    pub audience: String,
    /// The keys.
    pub keys: TokenKeys,
}

/// Where the keys are that sign tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenKeys {
    /// At Quay.
    OfQuay {
        /// Quay's `REGISTRY_JWT_AUTH_MAX_FRESH_S`.
        life_max: Duration,
    },
    /// In distribution's own file: certificates in PEM, or a set of JSON web keys.
    InFile {
        /// The file.
        file: PathBuf,
        /// Changes with its contents.
        contents: Digest,
    },
}

/// # Errors
/// `auth.freshness` is longer than Quay's own memory, or `registry.token_keys` is not complete or not for this registry.
pub(super) fn auth(
    path: &Path,
    file: &ConfigFile,
    quay: &QuayFile,
    audience: &str,
) -> Result<AuthSettings, ConfigError> {
    let AuthEntry { freshness, verify_tokens } = file.auth;
    if freshness > FRESHNESS_MAX {
        let why = "auth.freshness: must not be more than 60s, for which Quay itself caches that a blob is in a repository";
        return Err(ConfigError::new(path, None, why));
    }
    let tokens = match (file.registry.kind, &file.registry.token_keys) {
        (RegistryKind::Quay, None) => quay.token_keys().map(|QuayKeys { service, life_max }| TokenSettings {
            issuer: service,
            audience: audience.to_owned(),
            keys: TokenKeys::OfQuay { life_max },
        }),
        (RegistryKind::Quay, Some(given)) => {
            let why = "registry.token_keys: Quay gives its keys itself; remove it, or set registry.kind: distribution";
            return Err(ConfigError::new(path, given.line, why));
        }
        (RegistryKind::Distribution | RegistryKind::Oci, keys) => {
            keys.as_ref().map(|keys| in_file(path, keys)).transpose()?
        }
    };
    Ok(AuthSettings { freshness, tokens: tokens.filter(|_| verify_tokens) })
}

fn in_file(path: &Path, given: &Located<TokenKeysEntry>) -> Result<TokenSettings, ConfigError> {
    let TokenKeysEntry { file, issuer, service } = &given.value;
    let (Some(file), false, false) = (file, issuer.is_empty(), service.is_empty()) else {
        let why =
            "registry.token_keys: set file, issuer and service, as in auth.token of the registry's own file";
        return Err(ConfigError::new(path, given.line, why));
    };
    let file = existing(path, "registry.token_keys.file", file)?;
    let keys = TokenKeys::InFile { contents: contents(&file), file };
    Ok(TokenSettings { issuer: issuer.clone(), audience: service.clone(), keys })
}

/// The digest of a file of keys. What cannot be read counts as empty; the keys themselves are read later, with an error.
fn contents(file: &Path) -> Digest {
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|file| file.take(KEYS_FILE_MAX).read_to_end(&mut bytes));
    read.map_or(Digest::EMPTY, |_| Digest::of(&bytes))
}
