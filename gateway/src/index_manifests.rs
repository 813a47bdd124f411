//! Finds the blobs of the manifests that a pushed index names. The client need not push these manifests
//! itself.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backends::Digest;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use moka::sync::Cache;
use tokio::time::{Instant, timeout_at};

use crate::request::Client;
use limits::memory::{Memory, Reservation, Use};
use limits::pool::{Pool, Slot};
use registry::service_account::{ReadError, Reader};
use registry::{LocalBlob, children, local_blobs};

/// Manifests that are fetched at once for one push.
const AT_ONCE: usize = 3;

/// Pushes for which manifests are fetched at once, over all clients. Each may hold [`MEMORY`]. A network that comes with
/// new connections may hold 31 times the slots that are free, so with fewer slots one client could hold all of them.
const PUSHES_AT_ONCE: usize = 32;

/// The name of these slots in the error of a client that gets none.
const SLOTS: &str = "slots for pushes of indexes";

/// The timeout for all manifests of one push. The client waits for its 201 meanwhile.
const FETCH_TIMEOUT: Duration = Duration::from_secs(8);

/// Manifests that are fetched for one push. An index of all platforms has one or two dozen, and as many
/// attestations.
const COUNT_MAX: usize = 256;

/// The total size of these manifests in bytes.
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// The memory for manifests that are fetched at once, in bytes: 4 MiB each, which is the default of
/// `limits.manifest`. One of them is parsed at a time, to at most twice its bytes.
const MEMORY: u64 = (AT_ONCE as u64 + 2) * 4 * 1024 * 1024;

/// The total number of blobs that these manifests name.
const BLOBS_MAX: usize = 20_000;

/// The depth to which indexes in indexes are followed.
const DEPTH_MAX: usize = 3;

/// How many manifests are remembered whose blobs were queued here, and for how long.
const QUEUED_MAX: u64 = 10_000;
const QUEUED_MEMORY: Duration = Duration::from_secs(3600);

/// Manifests whose blobs were queued when they were pushed. They need not be fetched again for their index.
#[derive(Debug)]
pub(crate) struct QueuedManifests {
    manifests: Cache<(String, Digest), ()>,
    /// One slot for each push for which manifests are fetched.
    slots: Arc<Pool>,
    /// Whether the log already says that the manifests of indexes are not looked for.
    logged: AtomicBool,
}

/// The result of fetching an index's manifests.
#[derive(Debug, Default)]
pub(crate) struct FoundBlobs {
    /// The local blobs of the manifests. A blob that several of them name occurs several times.
    pub(crate) blobs: Vec<LocalBlob>,
    /// What could not be fetched, and why.
    pub(crate) missing: Vec<String>,
}

impl QueuedManifests {
    pub(crate) fn new() -> Self {
        let manifests = Cache::builder().max_capacity(QUEUED_MAX).time_to_live(QUEUED_MEMORY).build();
        Self { manifests, slots: Pool::fixed(SLOTS, PUSHES_AT_ONCE, 0), logged: AtomicBool::new(false) }
    }

    /// Records that the blobs of this manifest of this repository are in the journal.
    pub(crate) fn note(&self, repository: &str, manifest: &[u8]) {
        self.manifests.insert((repository.to_owned(), Digest::of(manifest)), ());
    }

    fn has(&self, repository: &str, digest: &Digest) -> bool {
        self.manifests.contains_key(&(repository.to_owned(), *digest))
    }

    /// Reserves a slot and memory for one more push. The error says why there is none.
    fn reserve(&self, memory: &Memory, client: &Client) -> Result<FetchPermit, String> {
        let slot = self.slots.try_take(&client.identity).map_err(|problem| problem.message)?;
        let held = memory.reserve(Use::Manifests, Some(client.holder()), MEMORY);
        Ok((slot, held.ok_or("limits.memory has no room for this client")?))
    }

    /// The blobs of the manifests that an index names, directly or through another index. Empty if the
    /// manifest is not an index. The blobs of a manifest that names more than `limit` of them are left out.
    /// Takes 8 s at most, and memory from the client's share. If there is no slot or no memory, it does not
    /// wait.
    pub(crate) async fn children(
        &self,
        reader: Option<&Reader>,
        (memory, client): (&Memory, &Client),
        repository: &str,
        manifest: &[u8],
        limit: usize,
    ) -> FoundBlobs {
        let unknown = |digest: &Digest| !self.has(repository, digest);
        let first: Vec<_> = children(manifest).unwrap_or_default().into_iter().filter(unknown).collect();
        if first.is_empty() {
            return FoundBlobs::default();
        }
        let Some(reader) = reader else {
            if !self.logged.swap(true, Ordering::Relaxed) {
                tracing::info!(
                    repository,
                    "an index is pushed whose manifests did not come this way: without registry.account their blobs \
                     are not looked for; that is said once"
                );
            }
            return FoundBlobs::default();
        };
        let _permit = match self.reserve(memory, client) {
            Ok(permit) => permit,
            Err(why) => return FoundBlobs { missing: vec![why], ..FoundBlobs::default() },
        };
        let deadline = Instant::now() + FETCH_TIMEOUT;
        let fetch = |digest: Digest| async move {
            match timeout_at(deadline, reader.manifest(repository, &digest.to_string())).await {
                Ok(manifest) => (digest, manifest),
                Err(_) => (
                    digest,
                    Err(ReadError::Busy(format!("it was not fetched within {} s", FETCH_TIMEOUT.as_secs()))),
                ),
            }
        };
        let mut gathered = Gathered::default();
        let mut level = first;
        for _ in 0..DEPTH_MAX {
            level.retain(|digest| unknown(digest) && gathered.admits(digest));
            let mut fetched = stream::iter(std::mem::take(&mut level)).map(fetch).buffer_unordered(AT_ONCE);
            while let Some((digest, manifest)) = fetched.next().await {
                level.extend(gathered.take(&digest, manifest, limit));
            }
            if level.is_empty() {
                return gathered.found;
            }
        }
        gathered.found.missing.push(format!("indexes are nested more than {DEPTH_MAX} deep"));
        gathered.found
    }
}

/// What a push holds while its manifests are fetched.
type FetchPermit = (Slot, Reservation);

/// Each blob once, in the order of first occurrence, because images of one index share layers. If several
/// occurrences have a size, the first one counts.
pub(crate) fn distinct(blobs: Vec<LocalBlob>) -> Vec<LocalBlob> {
    let mut at: HashMap<Digest, usize> = HashMap::new();
    let mut distinct: Vec<LocalBlob> = Vec::new();
    for blob in blobs {
        match at.get(&blob.digest).and_then(|at| distinct.get_mut(*at)) {
            Some(known) => known.size = known.size.or(blob.size),
            None => {
                at.insert(blob.digest, distinct.len());
                distinct.push(blob);
            }
        }
    }
    distinct
}

/// What was fetched so far.
#[derive(Default)]
struct Gathered {
    found: FoundBlobs,
    manifests: HashSet<Digest>,
    bytes: usize,
}

impl Gathered {
    /// Whether one more manifest may be fetched.
    fn admits(&mut self, digest: &Digest) -> bool {
        let full = self.bytes >= BYTES_MAX || self.found.blobs.len() >= BLOBS_MAX;
        if full || self.manifests.len() == COUNT_MAX {
            self.found
                .missing
                .push(format!("{digest}: the limit of manifests, blobs or bytes for one push is reached"));
            return false;
        }
        self.manifests.insert(*digest)
    }

    /// Takes a fetched manifest. Returns the manifests that it names.
    fn take(&mut self, digest: &Digest, manifest: Result<Bytes, ReadError>, limit: usize) -> Vec<Digest> {
        let read = match manifest {
            Ok(manifest) => {
                self.bytes += manifest.len();
                local_blobs(&manifest).and_then(|blobs| Ok((blobs, children(&manifest)?)))
            }
            // An index may be pushed without all of its manifests.
            Err(ReadError::Absent(_)) => return Vec::new(),
            Err(error) => {
                self.found.missing.push(format!("{digest}: {error}"));
                return Vec::new();
            }
        };
        match read {
            Ok((blobs, _)) if blobs.len() > limit => {
                let blobs = blobs.len();
                self.found
                    .missing
                    .push(format!("{digest}: {blobs} blobs, and limits.manifest_blobs is {limit}"));
                Vec::new()
            }
            Ok((blobs, children)) => {
                self.found.blobs.extend(blobs);
                children
            }
            Err(error) => {
                self.found.missing.push(format!("{digest}: it cannot be parsed: {error}"));
                Vec::new()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use registry::GatewayName;

    use super::*;

    #[test]
    fn a_blob_that_several_name_is_queued_once() {
        let blob = |name: &str, size| LocalBlob { digest: Digest::of(name.as_bytes()), size };
        let all = vec![blob("a", None), blob("b", Some(2)), blob("a", Some(1)), blob("b", Some(3))];
        assert_eq!(distinct(all), [blob("a", Some(1)), blob("b", Some(2))]);
    }

    fn client(address: u8, connection: u64) -> Client {
        let dialled = GatewayName::new("edge.example.com").expect("a name");
        Client::of_request([192, 0, 2, address].into(), connection, &HeaderMap::new(), &[], dialled)
    }

    #[test]
    fn no_client_has_all_the_memory() {
        let (queued, memory) = (QueuedManifests::new(), Memory::new(MEMORY * 8));
        let held: Vec<_> = (0..100).map_while(|at| queued.reserve(&memory, &client(1, at)).ok()).collect();
        assert!((1..8).contains(&held.len()), "{} of 8", held.len());
        assert!(queued.reserve(&memory, &client(1, 100)).is_err_and(|why| why.contains("limits.memory")));
        assert!(queued.reserve(&memory, &client(2, 101)).is_ok());
    }

    #[test]
    fn no_client_has_all_the_slots() {
        let (queued, memory) = (QueuedManifests::new(), Memory::new(MEMORY * 1000));
        for connections in [1, 4, 1000] {
            let pushes = (0..1000).map(|at| queued.reserve(&memory, &client(1, at % connections)));
            let held: Vec<_> = pushes.map_while(Result::ok).collect();
            assert!((1..PUSHES_AT_ONCE).contains(&held.len()), "{} with {connections}", held.len());
            let refused = queued.reserve(&memory, &client(1, 0)).expect_err("it has its share");
            assert!(refused.contains("its share"), "{refused}");
            assert!(queued.reserve(&memory, &client(2, 1001)).is_ok(), "{connections}");
        }
    }

    #[test]
    fn fetches_for_one_push_are_bounded() {
        let mut gathered = Gathered::default();
        let digest = |at: usize| Digest::of(&at.to_le_bytes());
        assert!((0..COUNT_MAX).all(|at| gathered.admits(&digest(at))));
        assert!(!gathered.admits(&digest(COUNT_MAX)) && gathered.found.missing.len() == 1);
        let mut gathered = Gathered::default();
        assert!(gathered.admits(&digest(0)) && !gathered.admits(&digest(0)));
        let index = format!(r#"{{"manifests": [{{"digest": "{}"}}]}}"#, digest(1));
        assert_eq!(gathered.take(&digest(0), Ok(index.into()), 9), [digest(1)]);
        assert!(gathered.take(&digest(1), Err(ReadError::Absent("404".into())), 9).is_empty());
        assert!(gathered.found.missing.is_empty());
        gathered.take(&digest(2), Err(ReadError::Busy("503".into())), 9);
        gathered.take(&digest(3), Ok("no manifest".into()), 9);
        assert_eq!(gathered.found.missing.len(), 2);
        let image =
            format!(r#"{{"layers": [{{"digest": "{}"}}, {{"digest": "{}"}}]}}"#, digest(5), digest(6));
        gathered.take(&digest(4), Ok(image.clone().into()), 1);
        assert!(
            gathered.found.blobs.is_empty()
                && gathered.found.missing[2].contains("limits.manifest_blobs is 1")
        );
        gathered.take(&digest(4), Ok(image.into()), 2);
        assert_eq!((gathered.found.blobs.len(), gathered.found.missing.len()), (2, 3));
        gathered.bytes = BYTES_MAX;
        assert!(!gathered.admits(&digest(4)));
    }
}
