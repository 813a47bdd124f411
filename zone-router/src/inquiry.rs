//! Where several zones gave parts of wrong bytes: which of them lied.

use std::time::Duration;

use backends::{Hasher, Kind, Result};
use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::board::DEEP_PROBE_MAX;
use crate::observation::Seen;
use crate::{Blob, Router, Zone, ZoneId};

/// How long the client, whose answer is lost anyway, waits for it: its next try is then right.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a zone gives when it is asked for all of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gives {
    Right,
    Wrong,
    /// Nothing, a part, or more than is read for this.
    Unknown,
}

/// Reads a blob whole in each of these zones. Who gives wrong bytes is condemned for it; then those
/// that give the right ones are cleared. Where nobody does, one that lies now and then may be among
/// them: all stay behind the others.
pub(crate) async fn inquire(router: &Router, blob: &Blob, zones: &[ZoneId]) {
    let look = |zone: &ZoneId| {
        let store = router.zone(*zone);
        async move { timeout(PATIENCE, gives(store, blob)).await.unwrap_or(Gives::Unknown) }
    };
    let found = join_all(zones.iter().map(look)).await;
    let found_one = found.contains(&Gives::Wrong);
    for (zone, gives) in zones.iter().zip(found) {
        match gives {
            Gives::Wrong => {
                tracing::error!(zone = %router.zone(*zone).name, digest = %blob.digest, "it was this zone that gave wrong bytes");
                router.suspects.condemn(&blob.digest, *zone);
                router.watch.saw(*zone, Seen::WrongBytes);
            }
            Gives::Right if found_one => router.suspects.acquit(&blob.digest, &[*zone], false),
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

/// Reads all of a small blob and proves it; `false` if it is not there or not small.
///
/// # Errors
/// As the store's; [`Kind::Corrupt`] if the bytes are wrong.
pub(crate) async fn read_whole(zone: &Zone, blob: &Blob) -> Result<bool> {
    let Some(mut object) = zone.store.get(&blob.key, None).await? else { return Ok(false) };
    // The zone's own word: what others said of the size may be the lie.
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
        // It may have broken off.
        (false, None) => Ok(false),
        (false, Some(_)) => {
            let why = format!("get {}: after {bytes} bytes the digest is another", blob.key);
            Err(backends::Error::new(Kind::Corrupt, why))
        }
    }
}
