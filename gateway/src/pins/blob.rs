//! Brings one blob of a pinned image into the cache.

use std::sync::Arc;

use backends::in_current_request;
use blob_cache::{Follower, Lookup, NoFill, Writer};
use futures_util::StreamExt as _;
use limits::memory::{BLOB_READ, Use};
use limits::pool::Identity;
use registry::service_account::Reader;
use registry::{FetchedBlob, LocalBlob};
use zone_router::{NotOpened, Verified};

use super::pace::Pace;
use crate::Gateway;

/// How often a blob is tried if a fill breaks.
const TRIES: usize = 3;

/// Brings a blob into the cache, unless it is there: from the zones, or else from the registry. The bytes are verified.
///
/// # Errors
/// Nobody gives the blob, or the cache does not keep it.
pub(super) async fn keep_blob(
    gateway: &Arc<Gateway>,
    reader: &Reader,
    repository: &str,
    blob: &LocalBlob,
    pace: &Pace,
) -> Result<(), String> {
    let mut why = String::new();
    for _ in 0..TRIES {
        let followed = match gateway.cache.lookup(&Identity::GATEWAY, &blob.digest).await {
            Lookup::Hit(_) => return Ok(()),
            Lookup::Bypass(bypass) => return Err(not_kept(bypass.reason().as_str())),
            Lookup::Join(join) => join.follow().await,
            Lookup::Fill(writer, join) => {
                let body = match open(gateway, reader, repository, blob).await {
                    Ok(body) => body,
                    Err(why) => {
                        writer.not_opened(NotOpened { answers: Vec::new() });
                        return Err(why);
                    }
                };
                let pace = pace.clone();
                start(writer, body.paced(move |bytes| pace.after(bytes)));
                join.follow().await
            }
        };
        let ended = match followed {
            Ok(follower) => to_the_end(follower).await,
            Err(NoFill::Bypass(bypass)) => return Err(not_kept(bypass.reason().as_str())),
            Err(NoFill::NotOpened(error)) => Err(format!("no zone gives it: {error}")),
            Err(NoFill::Broken(error)) => Err(error.to_string()),
        };
        match ended {
            // Its file gets its place after its last byte, and a full disk may prevent that: the next lookup tells.
            Ok(()) => why = "the cache's disk does not keep it".to_owned(),
            Err(error) => why = error,
        }
    }
    match gateway.cache.holds(&blob.digest) {
        true => Ok(()),
        false => Err(why),
    }
}

fn not_kept(reason: &str) -> String {
    format!("the cache does not keep it: {reason}")
}

fn start(writer: Writer, body: Verified) {
    let abandoned = writer.abandoned();
    let filling = async move {
        tokio::select! {
            // Followers learn why it is not kept.
            _ = writer.fill(body, "pin".into()) => {}
            () = abandoned => tracing::debug!("the pin and every client left: the fill ends"),
        }
    };
    tokio::spawn(in_current_request(filling));
}

async fn to_the_end(follower: Follower) -> Result<(), String> {
    let size = follower.size();
    let mut behind = Box::pin(follower.into_stream(0..size));
    while let Some(piece) = behind.next().await {
        piece.map_err(|_| "its source or the cache's disk failed".to_owned())?;
    }
    Ok(())
}

/// Opens the blob in the best zone that has it, or else through the registry.
async fn open(
    gateway: &Gateway,
    reader: &Reader,
    repository: &str,
    blob: &LocalBlob,
) -> Result<Verified, String> {
    let memory = gateway.memory.reserve(Use::Blobs, None, BLOB_READ);
    let memory = memory.ok_or("limits.memory has no room")?;
    let body = match gateway.router.open(&gateway.blob(blob.digest), blob.size).await {
        Ok(reading) => reading.body,
        Err(zones) => {
            let fetched = reader.blob(repository, &blob.digest).await;
            let FetchedBlob { body, size, .. } = fetched
                .map_err(|error| format!("no zone gives it ({zones}), nor does the registry: {error}"))?;
            Verified::hashing(body, blob.digest, size.or(blob.size))
        }
    };
    Ok(body.holding(memory))
}
