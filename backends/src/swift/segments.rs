//! Large objects in Quay's form: segments in a folder, and a Dynamic Large Object of zero bytes that names
//! the folder.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use http::HeaderName;
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;
use tokio::time::sleep;

use super::call::Call;
use super::client::{Client, Found};
use super::request::Folder;
use crate::error::DROPPED;
use crate::persist::persist;
use crate::request_id::in_current_request;
use crate::upload::Upload;
use crate::{Error, Hasher, Key, Kind, Proof, Result, Source};

/// The maximum number of segments of one object. Swift joins the segments of one listing (10,000 names by
/// default). Beyond that it reports neither length nor ranges.
const MAX_SEGMENTS: u64 = 9_999;

/// Names per page of a folder's listing.
const PAGE: usize = 1000;

/// Segments that are removed at once.
const REMOVALS_IN_FLIGHT: usize = 8;

/// How often a listing is read until it must contain all segments, and the pause between two reads.
const LISTING_TRIES: u32 = 20;
const LISTING_PAUSE: Duration = Duration::from_millis(250);

/// The pause between the last bytes of a cancelled write and the removal of its segments.
const REMOVAL_PAUSE: Duration = Duration::from_millis(300);

/// The segment size for an object of `size` bytes: `segment`, or more if there would be too many segments,
/// but at most `limit`. `None` if the object is too large.
fn segment_size(size: u64, segment: u64, limit: u64) -> Option<u64> {
    let chosen = segment.min(limit).max(size.div_ceil(MAX_SEGMENTS)).max(1);
    (chosen <= limit).then_some(chosen)
}

/// Writes `source` in segments of at least `segment` bytes, and removes the segments of the object that it
/// replaces.
///
/// The manifest makes the object visible. It is sent only after all bytes that were sent match the source's
/// digest, and after the container lists all segments. From then on the write runs to its end even if the
/// caller is cancelled. Otherwise nobody would know whether the segments are in use.
pub(super) async fn put(
    client: &Arc<Client>,
    key: &Key,
    source: &Source,
    segment: u64,
    limit: u64,
) -> Result<()> {
    let what = format!("put {key}");
    let segment = segment_size(source.size(), segment, limit).ok_or_else(|| {
        Error::new(Kind::Invalid, format!("{what}: larger than {MAX_SEGMENTS} segments of {limit} bytes"))
    })?;
    let folder = client.names.new_folder();
    let mut started = SegmentedWrite { client: Arc::clone(client), folder, sent: 0, open: true };
    let (before, turn) = match started.write(&what, key, source, segment).await {
        Ok(written) => written,
        Err(error) => {
            started.remove().await;
            started.open = false;
            return Err(error);
        }
    };
    // From here on the segments may be in use, whatever happens to this task or to the answer.
    started.open = false;
    let tidying = client.tidying.clone();
    let (name, key) = (what.clone(), key.clone());
    let publish = async move { started.publish(&what, &key, before, turn).await };
    let ended = tidying.spawn(in_current_request(publish)).await;
    ended.unwrap_or_else(|_| Err(interrupted(&name)))
}

/// The error of a write whose manifest was sent, but whose result was not received.
fn interrupted(what: &str) -> Error {
    Error::new(Kind::Unavailable, format!("{what}: interrupted while its manifest was written"))
        .with_unknown_outcome()
}

/// The result of writing a manifest.
enum ManifestOutcome {
    /// The object is visible.
    Done,
    /// The object is not visible, and will not become visible.
    Refused(Error),
    /// The outcome is unknown.
    Unknown(Error),
}

/// The form of an object that was written, to compare it with the visible one.
pub(super) enum WrittenForm {
    /// Written in one request, with this many bytes.
    Whole(u64),
    /// Written in these segments.
    Segments(Folder),
}

impl WrittenForm {
    fn is(&self, client: &Client, found: &Found) -> bool {
        match self {
            Self::Whole(size) => found.manifest.is_none() && !found.is_static && found.meta.size == *size,
            Self::Segments(folder) => client.folder_of(Some(found)).as_ref() == Some(folder),
        }
    }
}

/// Segments that exist at the store and do not belong to an object yet.
struct SegmentedWrite {
    client: Arc<Client>,
    folder: Folder,
    /// How many segments were started.
    sent: u64,
    open: bool,
}

impl SegmentedWrite {
    /// Writes all segments. Returns the folder of the present object, and the lock for writing a manifest.
    /// The lock makes sure that each of several writers in this process knows which object it replaces.
    async fn write(
        &mut self,
        what: &str,
        key: &Key,
        source: &Source,
        segment: u64,
    ) -> Result<(Option<Folder>, OwnedMutexGuard<()>)> {
        let mut proof = Proof::new(source.digest(), source.size(), Hasher::new());
        while !proof.is_complete()? {
            let start = source.size() - proof.missing();
            let range = start..source.size().min(start + segment);
            let number = self.sent;
            self.sent += 1;
            let what = format!("{what}, segment {number}");
            // A retry does not help if the source failed.
            proof = persist(|| async {
                match self.send(&what, number, source, range.clone(), &proof).await {
                    Err(error) if error.kind() == Kind::Source => Ok(Err(error)),
                    sent => sent.map(Ok),
                }
            })
            .await??;
        }
        self.is_listed(what, source.size()).await?;
        let turn = Arc::clone(&self.client.manifest_lock).lock_owned().await;
        let before = persist(|| self.client.find(what, key, true)).await?;
        Ok((self.client.folder_of(before.as_ref()), turn))
    }

    /// Streams one segment from the source, and returns the updated proof.
    async fn send(
        &self,
        what: &str,
        number: u64,
        source: &Source,
        range: Range<u64>,
        proof: &Proof,
    ) -> Result<Proof> {
        let call = Call::put(self.folder.segment(number));
        let timeouts = self.client.http.timeouts();
        // Each request has its own proof, because the body of an aborted request may still be active when the
        // next one starts.
        let seen = Mutex::new(None);
        let open = || async {
            let (upload, fresh) = Upload::part(source, range.clone(), proof.clone(), &timeouts).await?;
            *seen.lock() = Some(fresh);
            Ok(upload)
        };
        self.client.upload(what, &call, open).await?;
        let seen = seen.into_inner();
        Ok(seen.map_or_else(|| proof.clone(), |seen| seen.proof()))
    }

    /// Makes the object visible and removes the segments of the object that it replaces. The object's own
    /// segments are kept if they may be in use, even if another writer wins: an outdated view of the store
    /// could otherwise remove the segments of the visible object.
    async fn publish(
        self,
        what: &str,
        key: &Key,
        before: Option<Folder>,
        turn: OwnedMutexGuard<()>,
    ) -> Result<()> {
        let declared = self.declare(what, key).await;
        drop(turn);
        match declared {
            ManifestOutcome::Done => {
                remove_replaced(&self.client, key, before, &WrittenForm::Segments(self.folder.clone())).await;
                Ok(())
            }
            ManifestOutcome::Unknown(error) => {
                tracing::warn!(%error, "it is unknown whether an object was written; its segments stay");
                Err(error)
            }
            ManifestOutcome::Refused(error) => {
                self.remove().await;
                Err(error)
            }
        }
    }

    /// Waits until the container's listing contains all segments. Swift uses that listing to find them.
    async fn is_listed(&self, what: &str, size: u64) -> Result<()> {
        for attempt in 0..LISTING_TRIES {
            if attempt > 0 {
                sleep(LISTING_PAUSE).await;
            }
            let listed = persist(|| sizes(&self.client, &self.folder)).await?;
            if listed == (self.sent, size) {
                return Ok(());
            }
        }
        Err(Error::new(Kind::Unavailable, format!("{what}: the container does not list all segments")))
    }

    /// Writes the manifest.
    async fn declare(&self, what: &str, key: &Key) -> ManifestOutcome {
        let name = HeaderName::from_static("x-object-manifest");
        let call = self.client.names.of(key).map(Call::put);
        let call = match call.and_then(|call| call.with_header(name, &self.folder.manifest())) {
            Ok(call) => call,
            Err(error) => return ManifestOutcome::Refused(error),
        };
        // If a try broke off, it is unknown what the server did or will do.
        let broken = AtomicBool::new(false);
        let declared = persist(|| async {
            let sent = self.client.upload(what, &call, || async { Ok(Upload::pieces(vec![])) }).await;
            let in_doubt = |error: &Error| {
                error.code() != Some(DROPPED) && (error.is_transient() || error.has_unknown_outcome())
            };
            broken.fetch_or(sent.as_ref().is_err_and(in_doubt), Ordering::Relaxed);
            sent
        });
        let Err(error) = declared.await else { return ManifestOutcome::Done };
        match self.client.find(what, key, true).await {
            Ok(found) if self.client.folder_of(found.as_ref()).as_ref() == Some(&self.folder) => {
                ManifestOutcome::Done
            }
            Ok(_) if !broken.into_inner() => ManifestOutcome::Refused(error),
            _ => ManifestOutcome::Unknown(error.with_unknown_outcome()),
        }
    }

    /// Removes the segments by their names, because the listing may not contain them yet. A segment may still
    /// be in flight, so this waits a moment first.
    async fn remove(&self) {
        sleep(REMOVAL_PAUSE).await;
        let names = (0..self.sent).map(|number| self.folder.segment(number)).collect();
        if let Err(error) = remove_all(&self.client, names).await {
            tracing::warn!(%error, "segments without an object could not be removed");
        }
    }
}

impl Drop for SegmentedWrite {
    /// If the caller is cancelled, a new task removes the segments.
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (client, folder) = (Arc::clone(&self.client), self.folder.clone());
        let abandoned = Self { client, folder, sent: self.sent, open: false };
        let tidying = self.client.tidying.clone();
        tidying.spawn_on(in_current_request(async move { abandoned.remove().await }), &runtime);
    }
}

/// How many segments a folder has, and how many bytes in all.
async fn sizes(client: &Client, folder: &Folder) -> Result<(u64, u64)> {
    let (mut count, mut bytes, mut marker) = (0, 0, None::<String>);
    loop {
        let page = client.page(&folder.prefix(), marker.as_deref(), PAGE).await?;
        for (_, size) in &page.names {
            count += 1;
            bytes += size;
        }
        marker = page.last();
        if marker.is_none() {
            return Ok((count, bytes));
        }
    }
}

/// Removes a folder's segments, page by page.
pub(super) async fn remove_folder(client: &Client, folder: &Folder) -> Result<()> {
    let mut marker = None::<String>;
    loop {
        let page = client.page(&folder.prefix(), marker.as_deref(), PAGE).await?;
        marker = page.last();
        if marker.is_none() {
            return Ok(());
        }
        remove_all(client, page.names.into_iter().map(|(name, _)| name).collect()).await?;
    }
}

/// Removes all names, even if one removal fails. The first failure is the error.
async fn remove_all(client: &Client, names: Vec<String>) -> Result<()> {
    let removals: Vec<Result<()>> = stream::iter(names)
        .map(|name| async move { persist(|| client.remove("remove a segment", &name)).await })
        .buffer_unordered(REMOVALS_IN_FLIGHT)
        .collect()
        .await;
    removals.into_iter().collect()
}

/// Removes the segments of an object that was replaced.
///
/// This happens only if the new object is visible. Swift answers 202 to a PUT that it drops because the
/// existing object is newer by the clocks of its servers. If the outcome is not certain, the segments stay.
pub(super) async fn remove_replaced(
    client: &Client,
    key: &Key,
    replaced: Option<Folder>,
    made: &WrittenForm,
) {
    let Some(replaced) = replaced else { return };
    let removed = match client.find("look for the newest object", key, true).await {
        Ok(Some(newest)) if made.is(client, &newest) => remove_folder(client, &replaced).await,
        Ok(_) => {
            tracing::warn!(%key, "another object is visible than the one that was written; the segments of the replaced object stay");
            return;
        }
        Err(error) => Err(error),
    };
    if let Err(error) = removed {
        tracing::warn!(%error, "segments of a replaced object could not be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn segments_are_never_too_many_nor_too_large(
            size in 0..60_u64 << 40, segment in 1..1_u64 << 33, limit in 1..1_u64 << 33,
        ) {
            match segment_size(size, segment, limit) {
                Some(chosen) => {
                    proptest::prop_assert!(chosen <= limit && chosen > 0);
                    proptest::prop_assert!(size.div_ceil(chosen) <= MAX_SEGMENTS);
                    proptest::prop_assert!(chosen >= segment.min(limit));
                }
                None => proptest::prop_assert!(size.div_ceil(limit) > MAX_SEGMENTS),
            }
        }
    }
}
