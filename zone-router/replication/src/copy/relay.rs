//! One blob's bytes out of several places that have it: where one breaks off, the next goes on.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use backends::{ByteStream, Digest, Error, Key, Kind, Open, Source, Store};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::time::{sleep, timeout};
use zone_router::Zone;

use super::super::pace::Pace;

/// How often a place may fail, …
const FAILURES: u8 = 2;

/// … unless it has given so many bytes since: a large blob over a line that breaks now and then.
const FORGIVEN: u64 = 16 << 20;

/// Before a place that failed is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// Where a blob may be read.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) name: Arc<str>,
    pub(super) way: Way,
}

/// How it is read there.
#[derive(Debug, Clone)]
pub(super) enum Way {
    /// An object under the blob's key.
    Object(Arc<dyn Store>),
    /// Anything else that opens.
    Source(Source),
}

/// Zones as places to read; those that are unusable are none.
pub(super) fn origins<'a>(zones: &'a [&Zone]) -> impl Iterator<Item = Origin> + 'a {
    zones
        .iter()
        .filter(|zone| zone.unusable.is_none())
        .map(|zone| Origin { name: Arc::clone(&zone.name), way: Way::Object(Arc::clone(&zone.store)) })
}

/// What became of a place.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Failures that count.
    failed: u8,
    /// Bytes that it gave since it last failed.
    since: u64,
    /// Bytes that it gave.
    gave: u64,
    /// What it said last when it failed.
    pub(super) error: Option<Error>,
    /// It has no such object, or another one: no failure, and not asked again.
    absent: bool,
}

impl Record {
    /// Whether any of its bytes were taken.
    pub(super) fn took_part(&self) -> bool {
        self.gave > 0
    }
}

/// The places and what became of each.
pub(super) struct Relay {
    key: Key,
    size: u64,
    stall: Duration,
    pace: Arc<Pace>,
    origins: Vec<Origin>,
    records: Mutex<Vec<Record>>,
    /// The whole, opened ahead of whoever reads it.
    opened: Mutex<Option<(usize, ByteStream)>>,
}

impl Relay {
    /// The blob of `size` bytes under `key`, from the first of `origins` that gives it. A place
    /// that gives nothing for `stall` in the middle of a body has broken off.
    pub(super) fn new(
        key: Key,
        size: u64,
        origins: Vec<Origin>,
        pace: Arc<Pace>,
        stall: Duration,
    ) -> Arc<Self> {
        let records = Mutex::new(origins.iter().map(|_| Record::default()).collect());
        Arc::new(Self { key, size, stall, pace, origins, records, opened: Mutex::default() })
    }

    /// The blob's size, bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// What a `put` reads.
    pub(super) fn source(self: &Arc<Self>, digest: Digest) -> Source {
        Source::new(self.size, digest, Arc::new(Opener(Arc::clone(self))))
    }

    /// Opens the whole ahead of the `put` that reads it; what fails here is tried again there.
    pub(super) async fn open_ahead(&self) {
        let opened = self.open(0..self.size).await.ok();
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = opened;
    }

    fn take_opened(&self, range: &Range<u64>) -> Option<(usize, ByteStream)> {
        let whole = *range == (0..self.size);
        whole.then(|| self.opened.lock().unwrap_or_else(PoisonError::into_inner).take()).flatten()
    }

    /// Whether no place failed, or gave a byte.
    pub(super) fn is_blameless(&self) -> bool {
        self.records().iter().all(|record| record.error.is_none() && !record.took_part())
    }

    /// What became of each place so far, in their order.
    pub(super) fn take(&self) -> Vec<(Origin, Record)> {
        let records = std::mem::take(&mut *self.records());
        self.origins.iter().cloned().zip(records).collect()
    }

    /// The place that gave the most, if any gave anything.
    pub(super) fn giver(&self) -> Option<Arc<str>> {
        let records = self.records();
        let givers = records.iter().zip(&self.origins).filter(|(record, _)| record.took_part());
        givers.max_by_key(|(record, _)| record.gave).map(|(_, origin)| Arc::clone(&origin.name))
    }

    fn records(&self) -> MutexGuard<'_, Vec<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place to ask next: of those that failed least, the first; and whether it is asked again.
    fn choose(&self) -> Option<(usize, bool)> {
        let records = self.records();
        let open =
            records.iter().enumerate().filter(|(_, record)| !record.absent && record.failed < FAILURES);
        open.min_by_key(|(at, record)| (record.failed, *at)).map(|(at, record)| (at, record.failed > 0))
    }

    fn gave(&self, at: usize, bytes: u64) {
        if let Some(record) = self.records().get_mut(at) {
            record.gave += bytes;
            record.since += bytes;
            if record.since >= FORGIVEN {
                record.failed = 0;
            }
        }
    }

    fn failed(&self, at: usize, error: Error) {
        tracing::info!(from = &*self.origins[at].name, key = %self.key, %error, "a source of a copy breaks off");
        if let Some(record) = self.records().get_mut(at) {
            record.failed += 1;
            record.since = 0;
            record.error = Some(error);
        }
    }

    /// Opens what is left of a part at the next place that gives it.
    async fn open(&self, range: Range<u64>) -> Result<(usize, ByteStream), Error> {
        while let Some((at, again)) = self.choose() {
            if again {
                sleep(PAUSE).await;
            }
            match self.open_at(at, range.clone()).await {
                Ok(Some(body)) => return Ok((at, body)),
                Ok(None) => {
                    if let Some(record) = self.records().get_mut(at) {
                        record.absent = true;
                    }
                }
                Err(error) => self.failed(at, error),
            }
        }
        Err(Error::new(Kind::Unavailable, format!("read {}: no source goes on", self.key)))
    }

    async fn open_at(&self, at: usize, range: Range<u64>) -> Result<Option<ByteStream>, Error> {
        match &self.origins[at].way {
            Way::Source(source) => source.open(range).await.map(Some),
            Way::Object(store) => match store.get(&self.key, Some(range)).await? {
                // One that does not say how long it is may be it: the digest proves it.
                Some(object) if object.size.is_none_or(|size| size == self.size) => Ok(Some(object.body)),
                _ => Ok(None),
            },
        }
    }
}

/// Opens parts of a relay.
struct Opener(Arc<Relay>);

#[async_trait]
impl Open for Opener {
    async fn open(&self, range: Range<u64>) -> Result<ByteStream, Error> {
        let relay = Arc::clone(&self.0);
        let (at, body) = match relay.take_opened(&range) {
            Some(opened) => opened,
            None => relay.open(range.clone()).await?,
        };
        let part = Part { relay, left: range, from: Some((at, body)), rest: Bytes::new() };
        let pieces =
            stream::try_unfold(
                part,
                |mut part| async move { Ok(part.next().await?.map(|piece| (piece, part))) },
            );
        Ok(pieces.boxed())
    }
}

/// A part being read.
struct Part {
    relay: Arc<Relay>,
    left: Range<u64>,
    /// Where it is read from now.
    from: Option<(usize, ByteStream)>,
    /// Bytes that came and have not gone on.
    rest: Bytes,
}

impl Part {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.rest.is_empty() {
            if self.left.is_empty() {
                return Ok(None);
            }
            self.rest = self.read().await?;
        }
        Ok(Some(self.relay.pace.pass(&mut self.rest).await))
    }

    /// The next bytes, from wherever they come.
    async fn read(&mut self) -> Result<Bytes, Error> {
        loop {
            let (at, body) = match &mut self.from {
                Some((at, body)) => (*at, body),
                None => {
                    let reopened = timeout(self.relay.stall, self.relay.open(self.left.clone())).await;
                    let late =
                        |_| Error::new(Kind::Timeout, format!("read {}: no source goes on", self.relay.key));
                    self.from = Some(reopened.map_err(late)??);
                    continue;
                }
            };
            let error = match timeout(self.relay.stall, body.next()).await {
                Ok(Some(Ok(bytes))) if bytes.is_empty() => continue,
                Ok(Some(Ok(bytes))) => {
                    self.left.start = self.left.end.min(self.left.start + bytes.len() as u64);
                    self.relay.gave(at, bytes.len() as u64);
                    return Ok(bytes);
                }
                Ok(Some(Err(error))) => error,
                Ok(None) => Error::new(Kind::Unavailable, format!("read {}: ended early", self.relay.key)),
                Err(_) => Error::new(Kind::Timeout, format!("read {}: the body stalls", self.relay.key)),
            };
            self.relay.failed(at, error);
            self.from = None;
        }
    }
}
