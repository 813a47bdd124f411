//! Which zones there are, in which order, and which of them get copies.

use std::path::Path;

use super::ConfigError;
use super::file::{File, RegistryKind};
use super::quay::QuayFile;
use super::settings::NamedZone;

/// Quay's own variable for a site's order of zones; it overrides the file
/// (`app.py:apply_storage_replication_config`).
pub(super) const PREFERENCE_VARIABLE: &str = "QUAY_DISTRIBUTED_STORAGE_PREFERENCE";

/// Quay's key for the zones that every blob is copied to.
pub(super) const DEFAULT_LOCATIONS: &str = "DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS";

/// A site's order of zones; some may be no zones at all.
pub(super) struct Preference {
    /// Where it stands.
    pub(super) origin: &'static str,
    pub(super) names: Vec<String>,
}

impl Preference {
    /// Quay's variable, if it is set, else its key.
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

/// All zones, home first; at least one is usable.
pub(super) fn zones(
    path: &Path,
    file: &File,
    quay: &QuayFile,
    preference: &Preference,
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
    let mut zones: Vec<NamedZone> = all.into_iter().map(|(name, store)| NamedZone { name, store }).collect();
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

/// The zones every pushed blob goes to: where Quay's own garbage collection reaches, unless the
/// operator accepts copies that it never removes. It reaches what Quay's database knows of: by Quay's
/// own replication, or because the gateway tells it.
pub(super) fn targets(file: &File, quay: &QuayFile, zones: &[NamedZone], placements: bool) -> Vec<String> {
    let all = || zones.iter().map(|zone| zone.name.clone());
    match file.registry.kind {
        RegistryKind::Distribution => all().skip(1).collect(),
        RegistryKind::Quay if file.replication.accept_orphans => all().collect(),
        RegistryKind::Quay if quay.replication || placements => {
            all().filter(|name| quay.default_locations.contains(name)).collect()
        }
        RegistryKind::Quay => Vec::new(),
    }
}
