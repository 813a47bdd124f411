//! The paths by which a blob can be read, and one read by one of them.

use std::sync::Arc;
use std::time::Duration;

use backends::{ByteStream, Hasher, Key};
use futures_util::StreamExt as _;
use http::HeaderValue;
use tokio::time::{Instant, timeout};
use zone_router::Zone;

use super::plan::ChosenBlob;
use super::read::{Read, ReadOutcome, Series};
use registry::{FetchedBlob, Origin, RegistryClient};

/// The timeout of a read is this, plus the blob's size divided by [`READ_RATE_MIN`].
const READ_MAX: Duration = Duration::from_secs(30);

/// The slowest accepted read, in bytes a second.
const READ_RATE_MIN: u64 = 256 << 10;

/// A path by which blobs are read.
pub(super) enum ReadPath {
    Zone(Zone),
    Registry(RegistryClient),
    Gateway(RegistryClient),
}

/// What a read needs to know.
pub(super) struct ReadRequest<'a> {
    pub(super) blob: &'a ChosenBlob,
    /// The key of the blob in a zone.
    pub(super) key: Key,
    pub(super) authorization: Option<HeaderValue>,
    /// The series to which the read belongs.
    pub(super) series: Series,
    pub(super) turn: u32,
}

/// What is known of a read so far. It stays known if the read times out.
#[derive(Default)]
struct PartialRead {
    first_byte: Option<Duration>,
    hasher: Hasher,
    source: Option<String>,
}

/// Why a blob cannot be opened.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    /// The zone's store failed.
    #[error(transparent)]
    Store(#[from] backends::Error),
    /// The registry or the gateway failed or refused.
    #[error("{0}")]
    Registry(String),
}

impl ReadPath {
    /// The name: that of the zone, `registry` or `gateway`.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Zone(zone) => &zone.name,
            Self::Registry(_) => "registry",
            Self::Gateway(_) => "gateway",
        }
    }

    /// The series of its reads, in the order of rows.
    pub(super) fn series(&self) -> Vec<Series> {
        match self {
            Self::Zone(zone) => vec![Series::Zone(Arc::clone(&zone.name))],
            Self::Registry(_) => vec![Series::Registry],
            Self::Gateway(_) => vec![Series::GatewayFirst, Series::GatewayLater],
        }
    }

    /// Reads a blob to its end and hashes every byte. Keeps no byte in memory.
    pub(super) async fn read(&self, request: &ReadRequest<'_>) -> Read {
        let start = Instant::now();
        let mut partial = PartialRead::default();
        let bound = bound(request.blob.size);
        let outcome = match timeout(bound, self.read_body(request, start, &mut partial)).await {
            Ok(outcome) => outcome,
            Err(_) => ReadOutcome::Failed(format!("not done within {} s", bound.as_secs())),
        };
        Read {
            series: request.series.clone(),
            class: request.blob.class,
            digest: request.blob.digest,
            turn: request.turn,
            first_byte: partial.first_byte,
            whole: start.elapsed(),
            bytes: partial.hasher.bytes(),
            outcome,
            source: partial.source,
        }
    }

    async fn read_body(
        &self,
        request: &ReadRequest<'_>,
        start: Instant,
        partial: &mut PartialRead,
    ) -> ReadOutcome {
        let mut body = match self.open(request).await {
            Ok(Some((body, source))) => {
                partial.source = source;
                body
            }
            Ok(None) => return ReadOutcome::Absent,
            Err(error) => return ReadOutcome::Failed(error.to_string()),
        };
        while let Some(piece) = body.next().await {
            match piece {
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => {
                    partial.first_byte.get_or_insert_with(|| start.elapsed());
                    partial.hasher.update(&piece);
                }
                Err(error) => return ReadOutcome::Failed(error.to_string()),
            }
        }
        match partial.hasher.clone().finish() == request.blob.digest {
            true => ReadOutcome::Right,
            false => ReadOutcome::Wrong,
        }
    }

    /// The blob's bytes, and their source if it is known: `Cache-Status`, or the host and port of a store.
    async fn open(
        &self,
        request: &ReadRequest<'_>,
    ) -> Result<Option<(ByteStream, Option<String>)>, OpenError> {
        let blob = request.blob;
        match self {
            Self::Zone(zone) => {
                let body = zone.store.get(&request.key, None).await?.map(|object| object.body);
                Ok(body.map(|body| (body, None)))
            }
            Self::Registry(client) | Self::Gateway(client) => {
                match client.blob(&blob.repository, &blob.digest, request.authorization.as_ref()).await {
                    Ok(FetchedBlob { body, from: Origin::Registry(cache_status), .. }) => {
                        Ok(Some((body, cache_status)))
                    }
                    Ok(FetchedBlob { body, from: Origin::Store(place), .. }) => Ok(Some((body, Some(place)))),
                    Err(error) => Err(OpenError::Registry(client.explain(error).await)),
                }
            }
        }
    }
}

/// The timeout of a read of this many bytes.
fn bound(size: Option<u64>) -> Duration {
    READ_MAX + Duration::from_secs(size.unwrap_or_default() / READ_RATE_MIN)
}

#[cfg(test)]
mod tests {
    use backends::faulty::{Fault, Faulty, On};
    use backends::memory::MemoryStore;
    use backends::{Digest, Store};
    use zone_router::SizeClass;

    use super::*;

    const BYTES: &[u8] = b"some bytes of a layer";

    fn key() -> Key {
        Key::new("layer")
    }

    fn holding(bytes: &'static [u8]) -> Arc<dyn Store> {
        let store = MemoryStore::new();
        store.insert(key(), bytes);
        Arc::new(store)
    }

    async fn read_from(store: Arc<dyn Store>) -> Read {
        let (digest, size) = (Digest::of(BYTES), Some(BYTES.len() as u64));
        let blob = ChosenBlob { repository: "a".into(), digest, size, class: SizeClass::Small };
        let series = Series::Zone("a".into());
        let request = ReadRequest { blob: &blob, key: key(), authorization: None, series, turn: 7 };
        ReadPath::Zone(Zone::new("a", store)).read(&request).await
    }

    #[tokio::test]
    async fn right_absent_and_wrong() {
        let right = read_from(holding(BYTES)).await;
        assert_eq!((&right.outcome, right.bytes, right.turn), (&ReadOutcome::Right, BYTES.len() as u64, 7));
        assert!(right.first_byte.is_some_and(|first| first <= right.whole));
        let absent = read_from(Arc::new(MemoryStore::new())).await;
        assert_eq!((absent.outcome, absent.first_byte), (ReadOutcome::Absent, None));
        assert_eq!(read_from(holding(b"some bytes of a liar!")).await.outcome, ReadOutcome::Wrong);
        let broken = Faulty::new(holding(BYTES));
        broken.always(On::Get, Fault::CutAfter(4));
        let broken = read_from(Arc::new(broken)).await;
        assert!(
            matches!(broken.outcome, ReadOutcome::Failed(_)) && broken.bytes == 4,
            "{:?}",
            broken.outcome
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_read_times_out() {
        let stalled = Faulty::new(holding(BYTES));
        stalled.always(On::Get, Fault::StallAfter(4));
        let read = read_from(Arc::new(stalled)).await;
        assert_eq!(read.outcome, ReadOutcome::Failed("not done within 30 s".into()));
        assert_eq!((read.bytes, read.whole), (4, READ_MAX));
        assert_eq!(bound(Some(READ_RATE_MIN * 10)), READ_MAX + Duration::from_secs(10));
    }
}
