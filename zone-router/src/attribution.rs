//! Finds out which zone gave wrong bytes, if several zones gave parts of a blob.

use backends::{Hasher, Kind, Result};
use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::event::BodyEvent;
use crate::table::DEEP_PROBE_MAX;
use crate::{Blob, Router, Zone, ZoneId};

/// The result of reading a whole blob from a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gives {
    Right,
    Wrong,
    /// The zone gave nothing or only a part, or the blob is too large to be read for this.
    Unknown,
}

/// Reads the whole blob from each of these zones. If a zone gives wrong bytes, it is quarantined for the blob, and the
/// zones that give the right ones are cleared. If none gives wrong bytes now, one of them may do so only sometimes.
/// Then all of them stay suspect.
pub(crate) async fn attribute(router: &Router, blob: &Blob, zones: &[ZoneId]) {
    // The client waits for this. Its present answer has failed already, and its next attempt gets the right bytes. The
    // wait for headers is never longer than half of this.
    let patience = 2 * router.settings.overdue_max;
    let look = |zone: &ZoneId| {
        let store = router.zone(*zone);
        async move { timeout(patience, gives(store, blob)).await.unwrap_or(Gives::Unknown) }
    };
    let found = join_all(zones.iter().map(look)).await;
    let found_one = found.contains(&Gives::Wrong);
    for (zone, gives) in zones.iter().zip(found) {
        match gives {
            Gives::Wrong => {
                tracing::error!(zone = %router.zone(*zone).name, digest = %blob.digest, "it was this zone that gave wrong bytes");
                router.quarantine.add(&blob.digest, *zone);
                router.watch.saw(*zone, BodyEvent::WrongBytes);
            }
            Gives::Right if found_one => router.quarantine.clear(&blob.digest, &[*zone], false),
            Gives::Right | Gives::Unknown => {}
        }
    }
}

async fn gives(zone: &Zone, blob: &Blob) -> Gives {
    match read_whole(zone, blob).await {
        Ok(true) => Gives::Right,
        Err(error) if error.kind() == Kind::Corrupt => Gives::Wrong,
        Ok(false) | Err(_) => Gives::Unknown,
    }
}

/// Reads the whole of a small blob and proves it. Returns `false` if the zone does not have it, or if it is not small.
///
/// # Errors
/// The error of the store, or [`Kind::Corrupt`] if the bytes are wrong.
pub(crate) async fn read_whole(zone: &Zone, blob: &Blob) -> Result<bool> {
    let Some(mut object) = zone.store.get(&blob.key, None).await? else { return Ok(false) };
    // This uses the size that the zone states, because a size that somebody else stated may be wrong.
    if object.size.is_some_and(|size| size > DEEP_PROBE_MAX) {
        return Ok(false);
    }
    let mut hasher = Hasher::new();
    while let Some(piece) = object.body.next().await {
        hasher.update(&piece?);
        if hasher.bytes() > DEEP_PROBE_MAX {
            return Ok(false);
        }
    }
    let bytes = hasher.bytes();
    match (hasher.finish() == blob.digest, object.size) {
        (true, _) => Ok(true),
        // The body may have broken off.
        (false, None) => Ok(false),
        (false, Some(_)) => {
            let why = format!("get {}: after {bytes} bytes the digest is another", blob.key);
            Err(backends::Error::new(Kind::Corrupt, why))
        }
    }
}
