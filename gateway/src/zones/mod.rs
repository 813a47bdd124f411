//! Zones as they can be built (one that cannot be used does not stop the others), what operators
//! say of them, and what they are shown.

mod report;
mod table;
mod word;

use anyhow::bail;
use backends::Transport;
use zone_router::Zone;

pub(crate) use self::report::state;
pub use self::report::{ClassReport, CountsReport, Report, ZoneReport};
pub use self::table::table;
pub(crate) use self::word::{Word, WordError};
use crate::config::{NamedZone, Settings};

/// Every zone of the configuration in its order, the unusable with their reason.
///
/// # Errors
/// None of them can be used: what is wrong with each.
pub(crate) fn build(settings: &Settings, transport: &Transport) -> anyhow::Result<Vec<Zone>> {
    let zones: Vec<_> = settings.zones.iter().map(|named| zone(named, transport)).collect();
    if zones.iter().all(|zone| zone.unusable.is_some()) {
        let reasons: Vec<_> = zones.iter().filter_map(unusable).collect();
        bail!("no zone can be used: {}", reasons.join("; "));
    }
    Ok(zones)
}

fn zone(named: &NamedZone, transport: &Transport) -> Zone {
    match named.store.build(transport) {
        Ok(store) => Zone::new(&named.name, store),
        // What it says of itself is in better words than the error around it.
        Err(error) => match named.store.unusable() {
            Some(reason) => Zone::unusable(&named.name, reason),
            None => Zone::unusable(&named.name, &error.to_string()),
        },
    }
}

/// What is said of a zone that cannot be used.
pub(crate) fn unusable(zone: &Zone) -> Option<String> {
    let reason = zone.unusable.as_deref()?;
    Some(format!("zone {} cannot be used: {reason}", zone.name))
}
