//! Large objects as Quay writes them: segments in a folder of their own, and a Dynamic Large
//! Object of zero bytes that names the folder.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use http::HeaderName;
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;
use tokio::time::sleep;

use super::client::{Call, Client, Found};
use super::request::Folder;
use crate::persist::persist;
use crate::request_id::in_current_request;
use crate::upload::Upload;
use crate::{Error, Hasher, Key, Kind, Proof, Result, Source};

/// The most segments of one object: Swift joins those of one listing (10,000 names, by default)
/// and knows neither length nor ranges beyond.
const MAX_SEGMENTS: u64 = 9_999;

/// Names per page of a folder's listing.
const PAGE: usize = 1000;

/// Segments being removed at once.
const REMOVALS_IN_FLIGHT: usize = 8;

/// How often a listing is asked for before it must have all segments, and the pause between.
const LISTING_TRIES: u32 = 20;
const LISTING_PAUSE: Duration = Duration::from_millis(250);

/// Between the last bytes of what was given up and its removal.
const REMOVAL_PAUSE: Duration = Duration::from_millis(300);

/// The size of segments for an object of `size` bytes: `segment`, or more if they would be too
/// many; at most `limit`. `None` if it does not fit.
fn segment_size(size: u64, segment: u64, limit: u64) -> Option<u64> {
    let chosen = segment.min(limit).max(size.div_ceil(MAX_SEGMENTS)).max(1);
    (chosen <= limit).then_some(chosen)
}

/// Writes `source` in segments of `segment` bytes, or more, and removes those of the object that was
/// there.
///
/// The object appears by its manifest, and that is sent only after everything that was sent
/// matched the source's digest, and after the container lists it. From then on it is seen to its
/// end, whoever gives up waiting: nobody could say what to do with the segments.
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
    let mut started = Started { client: Arc::clone(client), folder, sent: 0, open: true };
    let (before, turn) = match started.write(&what, key, source, segment).await {
        Ok(written) => written,
        Err(error) => {
            started.remove().await;
            started.open = false;
            return Err(error);
        }
    };
    // From here on somebody may see them, whatever becomes of us or of the answer.
    started.open = false;
    let tidying = client.tidying.clone();
    let (name, key) = (what.clone(), key.clone());
    let publish = async move { started.publish(&what, &key, before, turn).await };
    let ended = tidying.spawn(in_current_request(publish)).await;
    ended.unwrap_or_else(|_| Err(cut(&name)))
}

/// Of a write whose last step was begun, and not seen to its end.
fn cut(what: &str) -> Error {
    Error::new(Kind::Unavailable, format!("{what}: cut at its manifest")).with_unknown_outcome()
}

/// What became of a manifest.
enum Declared {
    /// The object is there.
    Done,
    /// It is not, and will not be.
    Refused(Error),
    /// Nobody knows.
    Unknown(Error),
}

/// An object that was written, by what is seen of it.
pub(super) enum Made {
    /// In one request, of so many bytes.
    Whole(u64),
    /// In these segments.
    Segments(Folder),
}

impl Made {
    fn is(&self, client: &Client, found: &Found) -> bool {
        match self {
            Self::Whole(size) => found.manifest.is_none() && !found.is_static && found.meta.size == *size,
            Self::Segments(folder) => client.folder_of(Some(found)).as_ref() == Some(folder),
        }
    }
}

/// Segments that exist at the store, without an object.
struct Started {
    client: Arc<Client>,
    folder: Folder,
    /// How many were begun.
    sent: u64,
    open: bool,
}

impl Started {
    /// Writes all segments, and gives the folder of the object that is there so far, and the turn
    /// to declare another: so that of several writers here each knows what it replaces.
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
            // What the source died of is not mended by asking the store again.
            proof = persist(|| async {
                match self.send(&what, number, source, range.clone(), &proof).await {
                    Err(error) if error.kind() == Kind::Source => Ok(Err(error)),
                    sent => sent.map(Ok),
                }
            })
            .await??;
        }
        self.is_listed(what, source.size()).await?;
        let turn = Arc::clone(&self.client.declaring).lock_owned().await;
        let before = persist(|| self.client.find(what, key, true)).await?;
        Ok((self.client.folder_of(before.as_ref()), turn))
    }

    /// Sends one segment straight from the source, and gives the proof so far.
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
        // One proof a request: a body that was broken off may still be at its end when the next begins.
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

    /// Makes the object appear, and removes what it replaces: the segments of the object that was
    /// there. Its own stay once they may be in use, also where another writer wins: a look that is not of
    /// the newest would take them from under the object.
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
            Declared::Done => {
                remove_replaced(&self.client, key, before, &Made::Segments(self.folder.clone())).await;
                Ok(())
            }
            Declared::Unknown(error) => {
                tracing::warn!(%error, "whether an object was written is unknown; its segments stay");
                Err(error)
            }
            Declared::Refused(error) => {
                self.remove().await;
                Err(error)
            }
        }
    }

    /// Waits until the container's listing, by which Swift finds segments, has all of them.
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
    async fn declare(&self, what: &str, key: &Key) -> Declared {
        let name = HeaderName::from_static("x-object-manifest");
        let call = self.client.names.of(key).map(Call::put);
        let call = match call.and_then(|call| call.with_header(name, &self.folder.manifest())) {
            Ok(call) => call,
            Err(error) => return Declared::Refused(error),
        };
        // Of a try that broke off nobody knows what the server did, or will yet do.
        let broken = AtomicBool::new(false);
        let declared = persist(|| async {
            let sent = self.client.upload(what, &call, || async { Ok(Upload::pieces(vec![])) }).await;
            let in_doubt = |error: &Error| error.is_transient() || error.has_unknown_outcome();
            broken.fetch_or(sent.as_ref().is_err_and(in_doubt), Ordering::Relaxed);
            sent
        });
        let Err(error) = declared.await else { return Declared::Done };
        match self.client.find(what, key, true).await {
            Ok(found) if self.client.folder_of(found.as_ref()).as_ref() == Some(&self.folder) => {
                Declared::Done
            }
            Ok(_) if !broken.into_inner() => Declared::Refused(error),
            _ => Declared::Unknown(error.with_unknown_outcome()),
        }
    }

    /// Removes what was written, by name: the listing may not have it yet. What was being sent may
    /// still be landing, so it waits a little.
    async fn remove(&self) {
        sleep(REMOVAL_PAUSE).await;
        let names = (0..self.sent).map(|number| self.folder.segment(number)).collect();
        if let Err(error) = remove_all(&self.client, names).await {
            tracing::warn!(%error, "segments without an object stay behind");
        }
    }
}

impl Drop for Started {
    /// Whoever gave up waiting cannot remove them, so a task of its own does.
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

/// How many segments a folder has, and how many bytes.
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

/// Removes all, also after one failed; the first failure is the error.
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
/// Only once the object that took its place is seen there: Swift answers 202 to a PUT that it drops since
/// the object there is newer by its servers' clocks. What cannot be told for certain stays.
pub(super) async fn remove_replaced(client: &Client, key: &Key, replaced: Option<Folder>, made: &Made) {
    let Some(replaced) = replaced else { return };
    let removed = match client.find("look for the newest object", key, true).await {
        Ok(Some(newest)) if made.is(client, &newest) => remove_folder(client, &replaced).await,
        Ok(_) => {
            tracing::warn!(%key, "another object is seen than was written: the segments of the one before stay");
            return;
        }
        Err(error) => Err(error),
    };
    if let Err(error) = removed {
        tracing::warn!(%error, "segments of a replaced object stay behind");
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
