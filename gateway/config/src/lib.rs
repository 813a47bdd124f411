#![doc = include_str!("../README.md")]

mod access_log;
mod admin;
mod auth;
mod bounds;
mod build;
mod changes;
mod copy_limits;
mod database;
mod env;
mod file;
mod files;
mod hostnames;
mod images;
mod instances;
mod journal;
mod keys_set;
mod located;
mod memory;
mod offline;
mod otlp;
mod patterns;
mod pins;
mod pitfalls;
mod proxies;
mod proxy;
mod quay;
mod redis;
mod replication;
mod roots;
mod routing;
mod settings;
mod summary;
mod tls;
mod words;
mod yaml_error;
mod zones;

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;

pub use access_log::{AccessLogFormat, AccessLogSettings, AccessLogTarget};
pub use admin::AdminSettings;
pub use auth::{AuthSettings, TokenKeys, TokenSettings};
pub use bounds::{Limits, Timeouts};
pub use build::{NoUsableZone, transport, unusable, zones, zones_after};
pub use changes::{Applied, Change, HIDDEN, RESTART as RESTART_KEYS, applied, changes};
pub use file::RegistryKind;
pub use hostnames::{bare_host, without_port};
pub use images::{
    DescribedPlatform, ImageName, ImageNameError, OtherRegistry, Platform, PlatformError, Platforms,
};
pub use instances::Instance;
pub use journal::JournalSettings;
pub use keys_set::keys_set;
pub use offline::OfflineSettings;
pub use otlp::OtlpSettings;
pub use patterns::Patterns;
pub use pins::{DailyWindow, Pin, WindowError};
pub use redis::RedisSettings;
pub use replication::{Placements, ReplicationSettings, Sweep};
pub use roots::{Roots, RootsError, roots, roots_of};
pub use settings::{Account, CacheSettings, NamedZone, Settings};
pub use summary::{Setting, Summary, ZoneSummary};
pub use tls::{TlsPair, TlsSettings};

/// Set in every container that Kubernetes starts.
const KUBERNETES_VARIABLE: &str = "KUBERNETES_SERVICE_HOST";

/// Kubernetes sends SIGTERM and removes the pod from its endpoints at the same time. The nodes learn of it some
/// seconds later, and send new connections until then.
const KUBERNETES_LAME_DUCK: Duration = Duration::from_secs(5);

/// Why a configuration was refused: where, why, and how to fix it. Retrying does not help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file or environment variable.
    origin: String,
    /// 1-based, if it is known.
    line: Option<u64>,
    message: String,
}

impl ConfigError {
    fn new(origin: &Path, line: Option<u64>, message: impl Into<String>) -> Self {
        Self { origin: origin.display().to_string(), line, message: message.into() }
    }

    fn variable(name: &str, message: &str) -> Self {
        Self { origin: format!("environment variable {name}"), line: None, message: message.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for ConfigError {}

/// Reads and checks the configuration at `path`. Environment variables of the process override its keys.
///
/// # Errors
/// A file cannot be read, a key is unknown or missing, a value is not valid, or two keys contradict each
/// other. The error names the line and the fix.
pub fn load(path: &Path) -> Result<Settings, ConfigError> {
    // A variable that is not UTF-8 is not one of the gateway's.
    let text =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    load_with(path, std::env::vars_os().filter_map(text))
}

/// Like [`load`], with the given environment variables. For tests.
///
/// # Errors
/// Like [`load`].
pub fn load_with(
    path: &Path,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Settings, ConfigError> {
    let variables: Vec<_> = variables.collect();
    let preference =
        variables.iter().find(|(name, _)| name == zones::PREFERENCE_VARIABLE).map(|(_, value)| value.clone());
    let proxy = proxy::ProxyVariables::of(&variables);
    let kubernetes = variables.iter().any(|(name, _)| name == KUBERNETES_VARIABLE);
    let mut file: file::ConfigFile = read_yaml(path, None)?;
    env::overlay(&mut file, variables.into_iter())?;
    let mut settings = settings::resolve(path, file, preference.as_deref(), &proxy)?;
    let lame_duck = if kubernetes { KUBERNETES_LAME_DUCK } else { Duration::ZERO };
    settings.timeouts.lame_duck.get_or_insert(lame_duck);
    Ok(settings)
}

/// Reads a YAML file. `named_at` is the line of the configuration that names it.
fn read_yaml<T: DeserializeOwned>(
    path: &Path,
    named_at: Option<(&Path, Option<u64>)>,
) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| match named_at {
        Some((origin, line)) => {
            ConfigError::new(origin, line, format!("cannot read {}: {error}", path.display()))
        }
        None => ConfigError::new(
            path,
            None,
            format!("cannot read the configuration: {error}; name it with --config"),
        ),
    })?;
    from_yaml(&text).map_err(|error| ConfigError::new(path, error.line, error.message))
}

/// Why a YAML text was refused. Repeats no value of the text, because it may hold secrets.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct YamlError {
    /// 1-based, if it is known.
    line: Option<u64>,
    message: String,
}

/// Parses YAML.
fn from_yaml<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| YamlError {
        line: error.location().map(|location| location.line()).filter(|line| *line > 0),
        message: yaml_error::reason(&error),
    })
}

#[cfg(test)]
mod secrets_tests;
#[cfg(test)]
mod tests;
