//! The part of Quay's `config.yaml` that the gateway reads.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use backends::{Secret, StoreConfig};
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The keys of Quay's `config.yaml` that the gateway uses. All others are ignored.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct QuayFile {
    #[serde(rename = "SERVER_HOSTNAME")]
    pub server_hostname: Option<String>,
    #[serde(rename = "PREFERRED_URL_SCHEME")]
    pub preferred_url_scheme: Option<String>,
    #[serde(rename = "DISTRIBUTED_STORAGE_CONFIG", default)]
    pub storage: ZoneMap,
    #[serde(rename = "DISTRIBUTED_STORAGE_PREFERENCE", default)]
    pub preference: Vec<String>,
    #[serde(rename = "FEATURE_STORAGE_REPLICATION", default)]
    pub replication: bool,
    #[serde(rename = "DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS", default)]
    pub default_locations: Vec<String>,
    #[serde(rename = "DB_URI")]
    pub database_uri: Option<Secret>,
    #[serde(rename = "DB_CONNECTION_ARGS")]
    pub database_arguments: Option<RawValue>,
    #[serde(rename = "USER_EVENTS_REDIS")]
    pub redis: Option<RawValue>,
    #[serde(rename = "MAXIMUM_LAYER_SIZE")]
    maximum_layer_size: Option<RawValue>,
    #[serde(rename = "INSTANCE_SERVICE_KEY_SERVICE")]
    token_service: Option<RawValue>,
    #[serde(rename = "REGISTRY_JWT_AUTH_MAX_FRESH_S")]
    token_life_max: Option<RawValue>,
    #[serde(rename = "LIBRARY_NAMESPACE")]
    library: Option<RawValue>,
}

/// The keys that sign Quay's tokens, and how long a token may live.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct QuayKeys {
    /// The service whose keys they are.
    pub(crate) service: String,
    /// The longest life of a token.
    pub(crate) life_max: Duration,
}

/// Quay's defaults (`config.py`, `util/security/registry_jwt.py`).
const TOKEN_SERVICE: &str = "quay";
const TOKEN_LIFE_MAX_SECONDS: u32 = 3660;
const LIBRARY_NAMESPACE: &str = "library";

/// Quay's default `MAXIMUM_LAYER_SIZE` (`config.py`): 20 GiB.
const LAYER_MAX: u64 = 20 << 30;

impl QuayFile {
    /// `MAXIMUM_LAYER_SIZE` in bytes. If it is missing or not valid, Quay's default.
    pub(crate) fn layer_max(&self) -> u64 {
        let given = self.maximum_layer_size.as_ref();
        let text = given.and_then(|given| {
            given.read::<String>().or_else(|| given.read::<u64>().map(|bytes| bytes.to_string()))
        });
        text.and_then(|text| nginx_size(&text)).unwrap_or(LAYER_MAX)
    }

    /// `None` if the gateway cannot verify this Quay's tokens: a value is not understood, or a repository without a
    /// namespace is in another namespace than `library`, so that the gateway would take two names for two repositories.
    pub(crate) fn token_keys(&self) -> Option<QuayKeys> {
        let library = text_or(self.library.as_ref(), LIBRARY_NAMESPACE)?;
        let service = text_or(self.token_service.as_ref(), TOKEN_SERVICE)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if library != LIBRARY_NAMESPACE || service.is_empty() || !service.bytes().all(plain) {
            return None;
        }
        let seconds = match &self.token_life_max {
            None => TOKEN_LIFE_MAX_SECONDS,
            Some(given) => given.read()?,
        };
        Some(QuayKeys { service, life_max: Duration::from_secs(seconds.into()) })
    }
}

/// The text of a value, or the default if there is no value.
fn text_or(given: Option<&RawValue>, default: &str) -> Option<String> {
    given.map_or_else(|| Some(default.to_owned()), RawValue::read)
}

/// Parses a size as nginx does: digits, and a unit that is a power of 1024.
fn nginx_size(text: &str) -> Option<u64> {
    let text = text.trim().trim_end_matches(['B', 'b']).trim_end_matches(['I', 'i']);
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let shift = match text.strip_prefix(digits)?.trim().to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// A value that is parsed only where it is needed, so that an unexpected one does no harm elsewhere. It may
/// hold secrets and is never shown.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub(crate) struct RawValue(serde_json::Value);

impl RawValue {
    /// For tests.
    #[cfg(test)]
    pub(crate) fn of(value: serde_json::Value) -> Self {
        Self(value)
    }

    /// Parses the value. The error is dropped, because it may repeat a piece of a password.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_value(self.0.clone()).ok()
    }
}

impl fmt::Debug for RawValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<not shown>")
    }
}

/// Zones by name, in the order of the file. Quay falls back to that order
/// (`storage/__init__.py:Storage.init_app`).
#[derive(Debug, Clone, Default)]
pub(crate) struct ZoneMap(pub Vec<(String, StoreConfig)>);

impl<'de> Deserialize<'de> for ZoneMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ZoneMapVisitor(PhantomData<ZoneMap>);

        impl<'de> Visitor<'de> for ZoneMapVisitor {
            type Value = ZoneMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a map of zones: each has a name, and a list of a driver's name and its parameters",
                )
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ZoneMap, A::Error> {
                let mut zones = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    zones.push((name, map.next_value()?));
                }
                Ok(ZoneMap(zones))
            }

            fn visit_unit<E>(self) -> Result<ZoneMap, E> {
                Ok(ZoneMap::default())
            }
        }

        deserializer.deserialize_any(ZoneMapVisitor(PhantomData))
    }
}

impl ZoneMap {
    /// These zones and `others`. A zone of `others` replaces one of the same name.
    pub(crate) fn overlaid(mut self, others: Self) -> Vec<(String, StoreConfig)> {
        for (name, config) in others.0 {
            match self.0.iter_mut().find(|(known, _)| *known == name) {
                Some(zone) => zone.1 = config,
                None => self.0.push((name, config)),
            }
        }
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_nginx_writes_them() {
        for (text, bytes) in [
            ("20G", 20 << 30),
            ("512m", 512 << 20),
            ("1 GiB", 1 << 30),
            ("7", 7),
            ("3KB", 3 << 10),
            ("2T", 2 << 40),
        ] {
            assert_eq!(nginx_size(text), Some(bytes), "{text}");
        }
        for invalid in ["", "G", "1.5G", "-1", "20X", "99999999T"] {
            assert_eq!(nginx_size(invalid), None, "{invalid}");
        }
        assert_eq!(QuayFile::default().layer_max(), 20 << 30);
    }
}
