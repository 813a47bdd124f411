//! What can be built from a configuration alone: zones and the transport to their stores.

use std::sync::Arc;

use backends::Transport;
use zone_router::Zone;

use crate::{NamedZone, Settings};

/// No zone of the configuration can be used. The message names the reason for each. Retrying does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no zone can be used: {0}")]
pub struct NoUsableZone(String);

/// Builds every zone of the configuration, in order. A zone that cannot be used is in the list with its
/// reason, and does not stop the others.
///
/// # Errors
/// There are zones, and none can be used.
pub fn zones(settings: &Settings, transport: &Transport) -> Result<Vec<Zone>, NoUsableZone> {
    zones_after(settings, transport, |_| None)
}

/// Like [`zones`], for a later configuration. A zone for which `before` has one that was built already is not built
/// again.
///
/// # Errors
/// No zone can be used.
pub fn zones_after(
    settings: &Settings,
    transport: &Transport,
    before: impl Fn(&NamedZone) -> Option<Zone>,
) -> Result<Vec<Zone>, NoUsableZone> {
    let build = |named: &NamedZone| before(named).unwrap_or_else(|| zone(named, transport));
    let zones: Vec<_> = settings.zones.iter().map(build).collect();
    if !zones.is_empty() && zones.iter().all(|zone| zone.unusable.is_some()) {
        let reasons: Vec<_> = zones.iter().filter_map(unusable).collect();
        return Err(NoUsableZone(reasons.join("; ")));
    }
    Ok(zones)
}

fn zone(named: &NamedZone, transport: &Transport) -> Zone {
    match named.store.build(transport) {
        Ok(store) => Zone::new(&named.name, store),
        // The configuration's own reason is clearer than the error that wraps it.
        Err(error) => match named.store.unusable() {
            Some(reason) => Zone::unusable(&named.name, reason),
            None => Zone::unusable(&named.name, &error.to_string()),
        },
    }
}

/// The message for a zone that cannot be used. `None` if it can be used.
#[must_use]
pub fn unusable(zone: &Zone) -> Option<String> {
    let reason = zone.unusable.as_deref()?;
    Some(format!("zone {} cannot be used: {reason}", zone.name))
}

/// How the gateway connects to every store: with this TLS configuration, the timeouts `timeouts.zone_*`, and through
/// `proxy` where it is meant.
#[must_use]
pub fn transport(settings: &Settings, tls: Arc<rustls::ClientConfig>) -> Transport {
    let timeouts = &settings.timeouts;
    let timeouts = backends::Timeouts {
        connect: timeouts.zone_connect,
        first_byte: timeouts.zone_first_byte,
        stall: timeouts.zone_stall,
    };
    Transport { proxies: Arc::clone(&settings.proxies), ..Transport::new(tls, timeouts) }
}
