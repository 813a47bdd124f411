//! Reads one blob from several origins. If one breaks off, the next one continues.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backends::{ByteStream, Digest, Error, Key, Kind, Open, Source, Store};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::{sleep, timeout};
use zone_router::Zone;

use super::super::throttle::Throttle;

/// How often an origin may fail before it is not asked any more.
const FAILURES_MAX: u8 = 2;

/// After this many bytes without a failure, earlier failures of an origin are forgotten, so that a large blob
/// can be read over a connection that sometimes breaks.
const FAILURES_FORGOTTEN_AFTER: u64 = 16 << 20;

/// The pause before an origin that failed is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// A place from which a blob may be read.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) name: Arc<str>,
    pub(super) access: Access,
}

/// How a blob is read from an origin.
#[derive(Debug, Clone)]
pub(super) enum Access {
    /// As an object with the blob's key.
    Object(Arc<dyn Store>),
    /// From any other source.
    Source(Source),
}

/// The usable zones of these, as origins.
pub(super) fn origins<'a>(zones: &'a [&Zone]) -> impl Iterator<Item = Origin> + 'a {
    zones
        .iter()
        .filter(|zone| zone.unusable.is_none())
        .map(|zone| Origin { name: Arc::clone(&zone.name), access: Access::Object(Arc::clone(&zone.store)) })
}

/// The record of one origin.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// The number of failures that are not forgotten.
    failed: u8,
    /// The bytes that were read since its last failure.
    since_failure: u64,
    /// All bytes read.
    bytes: u64,
    /// Its last error.
    pub(super) error: Option<Error>,
    /// Whether it has no such object, or one of another size. This is not a failure, but the origin is not
    /// asked again.
    absent: bool,
}

impl Record {
    /// Whether any of its bytes were used.
    pub(super) fn took_part(&self) -> bool {
        self.bytes > 0
    }
}

/// The origins of one blob, with the record of each.
pub(super) struct Relay {
    key: Key,
    size: u64,
    stall: Duration,
    throttle: Arc<Throttle>,
    origins: Vec<Origin>,
    records: Mutex<Vec<Record>>,
    /// The body of the whole blob, if it was opened before the first read.
    opened: Mutex<Option<(usize, ByteStream)>>,
}

impl Relay {
    /// A relay of the blob of `size` bytes with the key `key`, from the first of `origins` that returns it.
    /// If an origin sends nothing for `stall` in the middle of a body, it counts as broken off.
    pub(super) fn new(
        key: Key,
        size: u64,
        origins: Vec<Origin>,
        throttle: Arc<Throttle>,
        stall: Duration,
    ) -> Arc<Self> {
        let records = Mutex::new(origins.iter().map(|_| Record::default()).collect());
        Arc::new(Self { key, size, stall, throttle, origins, records, opened: Mutex::default() })
    }

    /// The blob's size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The source that a `put` reads.
    pub(super) fn source(self: &Arc<Self>, digest: Digest) -> Source {
        Source::new(self.size, digest, Arc::new(Opener(Arc::clone(self))))
    }

    /// Opens the whole blob before the `put` that reads it. If this fails, the `put` opens it again.
    pub(super) async fn open_ahead(&self) {
        let opened = self.open(0..self.size).await.ok();
        *self.opened.lock() = opened;
    }

    fn take_opened(&self, range: &Range<u64>) -> Option<(usize, ByteStream)> {
        let whole = *range == (0..self.size);
        whole.then(|| self.opened.lock().take()).flatten()
    }

    /// Whether no origin failed, and none returned a byte.
    pub(super) fn is_untouched(&self) -> bool {
        self.records().iter().all(|record| record.error.is_none() && !record.took_part())
    }

    /// Takes the record of each origin, in their order.
    pub(super) fn take_records(&self) -> Vec<(Origin, Record)> {
        let records = std::mem::take(&mut *self.records());
        self.origins.iter().cloned().zip(records).collect()
    }

    /// The origin of most of the bytes, if any were read.
    pub(super) fn main_origin(&self) -> Option<Arc<str>> {
        let records = self.records();
        let used = records.iter().zip(&self.origins).filter(|(record, _)| record.took_part());
        used.max_by_key(|(record, _)| record.bytes).map(|(_, origin)| Arc::clone(&origin.name))
    }

    fn records(&self) -> MutexGuard<'_, Vec<Record>> {
        self.records.lock()
    }

    /// The next origin to ask, and whether it was asked before: the first one of those with the fewest
    /// failures.
    fn choose(&self) -> Option<(usize, bool)> {
        let records = self.records();
        let open =
            records.iter().enumerate().filter(|(_, record)| !record.absent && record.failed < FAILURES_MAX);
        open.min_by_key(|(at, record)| (record.failed, *at)).map(|(at, record)| (at, record.failed > 0))
    }

    fn record_bytes(&self, at: usize, bytes: u64) {
        if let Some(record) = self.records().get_mut(at) {
            record.bytes += bytes;
            record.since_failure += bytes;
            if record.since_failure >= FAILURES_FORGOTTEN_AFTER {
                record.failed = 0;
            }
        }
    }

    fn record_failure(&self, at: usize, error: Error) {
        tracing::info!(from = &*self.origins[at].name, key = %self.key, %error, "a source of a copy breaks off");
        if let Some(record) = self.records().get_mut(at) {
            record.failed += 1;
            record.since_failure = 0;
            record.error = Some(error);
        }
    }

    /// Opens the rest of a part at the next origin that returns it.
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
                Err(error) => self.record_failure(at, error),
            }
        }
        Err(Error::new(Kind::Unavailable, format!("read {}: no source goes on", self.key)))
    }

    async fn open_at(&self, at: usize, range: Range<u64>) -> Result<Option<ByteStream>, Error> {
        match &self.origins[at].access {
            Access::Source(source) => source.open(range).await.map(Some),
            Access::Object(store) => match store.get(&self.key, Some(range)).await? {
                // An object without a stated size may be the blob. The digest decides.
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
    /// The origin from which it is being read.
    from: Option<(usize, ByteStream)>,
    /// The bytes that were read and not passed on yet.
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
        Ok(Some(self.relay.throttle.pass(&mut self.rest).await))
    }

    /// The next bytes, from any origin.
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
                    self.relay.record_bytes(at, bytes.len() as u64);
                    return Ok(bytes);
                }
                Ok(Some(Err(error))) => error,
                Ok(None) => Error::new(Kind::Unavailable, format!("read {}: ended early", self.relay.key)),
                Err(_) => Error::new(Kind::Timeout, format!("read {}: the body stalls", self.relay.key)),
            };
            self.relay.record_failure(at, error);
            self.from = None;
        }
    }
}
