//! Configuration from environment variables, for containers.
//!
//! `registry.server_name` is `QUAY_GATEWAY__REGISTRY__SERVER_NAME`. Levels are joined by two underscores, so
//! that the variables that Kubernetes sets for a Service called `quay-gateway` (`QUAY_GATEWAY_PORT`, …) never
//! collide with them. Values are YAML.

use serde::de::DeserializeOwned;

use super::file::{ConfigFile, InstanceEntry};
use super::journal::JournalEntry;
use super::located::Located;
use super::{ConfigError, YamlError};

/// The prefix of every variable.
pub(crate) const PREFIX: &str = "QUAY_GATEWAY__";

/// Why a variable cannot be used.
#[derive(Debug, thiserror::Error)]
enum VariableError {
    #[error("no such key; levels are joined by two underscores, as in QUAY_GATEWAY__REGISTRY__URL")]
    UnknownKey,
    #[error(transparent)]
    Value(#[from] YamlError),
}

/// Overrides keys of the file with the variables.
///
/// # Errors
/// A variable with the prefix names no key, or its value is not valid.
pub(crate) fn overlay(
    file: &mut ConfigFile,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<(), ConfigError> {
    let mut variables: Vec<_> = variables.collect();
    // Sorted, so that a variable for a whole group comes before the variables for its keys.
    variables.sort();
    for (name, value) in variables {
        if let Some(key) = name.strip_prefix(PREFIX) {
            set_key(file, key, &value).map_err(|error| ConfigError::variable(&name, &error.to_string()))?;
        }
    }
    Ok(())
}

fn set_key(file: &mut ConfigFile, key: &str, value: &str) -> Result<(), VariableError> {
    let set = match key {
        "LISTEN" => set_option(&mut file.listen, value),
        "HOSTNAME" => set(&mut file.hostname, value),
        "TLS__CERTIFICATE" => set(&mut file.tls.certificate, value),
        "TLS__KEY" => set(&mut file.tls.key, value),
        "STATE_DIR" => set(&mut file.state_dir, value),
        "JOURNAL" => set(&mut file.journal, value),
        "JOURNAL__URL_FILE" => set_url_file(&mut file.journal, value),
        "REGISTRY__KIND" => set_plain(&mut file.registry.kind, value),
        "REGISTRY__URL" => set(&mut file.registry.url, value),
        "REGISTRY__INSTANCES" => set_instances(&mut file.registry.instances, value),
        "REGISTRY__SERVER_NAME" => set(&mut file.registry.server_name, value),
        "REGISTRY__FORWARD_HEADERS" => set(&mut file.registry.forward_headers, value),
        "REGISTRY__REDIRECTS_TO" => set(&mut file.registry.redirects_to, value),
        "REGISTRY__ACCOUNT__USERNAME" => set(&mut file.registry.account.username, value),
        "REGISTRY__ACCOUNT__PASSWORD_FILE" => set(&mut file.registry.account.password_file, value),
        "REGISTRY__CONFIG" => set(&mut file.registry.config, value),
        "HOME" => set(&mut file.home, value),
        "CA" => set(&mut file.ca, value),
        "ZONES" => set_plain(&mut file.zones, value),
        "CACHE__DIR" => set(&mut file.cache.dir, value),
        "CACHE__SIZE" => set(&mut file.cache.size, value),
        "CACHE__RESERVE" => set_option(&mut file.cache.reserve, value),
        "ADMIN__LISTEN" => set_option(&mut file.admin.listen, value),
        "ADMIN__HOSTS" => set(&mut file.admin.hosts, value),
        "ADMIN__TOKEN_FILE" => set(&mut file.admin.token_file, value),
        "TRUSTED_PROXIES" => set(&mut file.trusted_proxies, value),
        "REPLICATION__ACCEPT_ORPHANS" => set_plain(&mut file.replication.accept_orphans, value),
        "REPLICATION__VERIFY" => set_plain(&mut file.replication.verify, value),
        "REPLICATION__LIMITS" => set_plain(&mut file.replication.limits, value),
        "REPLICATION__PLACEMENTS" => set(&mut file.replication.placements, value),
        "REPLICATION__DATABASE" => set(&mut file.replication.database, value),
        "REPLICATION__DATABASE__URL_FILE" => set_url_file(&mut file.replication.database, value),
        "REPLICATION__QUAY_LOCK" => set(&mut file.replication.quay_lock, value),
        "REPLICATION__FETCH_MAX" => set_option(&mut file.replication.fetch_max, value),
        "REPLICATION__SWEEP" => set_plain(&mut file.replication.sweep, value),
        "ROUTING" => set_plain(&mut file.routing, value),
        "LIMITS" => set_plain(&mut file.limits, value),
        "TIMEOUTS" => set_plain(&mut file.timeouts, value),
        _ => set_bound(file, key, value).ok_or(VariableError::UnknownKey)?,
    };
    Ok(set?)
}

/// Sets one bound. `None` if there is none of this name.
fn set_bound(file: &mut ConfigFile, key: &str, value: &str) -> Option<Result<(), YamlError>> {
    match key.split_once("__") {
        Some(("LIMITS", key)) => file.limits.set(key, value),
        Some(("TIMEOUTS", key)) => file.timeouts.set(key, value),
        Some(("ROUTING", key)) => file.routing.set(key, value),
        Some(("REPLICATION", key)) => {
            key.strip_prefix("SWEEP__").and_then(|key| file.replication.sweep.set(key, value))
        }
        _ => None,
    }
}

fn set<T: DeserializeOwned>(slot: &mut Option<Located<T>>, value: &str) -> Result<(), YamlError> {
    *slot = Some(Located { value: parse(value)?, line: None });
    Ok(())
}

fn set_instances(slot: &mut Option<Located<Vec<InstanceEntry>>>, value: &str) -> Result<(), YamlError> {
    set(slot, value)?;
    // The line numbers are those of the variable, not of the file.
    for entry in slot.iter_mut().flat_map(|list| &mut list.value) {
        for key in [&mut entry.url, &mut entry.zone, &mut entry.server_name].into_iter().flatten() {
            key.line = None;
        }
    }
    Ok(())
}

fn set_url_file(slot: &mut Option<Located<JournalEntry>>, value: &str) -> Result<(), YamlError> {
    *slot = Some(Located { value: JournalEntry::UrlFile(parse(value)?), line: None });
    Ok(())
}

fn set_option<T: DeserializeOwned>(slot: &mut Option<T>, value: &str) -> Result<(), YamlError> {
    *slot = Some(parse(value)?);
    Ok(())
}

fn set_plain<T: DeserializeOwned>(slot: &mut T, value: &str) -> Result<(), YamlError> {
    *slot = parse(value)?;
    Ok(())
}

fn parse<T: DeserializeOwned>(value: &str) -> Result<T, YamlError> {
    super::from_yaml(value)
}
