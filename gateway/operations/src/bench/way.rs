//! The ways by which a blob can be read, and one read by one of them.

use std::sync::Arc;
use std::time::Duration;

use backends::{ByteStream, Hasher, Key};
use futures_util::StreamExt as _;
use http::HeaderValue;
use tokio::time::{Instant, timeout};
use zone_router::Zone;

use super::plan::Chosen;
use super::read::{Outcome, Read, Series};
use registry::{FetchedBlob, Origin, RegistryClient};

/// What any read may take.
const READ_MAX: Duration = Duration::from_secs(30);

/// Below this many bytes a second, on top of that, a read has failed.
const SLOWEST: u64 = 256 << 10;

/// What is read, and how.
pub(super) enum Way {
    Zone(Zone),
    Registry(RegistryClient),
    Gateway(RegistryClient),
}

/// What all reads need to know.
pub(super) struct Asking<'a> {
    pub(super) blob: &'a Chosen,
    /// Where a zone keeps it.
    pub(super) key: Key,
    pub(super) authorization: Option<HeaderValue>,
    /// Which series it counts for.
    pub(super) series: Series,
    pub(super) turn: u32,
}

/// What is known of a read that is not over yet, and stays known if it never is.
#[derive(Default)]
struct Seen {
    first_byte: Option<Duration>,
    hasher: Hasher,
    told: Option<String>,
}

impl Way {
    /// Its name where it is not a zone's: `registry` or `gateway`.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Zone(zone) => &zone.name,
            Self::Registry(_) => "registry",
            Self::Gateway(_) => "gateway",
        }
    }

    /// What its reads count for, in the order of rows.
    pub(super) fn series(&self) -> Vec<Series> {
        match self {
            Self::Zone(zone) => vec![Series::Zone(Arc::clone(&zone.name))],
            Self::Registry(_) => vec![Series::Registry],
            Self::Gateway(_) => vec![Series::GatewayFirst, Series::GatewayLater],
        }
    }

    /// Reads a blob to its end and looks at every byte of it; holds none.
    pub(super) async fn read(&self, asking: &Asking<'_>) -> Read {
        let start = Instant::now();
        let mut seen = Seen::default();
        let bound = bound(asking.blob.size);
        let outcome = match timeout(bound, self.follow(asking, start, &mut seen)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Failed(format!("not done within {} s", bound.as_secs())),
        };
        Read {
            series: asking.series.clone(),
            class: asking.blob.class,
            digest: asking.blob.digest,
            turn: asking.turn,
            first_byte: seen.first_byte,
            whole: start.elapsed(),
            bytes: seen.hasher.bytes(),
            outcome,
            told: seen.told,
        }
    }

    async fn follow(&self, asking: &Asking<'_>, start: Instant, seen: &mut Seen) -> Outcome {
        let mut body = match self.open(asking).await {
            Ok(Some((body, told))) => {
                seen.told = told;
                body
            }
            Ok(None) => return Outcome::Absent,
            Err(why) => return Outcome::Failed(why),
        };
        while let Some(piece) = body.next().await {
            match piece {
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => {
                    seen.first_byte.get_or_insert_with(|| start.elapsed());
                    seen.hasher.update(&piece);
                }
                Err(error) => return Outcome::Failed(error.to_string()),
            }
        }
        match seen.hasher.clone().finish() == asking.blob.digest {
            true => Outcome::Right,
            false => Outcome::Wrong,
        }
    }

    /// The blob's bytes, and what is told of where they come from: `Cache-Status`, or a store's host and port.
    async fn open(&self, asking: &Asking<'_>) -> Result<Option<(ByteStream, Option<String>)>, String> {
        let blob = asking.blob;
        match self {
            Self::Zone(zone) => {
                let found = zone.store.get(&asking.key, None).await;
                let body = found.map_err(|error| error.to_string())?.map(|object| object.body);
                Ok(body.map(|body| (body, None)))
            }
            Self::Registry(client) | Self::Gateway(client) => {
                match client.blob(&blob.repository, &blob.digest, asking.authorization.as_ref()).await {
                    Ok(FetchedBlob { body, from: Origin::Registry(cache_status), .. }) => {
                        Ok(Some((body, cache_status)))
                    }
                    Ok(FetchedBlob { body, from: Origin::Store(place), .. }) => Ok(Some((body, Some(place)))),
                    Err(error) => Err(client.explain(error).await),
                }
            }
        }
    }
}

/// How long a read of so many bytes may take.
fn bound(size: Option<u64>) -> Duration {
    READ_MAX + Duration::from_secs(size.unwrap_or_default() / SLOWEST)
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
        let blob = Chosen { repository: "a".into(), digest, size, class: SizeClass::Small };
        let series = Series::Zone("a".into());
        let asking = Asking { blob: &blob, key: key(), authorization: None, series, turn: 7 };
        Way::Zone(Zone::new("a", store)).read(&asking).await
    }

    #[tokio::test]
    async fn right_absent_and_wrong() {
        let right = read_from(holding(BYTES)).await;
        assert_eq!((&right.outcome, right.bytes, right.turn), (&Outcome::Right, BYTES.len() as u64, 7));
        assert!(right.first_byte.is_some_and(|first| first <= right.whole));
        let absent = read_from(Arc::new(MemoryStore::new())).await;
        assert_eq!((absent.outcome, absent.first_byte), (Outcome::Absent, None));
        assert_eq!(read_from(holding(b"some bytes of a liar!")).await.outcome, Outcome::Wrong);
        let broken = Faulty::new(holding(BYTES));
        broken.always(On::Get, Fault::CutAfter(4));
        let broken = read_from(Arc::new(broken)).await;
        assert!(matches!(broken.outcome, Outcome::Failed(_)) && broken.bytes == 4, "{:?}", broken.outcome);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_stalls_is_bounded() {
        let stalled = Faulty::new(holding(BYTES));
        stalled.always(On::Get, Fault::StallAfter(4));
        let read = read_from(Arc::new(stalled)).await;
        assert_eq!(read.outcome, Outcome::Failed("not done within 30 s".into()));
        assert_eq!((read.bytes, read.whole), (4, READ_MAX));
        assert_eq!(bound(Some(SLOWEST * 10)), READ_MAX + Duration::from_secs(10));
    }
}
