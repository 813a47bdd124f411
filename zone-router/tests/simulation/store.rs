//! A zone that follows its script.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backends::{Error, Key, Kind, Meta, Object, Result, Source, Store};
use bytes::Bytes;
use fastrand::Rng;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until};

use crate::script::{Body, Manner, Reply, Script};
use crate::trace::{Event, Trace};

/// After this time without an answer or a byte, a driver gives up.
pub(crate) const DRIVER: Duration = Duration::from_secs(10);

/// The size of a piece of a body, in bytes.
pub(crate) const PIECE: usize = 1024;

/// The number of pieces of a body that are between a store and its reader.
const BETWEEN: usize = 3;

/// The blobs that the zones of a simulation may hold.
pub(crate) type Blobs = Arc<Vec<(Key, Bytes)>>;

tokio::task_local! {
    /// The number of the read for which a request is sent. It is not set for a probe.
    pub(crate) static READ: usize;
}

#[derive(Debug)]
pub(crate) struct Scripted {
    zone: usize,
    script: Arc<Script>,
    start: Instant,
    rng: Mutex<Rng>,
    blobs: Blobs,
    held: Vec<bool>,
    trace: Arc<Trace>,
    /// The number of tasks that an answer must pass.
    hops: usize,
}

/// Records in the trace that a request has ended, however it ended.
struct Asking(Arc<Trace>, usize);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.note(Event::Over { request: self.1 });
    }
}

impl Scripted {
    pub(crate) fn new(zone: usize, script: Script, seed: u64, blobs: Blobs, trace: Arc<Trace>) -> Self {
        let mut rng = Rng::with_seed(seed ^ (zone as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let held = blobs.iter().map(|_| rng.f64() < script.holds).collect();
        let (script, start) = (Arc::new(script), Instant::now());
        Self { zone, script, start, rng: Mutex::new(rng), blobs, held, trace, hops: 0 }
    }

    /// Lets the answers pass the tasks of a connection and a driver, as real answers do.
    pub(crate) fn behind_a_driver(self) -> Self {
        Self { hops: 3, ..self }
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.rng.lock())
    }

    /// Handles one request up to its headers.
    async fn ask(&self, key: Option<&Key>) -> Result<Manner> {
        let blob = self.blobs.iter().position(|(known, _)| Some(known) == key);
        let manner = self.script.of_blob(blob, self.start.elapsed());
        let read = READ.try_with(|read| *read).ok();
        let struck =
            self.draw(|rng| rng.f64() < manner.reply_odds) && !(manner.spares_probes && read.is_none());
        let reply = if struck { manner.reply } else { Reply::Serve };
        let headers = manner.probes.filter(|_| read.is_none()).unwrap_or(manner.headers);
        let delay = self.draw(|rng| headers.draw(rng));
        let request = self.trace.ask(
            self.zone,
            read,
            reply == Reply::Serve && key.is_none_or(|key| self.find(key).is_some()),
        );
        let _asking = Asking(Arc::clone(&self.trace), request);
        if reply == Reply::Hang {
            sleep(DRIVER).await;
            return Err(Error::new(Kind::Timeout, "no answer"));
        }
        let answer_at = Instant::now() + delay.min(DRIVER);
        sleep_until(answer_at).await;
        for _ in 0..self.hops {
            yield_now().await;
        }
        // If a zone has died meanwhile, it does not answer.
        let reply = match died(&self.script, self.start, manner) {
            Some(Reply::Hang) => {
                sleep_until(answer_at + DRIVER).await;
                return Err(Error::new(Kind::Timeout, "no answer"));
            }
            died => died.unwrap_or(reply),
        };
        match reply {
            _ if delay >= DRIVER => Err(Error::new(Kind::Timeout, "no answer")),
            Reply::Refuse => Err(Error::new(Kind::Unavailable, "refused")),
            Reply::Deny => Err(Error::new(Kind::Denied, "denied")),
            Reply::Throttle => Err(Error::new(Kind::Throttled { retry_after: None }, "slow down")),
            Reply::Serve | Reply::Hang => Ok(manner),
        }
    }

    fn find(&self, key: &Key) -> Option<Bytes> {
        let index = self.blobs.iter().position(|(known, _)| known == key)?;
        self.held[index].then(|| self.blobs[index].1.clone())
    }

    /// The object in the form that this zone gives it, including what happens to its body.
    fn part(&self, bytes: Bytes, range: Option<Range<u64>>, manner: Manner) -> Result<(u64, Bytes, Body)> {
        let struck = self.draw(|rng| rng.f64() < manner.body_odds);
        let body = if struck { manner.body } else { Body::Whole };
        let size = if body == Body::Resized { bytes.len() / 2 + 1 } else { bytes.len() };
        let range = range.map_or(0..size, |range| range.start as usize..size.min(range.end as usize));
        if range.start >= range.end {
            return Err(Error::new(Kind::Invalid, "range starts beyond the end"));
        }
        let mut part = bytes.slice(range);
        if body == Body::Flip {
            let mut flipped = part.to_vec();
            flipped[self.draw(|rng| rng.usize(..part.len()))] ^= 1;
            part = flipped.into();
        }
        if matches!(body, Body::Flip | Body::Resized) {
            self.trace.note(Event::Lied { zone: self.zone, read: READ.try_with(|read| *read).ok() });
        }
        Ok((size as u64, part, body))
    }

    fn body(&self, bytes: Bytes, body: Body, manner: Manner) -> BoxStream<'static, Result<Bytes>> {
        let half = bytes.len() / 2;
        let (script, start) = (Arc::clone(&self.script), self.start);
        let between = if body == Body::Trickle { 500.0 } else { manner.between };
        let pause = Duration::from_secs_f64(between / 1000.0);
        let pieces = stream::unfold((bytes, false), move |(mut rest, began)| {
            let script = Arc::clone(&script);
            async move {
                if rest.is_empty() {
                    return None;
                }
                if began && !pause.is_zero() {
                    sleep(pause).await;
                }
                let died = died(&script, start, manner);
                let halfway = rest.len() <= half;
                if died == Some(Reply::Hang) || (halfway && body == Body::Stall) {
                    sleep(DRIVER).await;
                    return Some((Err(Error::new(Kind::Timeout, "no byte")), (Bytes::new(), true)));
                }
                if died.is_some() || (halfway && body == Body::Cut) {
                    return Some((Err(Error::new(Kind::Unavailable, "cut")), (Bytes::new(), true)));
                }
                let piece = rest.split_to(rest.len().min(PIECE));
                Some((Ok(piece), (rest, true)))
            }
        });
        match self.script.closes_unread {
            Some(after) => close_unread(pieces.boxed(), after),
            None => pieces.boxed(),
        }
    }
}

/// A body that its store closes when nobody has read it for some time. The bytes in between still arrive.
fn close_unread(
    body: BoxStream<'static, Result<Bytes>>,
    after: Duration,
) -> BoxStream<'static, Result<Bytes>> {
    let start = (body, Instant::now(), None);
    let pieces =
        stream::unfold(start, move |(mut body, gave_at, left): (_, Instant, Option<usize>)| async move {
            let left = left.or_else(|| (gave_at.elapsed() >= after).then_some(BETWEEN));
            if left == Some(0) {
                let error = Error::new(Kind::Unavailable, "the body ended early");
                return Some((Err(error), (stream::empty().boxed(), Instant::now(), left)));
            }
            let piece = body.next().await?;
            Some((piece, (body, Instant::now(), left.map(|left| left - 1))))
        });
    pieces.boxed()
}

/// If the zone has died since, how it treats the answers that are in flight.
fn died(script: &Script, start: Instant, since: Manner) -> Option<Reply> {
    let dead = |manner: Manner| {
        let dead = manner.reply_odds >= 1.0 && !manner.spares_probes;
        Some(manner.reply).filter(|reply| dead && matches!(reply, Reply::Hang | Reply::Refuse))
    };
    dead(script.at(start.elapsed())).filter(|_| dead(since).is_none())
}

#[async_trait]
impl Store for Scripted {
    async fn head(&self, key: &Key) -> Result<Option<Meta>> {
        self.ask(Some(key)).await?;
        let meta = |bytes: Bytes| Meta { key: key.clone(), size: bytes.len() as u64, modified: None };
        Ok(self.find(key).map(meta))
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Option<Object>> {
        let manner = self.ask(Some(key)).await?;
        let Some(bytes) = self.find(key) else { return Ok(None) };
        let from = range.as_ref().map_or(0, |range| range.start);
        let (size, part, body) = self.part(bytes, range, manner)?;
        let range = from..from + part.len() as u64;
        Ok(Some(Object { size: Some(size), range, body: self.body(part, body, manner), version: None }))
    }

    async fn put(&self, _: &Key, _: &Source) -> Result<()> {
        Err(Error::new(Kind::Invalid, "read only"))
    }

    fn list(&self, _: &str) -> BoxStream<'_, Result<Meta>> {
        stream::empty().boxed()
    }

    async fn delete(&self, _: &Key) -> Result<()> {
        Err(Error::new(Kind::Invalid, "read only"))
    }

    async fn probe(&self) -> Result<()> {
        self.ask(None).await.map(drop)
    }
}
