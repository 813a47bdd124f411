//! Which zones there are, in which order, and which of them get copies.

use std::path::Path;

use super::ConfigError;
use super::file::{File, RegistryKind};
use super::quay::QuayFile;
use super::settings::NamedZone;

/// Quay's own variable for a site's order of zones; it overrides the file
/// (`app.py:apply_storage_replication_config`).
pub(super) const PREFERENCE_VARIABLE: &str = "QUAY_DISTRIBUTED_STORAGE_PREFERENCE";

/// All zones, home first.
pub(super) fn zones(
    path: &Path,
    file: &File,
    quay: &QuayFile,
    preference: Option<&str>,
) -> Result<Vec<NamedZone>, ConfigError> {
    let all = quay.storage.clone().overlaid(file.zones.clone());
    if all.is_empty() {
        return Err(ConfigError::new(
            path,
            None,
            "no zone is known: set registry.config to Quay's config.yaml (its \
            DISTRIBUTED_STORAGE_CONFIG names them), or list them under zones",
        ));
    }
    let order: Vec<String> = match preference {
        Some(names) => names.split_whitespace().map(str::to_owned).collect(),
        None => quay.preference.clone(),
    };
    let known = || all.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(home) = &file.home
        && !all.iter().any(|(name, _)| *name == home.value)
    {
        return Err(ConfigError::new(
            path,
            home.line,
            format!("home: there is no zone {}; zones are {}", home.value, known()),
        ));
    }
    if let Some(name) = order.iter().find(|name| !all.iter().any(|(known, _)| known == *name)) {
        let origin =
            if preference.is_some() { PREFERENCE_VARIABLE } else { "DISTRIBUTED_STORAGE_PREFERENCE" };
        return Err(ConfigError::new(
            path,
            None,
            format!("{origin} names zone {name}, which is not configured; zones are {}", known()),
        ));
    }
    let home = file.home.as_ref().map(|home| home.value.clone());
    let mut zones: Vec<NamedZone> = all.into_iter().map(|(name, store)| NamedZone { name, store }).collect();
    let place = |zone: &NamedZone| {
        let preferred = order.iter().position(|name| *name == zone.name).unwrap_or(order.len());
        (home.as_deref() != Some(zone.name.as_str()), preferred)
    };
    zones.sort_by_key(place);
    Ok(zones)
}

/// The zones every pushed blob goes to: where Quay's own garbage collection reaches, unless the
/// operator accepts copies that it never removes.
pub(super) fn targets(
    path: &Path,
    file: &File,
    quay: &QuayFile,
    zones: &[NamedZone],
) -> Result<Vec<String>, ConfigError> {
    let all = || zones.iter().map(|zone| zone.name.clone());
    match file.registry.kind {
        RegistryKind::Distribution => Ok(all().skip(1).collect()),
        RegistryKind::Quay if file.replication.accept_orphans => Ok(all().collect()),
        RegistryKind::Quay => {
            if let Some(name) = quay.default_locations.iter().find(|name| !all().any(|zone| zone == **name)) {
                return Err(ConfigError::new(
                    path,
                    None,
                    format!(
                        "DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS names zone {name}, which is not configured"
                    ),
                ));
            }
            Ok(all().filter(|name| quay.default_locations.contains(name)).collect())
        }
    }
}
