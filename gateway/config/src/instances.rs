//! The registry's instances: one at `registry.url`, or the Quay instances of all zones in
//! `registry.instances`.

use std::path::Path;

use backends::nearest;
use url::Url;

use super::ConfigError;
use super::env::PREFIX;
use super::file::{ConfigFile, InstanceEntry, RegistryKind};
use super::hostnames::without_port;
use super::located::Located;
use super::settings::NamedZone;

/// The most instances. A request may try each of them, one after the other.
const INSTANCES_MAX: usize = 16;

/// One of several Quay instances that share a database, or the only instance of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// A unique name: its zone's, with `~2` for the second instance of a zone.
    pub name: String,
    /// The URL at which the gateway connects to it.
    pub url: Url,
    /// The name in its certificate.
    pub server_name: String,
    /// The zone that it prefers. If there is only one instance, the home zone.
    pub zone: String,
}

/// An instance from the file, with its URL checked.
pub(super) struct ParsedInstance {
    pub(super) url: Url,
    line: Option<u64>,
    zone: Option<Located<String>>,
    server_name: Option<String>,
}

/// The instances in the file, in order; at least one.
///
/// # Errors
/// None or too many are configured, both `url` and `instances` are, or a URL is not valid or is there twice.
pub(super) fn parsed(path: &Path, file: &ConfigFile) -> Result<Vec<ParsedInstance>, ConfigError> {
    let fail = |line: Option<u64>, message: String| ConfigError::new(path, line, message);
    let registry = &file.registry;
    let entries = match (&registry.url, &registry.instances) {
        (Some(url), None) => {
            let (line, url) = (url.line, checked_url(path, "registry.url", url)?);
            return Ok(vec![ParsedInstance { url, line, zone: None, server_name: None }]);
        }
        (None, None) => {
            return Err(fail(
                None,
                "registry.url is missing: set it to the registry's address, such as https://quay.internal:8443, or \
                 list the Quay instances of all zones in registry.instances"
                    .into(),
            ));
        }
        (Some(url), Some(_)) => {
            let origin = match url.line {
                Some(_) => String::new(),
                None => format!(" (from {PREFIX}REGISTRY__URL)"),
            };
            return Err(fail(
                url.line,
                format!(
                    "registry.url{origin} and registry.instances are both given: remove registry.url if that \
                     Quay is among the instances; otherwise add it to them with its zone"
                ),
            ));
        }
        (None, Some(entries)) => entries,
    };
    if registry.kind != RegistryKind::Quay {
        let why = "registry.instances are Quay instances that share one database, but registry.kind is not quay: \
                   set registry.url instead";
        return Err(fail(entries.line, why.into()));
    }
    if entries.value.is_empty() || entries.value.len() > INSTANCES_MAX {
        let count = entries.value.len();
        return Err(fail(
            entries.line,
            format!(
                "registry.instances: {count} entries, but 1 to {INSTANCES_MAX} are allowed; each is {{url, zone}}"
            ),
        ));
    }
    let mut all: Vec<ParsedInstance> = Vec::new();
    for entry in &entries.value {
        let line = entry.url.as_ref().and_then(|url| url.line);
        let url = entry_url(path, entry, entries.line)?;
        if all.iter().any(|other| other.url == url) {
            return Err(fail(line, format!("registry.instances: {url} is there twice: remove one")));
        }
        let server_name = entry.server_name.as_ref().map(|name| name.value.clone());
        all.push(ParsedInstance { url, line, zone: entry.zone.clone(), server_name });
    }
    Ok(all)
}

fn entry_url(path: &Path, entry: &InstanceEntry, list: Option<u64>) -> Result<Url, ConfigError> {
    match &entry.url {
        Some(url) => checked_url(path, "registry.instances: url", url),
        None => Err(ConfigError::new(
            path,
            entry.zone.as_ref().map_or(list, |zone| zone.line),
            "registry.instances: an entry has no url: set it to that Quay's address, such as https://quay-b.internal:8443",
        )),
    }
}

fn checked_url(path: &Path, key: &str, located: &Located<String>) -> Result<Url, ConfigError> {
    let fail = |why: &str| ConfigError::new(path, located.line, format!("{key}: {why}"));
    let url: Url = located.value.parse().map_err(|error| fail(&format!("not a URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(fail("must be http://host[:port] or https://host[:port]"));
    }
    if url.path() != "/" || url.query().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err(fail(
            "must hold no path, query or credentials: a registry is always at the root of its host",
        ));
    }
    Ok(url)
}

/// Completes the instances with their zones and names. Keeps their order.
///
/// # Errors
/// An instance has no zone, or there is no zone of that name.
pub(super) fn instances(
    path: &Path,
    file: &ConfigFile,
    parsed: Vec<ParsedInstance>,
    zones: &[NamedZone],
    registry_hostname: &str,
) -> Result<Vec<Instance>, ConfigError> {
    let listed = file.registry.instances.as_ref();
    let mut all: Vec<Instance> = Vec::new();
    for parsed in parsed {
        let ParsedInstance { url, line, zone, server_name } = parsed;
        let zone = match (listed, zone) {
            // The only instance is in this cluster, so its zone is home.
            (None, _) => zones.first().map(|zone| zone.name.clone()).unwrap_or_default(),
            (Some(_), Some(zone)) => known_zone(path, &zone, zones)?,
            (Some(_), None) => {
                let why = format!(
                    "registry.instances: {url} has no zone: name the one that this Quay prefers \
                     (DISTRIBUTED_STORAGE_PREFERENCE in its environment or config.yaml)"
                );
                return Err(ConfigError::new(path, line, why));
            }
        };
        let default_name = || match (&file.registry.server_name, file.registry.kind) {
            (Some(name), _) => name.value.clone(),
            (None, RegistryKind::Quay) => without_port(registry_hostname).to_owned(),
            (None, RegistryKind::Distribution | RegistryKind::Oci) => {
                url.host_str().unwrap_or_default().to_owned()
            }
        };
        let server_name = server_name.unwrap_or_else(default_name);
        let name = unused(&zone, &all);
        all.push(Instance { name, url, server_name, zone });
    }
    Ok(all)
}

fn known_zone(path: &Path, zone: &Located<String>, zones: &[NamedZone]) -> Result<String, ConfigError> {
    let known = || zones.iter().map(|zone| zone.name.as_str());
    if known().any(|name| name == zone.value) {
        return Ok(zone.value.clone());
    }
    let suggestion = match nearest(&zone.value, known()) {
        Some(suggestion) => format!("did you mean {suggestion}?"),
        None => format!("zones are {}", known().collect::<Vec<_>>().join(", ")),
    };
    let why = format!("registry.instances: there is no zone {}; {suggestion}", zone.value);
    Err(ConfigError::new(path, zone.line, why))
}

/// The zone's name, with a number if another instance has that name.
fn unused(zone: &str, others: &[Instance]) -> String {
    let mut name = zone.to_owned();
    let mut number = 1;
    while others.iter().any(|other| other.name == name) {
        number += 1;
        name = format!("{zone}~{number}");
    }
    name
}

/// A warning if no instance is in the home zone.
pub(super) fn warning(instances: &[Instance], zones: &[NamedZone]) -> Option<String> {
    let home = &zones.first()?.name;
    let first = instances.first().filter(|_| instances.iter().all(|instance| instance.zone != *home))?;
    Some(format!(
        "no instance in registry.instances has the home zone {home}: requests and pushes go to {} first; add \
         this zone's Quay, or set home",
        first.name
    ))
}
