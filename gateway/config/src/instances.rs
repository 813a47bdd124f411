//! The registry's instances: one at `registry.url`, or the Quays of all zones in `registry.instances`.

use std::path::Path;

use backends::nearest;
use url::Url;

use super::ConfigError;
use super::env::PREFIX;
use super::file::{File, InstanceEntry, RegistryKind};
use super::located::Located;
use super::settings::{NamedZone, without_port};

/// Instances at most: a request may try each of them, one after the other.
const INSTANCES_MAX: usize = 16;

/// One Quay of those that share a database, or the only registry.
#[derive(Debug, Clone)]
pub struct Instance {
    /// What tells it from the others: its zone's name, for a second one of that zone with `~2`.
    pub name: String,
    /// Where it is dialled.
    pub url: Url,
    /// The name in its certificate.
    pub server_name: String,
    /// The zone that its own preferred store is; home, where there is but one instance.
    pub zone: String,
}

/// An instance as it was written, its URL checked.
pub(super) struct Written {
    pub(super) url: Url,
    line: Option<u64>,
    zone: Option<Located<String>>,
    server_name: Option<String>,
}

/// What the file says of instances; never none.
pub(super) fn written(path: &Path, file: &File) -> Result<Vec<Written>, ConfigError> {
    let fail = |line: Option<u64>, message: String| ConfigError::new(path, line, message);
    let registry = &file.registry;
    let entries = match (&registry.url, &registry.instances) {
        (Some(url), None) => {
            let (line, url) = (url.line, checked_url(path, "registry.url", url)?);
            return Ok(vec![Written { url, line, zone: None, server_name: None }]);
        }
        (None, None) => {
            return Err(fail(
                None,
                "registry.url is missing: where the registry is dialled, such as https://quay.internal:8443; or \
                 list the Quays of all zones in registry.instances"
                    .into(),
            ));
        }
        (Some(url), Some(_)) => {
            let whence = match url.line {
                Some(_) => String::new(),
                None => format!(" (from {PREFIX}REGISTRY__URL)"),
            };
            return Err(fail(
                url.line,
                format!(
                    "registry.url{whence} and registry.instances are both given: remove registry.url where that \
                     Quay is among the instances, else add it to them with its zone"
                ),
            ));
        }
        (None, Some(entries)) => entries,
    };
    if registry.kind != RegistryKind::Quay {
        let why = "registry.instances are Quays that share one database, but registry.kind is not quay: set \
                   registry.url instead";
        return Err(fail(entries.line, why.into()));
    }
    if entries.value.is_empty() || entries.value.len() > INSTANCES_MAX {
        let count = entries.value.len();
        return Err(fail(
            entries.line,
            format!("registry.instances: {count} entries, not 1 to {INSTANCES_MAX}; each is {{url, zone}}"),
        ));
    }
    let mut all: Vec<Written> = Vec::new();
    for entry in &entries.value {
        let line = entry.url.as_ref().and_then(|url| url.line);
        let url = entry_url(path, entry, entries.line)?;
        if all.iter().any(|other| other.url == url) {
            return Err(fail(line, format!("registry.instances: {url} is there twice: remove one")));
        }
        let server_name = entry.server_name.as_ref().map(|name| name.value.clone());
        all.push(Written { url, line, zone: entry.zone.clone(), server_name });
    }
    Ok(all)
}

fn entry_url(path: &Path, entry: &InstanceEntry, list: Option<u64>) -> Result<Url, ConfigError> {
    match &entry.url {
        Some(url) => checked_url(path, "registry.instances: url", url),
        None => Err(ConfigError::new(
            path,
            entry.zone.as_ref().map_or(list, |zone| zone.line),
            "registry.instances: an entry has no url: where that Quay is dialled, such as https://quay-b.internal:8443",
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
            "must hold no path, query or credentials: a registry lives at the root of its host",
        ));
    }
    Ok(url)
}

/// The instances with their zones and names, in the order in which they are written.
pub(super) fn instances(
    path: &Path,
    file: &File,
    written: Vec<Written>,
    zones: &[NamedZone],
    registry_hostname: &str,
) -> Result<Vec<Instance>, ConfigError> {
    let listed = file.registry.instances.as_ref();
    let mut all: Vec<Instance> = Vec::new();
    for written in written {
        let Written { url, line, zone, server_name } = written;
        let zone = match (listed, zone) {
            // Its zone is home: it is this cluster's.
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
        let common = || match (&file.registry.server_name, file.registry.kind) {
            (Some(name), _) => name.value.clone(),
            (None, RegistryKind::Quay) => without_port(registry_hostname).to_owned(),
            (None, RegistryKind::Distribution) => url.host_str().unwrap_or_default().to_owned(),
        };
        let server_name = server_name.unwrap_or_else(common);
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
    let meant = match nearest(&zone.value, known()) {
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("zones are {}", known().collect::<Vec<_>>().join(", ")),
    };
    let why = format!("registry.instances: there is no zone {}; {meant}", zone.value);
    Err(ConfigError::new(path, zone.line, why))
}

/// The zone's name, with a number where another instance has it.
fn unused(zone: &str, others: &[Instance]) -> String {
    let mut name = zone.to_owned();
    let mut number = 1;
    while others.iter().any(|other| other.name == name) {
        number += 1;
        name = format!("{zone}~{number}");
    }
    name
}

/// What may not be meant so.
pub(super) fn warning(instances: &[Instance], zones: &[NamedZone]) -> Option<String> {
    let home = &zones.first()?.name;
    let first = instances.first().filter(|_| instances.iter().all(|instance| instance.zone != *home))?;
    Some(format!(
        "no instance in registry.instances has the home zone {home}: requests and pushes go to {} first; list \
         this zone's Quay, or set home",
        first.name
    ))
}
