//! Parts that are built from a configuration alone.

use std::sync::Arc;

use backends::Transport;
use zone_router::Zone;

use crate::{NamedZone, Settings};

/// No zone of the configuration can be used: what is wrong with each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no zone can be used: {0}")]
pub struct NoUsableZone(String);

/// Every zone of the configuration in its order. A zone that cannot be used does not stop the others: it
/// stands in the list with its reason.
///
/// # Errors
/// None of them can be used.
pub fn zones(settings: &Settings, transport: &Transport) -> Result<Vec<Zone>, NoUsableZone> {
    let zones: Vec<_> = settings.zones.iter().map(|named| zone(named, transport)).collect();
    if zones.iter().all(|zone| zone.unusable.is_some()) {
        let reasons: Vec<_> = zones.iter().filter_map(unusable).collect();
        return Err(NoUsableZone(reasons.join("; ")));
    }
    Ok(zones)
}

fn zone(named: &NamedZone, transport: &Transport) -> Zone {
    match named.store.build(transport) {
        Ok(store) => Zone::new(&named.name, store),
        // The store's own reason is in better words than the error around it.
        Err(error) => match named.store.unusable() {
            Some(reason) => Zone::unusable(&named.name, reason),
            None => Zone::unusable(&named.name, &error.to_string()),
        },
    }
}

/// What is said of a zone that cannot be used; `None` if it can.
#[must_use]
pub fn unusable(zone: &Zone) -> Option<String> {
    let reason = zone.unusable.as_deref()?;
    Some(format!("zone {} cannot be used: {reason}", zone.name))
}

/// How every store is dialled: with this TLS policy, within `timeouts.zone_*`.
#[must_use]
pub fn transport(settings: &Settings, tls: Arc<rustls::ClientConfig>) -> Transport {
    let timeouts = &settings.timeouts;
    let timeouts = backends::Timeouts {
        connect: timeouts.zone_connect,
        first_byte: timeouts.zone_first_byte,
        stall: timeouts.zone_stall,
    };
    Transport::new(tls, timeouts)
}
