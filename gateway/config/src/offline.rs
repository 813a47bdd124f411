//! `offline`: what the gateway serves while the registry is away.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::ConfigError;
use super::env::keys;
use super::file::RegistryKind;
use super::located::Located;

/// The shortest `offline.max_age`. A registry that restarts is away for less.
const MAX_AGE_LEAST: Duration = Duration::from_secs(60);

/// The longest `offline.max_age`. For so long, a revoked permission may count if the registry stays away.
const MAX_AGE_MOST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Keys of `offline`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OfflineEntry {
    /// How old an answer of the registry may be that is served while the registry is away.
    #[serde(with = "humantime_serde")]
    pub(super) max_age: Option<Duration>,
    /// Whether credentials that the registry accepted are remembered.
    pub(super) tokens: Option<Located<bool>>,
}

keys!(OfflineEntry { max_age, tokens });

/// What the gateway serves while the registry is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfflineSettings {
    /// How old an answer of the registry may be; one minute to 30 days.
    pub max_age: Duration,
    /// Whether the gateway remembers credentials that the registry accepted, and gives tokens for them.
    pub tokens: bool,
}

/// # Errors
/// `max_age` is missing or out of its bounds, or `tokens` is set for a registry that is not Quay.
pub(super) fn offline(
    path: &Path,
    entry: &OfflineEntry,
    kind: RegistryKind,
) -> Result<Option<OfflineSettings>, ConfigError> {
    let line = entry.tokens.as_ref().and_then(|tokens| tokens.line);
    let asked = entry.tokens.as_ref().map(|tokens| tokens.value);
    let Some(max_age) = entry.max_age else {
        return match asked {
            None => Ok(None),
            Some(_) => {
                let why = "offline.max_age is missing: set it to how old answers may be while the registry is away, \
                           such as 24h, or remove offline.tokens";
                Err(ConfigError::new(path, line, why))
            }
        };
    };
    if !(MAX_AGE_LEAST..=MAX_AGE_MOST).contains(&max_age) {
        return Err(ConfigError::new(path, None, "offline.max_age: must be from 1m to 30days"));
    }
    let is_quay = kind == RegistryKind::Quay;
    if asked == Some(true) && !is_quay {
        let why = "offline.tokens: only the tokens of Quay are known; set it to false, or remove it";
        return Err(ConfigError::new(path, line, why));
    }
    Ok(Some(OfflineSettings { max_age, tokens: asked.unwrap_or(is_quay) }))
}
