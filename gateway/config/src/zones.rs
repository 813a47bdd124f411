//! The zones, their order, and the target zones of copies.

use std::path::Path;

use super::ConfigError;
use super::file::{ConfigFile, RegistryKind};
use super::quay::QuayFile;
use super::settings::NamedZone;

/// Quay's environment variable for a site's order of zones. It overrides the file
/// (`app.py:apply_storage_replication_config`).
pub(super) const PREFERENCE_VARIABLE: &str = "QUAY_DISTRIBUTED_STORAGE_PREFERENCE";

/// Quay's key for the zones that every blob is copied to.
pub(super) const DEFAULT_LOCATIONS: &str = "DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS";

/// A site's order of zones. Some of the names may not be zones.
pub(super) struct Preference {
    /// The variable or key that sets it.
    pub(super) origin: &'static str,
    pub(super) names: Vec<String>,
}

impl Preference {
    /// The order from Quay's variable, or else from its key.
    pub(super) fn of(quay: &QuayFile, variable: Option<&str>) -> Self {
        match variable {
            Some(names) => Self {
                origin: PREFERENCE_VARIABLE,
                names: names.split_whitespace().map(str::to_owned).collect(),
            },
            None => Self { origin: "DISTRIBUTED_STORAGE_PREFERENCE", names: quay.preference.clone() },
        }
    }
}

/// All zones, home first.
///
/// # Errors
/// There is no zone, `home` is not one, or no zone can be used. A registry of kind `oci` has none, and must have none.
pub(super) fn zones(
    path: &Path,
    file: &ConfigFile,
    quay: &QuayFile,
    preference: &Preference,
) -> Result<Vec<NamedZone>, ConfigError> {
    let all = quay.storage.clone().overlaid(file.zones.clone());
    if file.registry.kind == RegistryKind::Oci {
        return match all.first() {
            None => Ok(Vec::new()),
            Some((name, _)) => Err(ConfigError::new(
                path,
                None,
                format!(
                    "zones: {name} is a zone, but the stores of a registry of kind oci are not known: remove the zones, \
                     or set registry.kind to quay or distribution, whose stores these are"
                ),
            )),
        };
    }
    if all.is_empty() {
        return Err(ConfigError::new(
            path,
            None,
            "no zone is known: set registry.config to Quay's config.yaml, whose DISTRIBUTED_STORAGE_CONFIG names \
             them, or list them under zones, each as NAME: [DRIVER, {PARAMETER: VALUE, …}]; if the registry's stores are not \
             known, set registry.kind to oci",
        ));
    }
    if let Some(home) = &file.home
        && !all.iter().any(|(name, _)| *name == home.value)
    {
        let known: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
        return Err(ConfigError::new(
            path,
            home.line,
            format!("home: there is no zone {}; zones are {}", home.value, known.join(", ")),
        ));
    }
    let home = file.home.as_ref().map(|home| home.value.clone());
    let mut zones: Vec<NamedZone> =
        all.into_iter().map(|(name, store)| NamedZone::new(name, store)).collect();
    let order = &preference.names;
    let place = |zone: &NamedZone| {
        let preferred = order.iter().position(|name| *name == zone.name).unwrap_or(order.len());
        (home.as_deref() != Some(zone.name.as_str()), preferred)
    };
    zones.sort_by_key(place);
    some_usable(path, &zones)?;
    Ok(zones)
}

fn some_usable(path: &Path, zones: &[NamedZone]) -> Result<(), ConfigError> {
    let reasons: Option<Vec<_>> = zones
        .iter()
        .map(|zone| zone.store.unusable().map(|reason| format!("zone {}: {reason}", zone.name)))
        .collect();
    match reasons {
        Some(reasons) => {
            Err(ConfigError::new(path, None, format!("no zone can be used: {}", reasons.join("; "))))
        }
        None => Ok(()),
    }
}

/// The zones to which every pushed blob is copied.
///
/// Quay's garbage collection must reach them, unless the operator accepts copies that it never removes. It
/// reaches copies that are recorded in Quay's database, by Quay's own replication or by the gateway.
pub(super) fn targets(
    file: &ConfigFile,
    quay: &QuayFile,
    zones: &[NamedZone],
    placements: bool,
) -> Vec<String> {
    let all = || zones.iter().map(|zone| zone.name.clone());
    match file.registry.kind {
        RegistryKind::Distribution => all().skip(1).collect(),
        RegistryKind::Quay if file.replication.accept_orphans => all().collect(),
        RegistryKind::Quay if quay.replication || placements => {
            all().filter(|name| quay.default_locations.contains(name)).collect()
        }
        RegistryKind::Quay | RegistryKind::Oci => Vec::new(),
    }
}
