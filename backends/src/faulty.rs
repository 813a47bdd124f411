//! A store with scripted faults, for tests and simulations.
//!
//! ```
//! # use std::{sync::Arc, time::Duration};
//! # use backends::{Kind, faulty::{Fault, Faulty, On}, memory::MemoryStore};
//! let store = Arc::new(Faulty::new(Arc::new(MemoryStore::new())));
//! store.once(On::Get, Fault::CutAfter(1000)); // the next `get` breaks off
//! store.always(On::Any, Fault::Delay(Duration::from_millis(40))); // a store far away
//! store.always(On::Any, Fault::Fail(Kind::Unavailable)); // and then a dead one
//! store.heal();
//! ```

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::sleep;

use crate::{ByteStream, Error, Key, Kind, Meta, Object, Open, Result, Source, Store};

/// The operation that a fault applies to, or whose calls are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// Every operation.
    Any,
    /// [`Store::head`]
    Head,
    /// [`Store::get`]
    Get,
    /// [`Store::put`]
    Put,
    /// [`Store::list`]
    List,
    /// [`Store::delete`]
    Delete,
    /// [`Store::probe`]
    Probe,
}

/// What goes wrong.
///
/// The last six faults apply to bodies: the body that `get` returns, or the one that `put` reads from its
/// source. They have no effect on an operation without a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The operation fails at once with an error of this kind.
    Fail(Kind),
    /// The operation never answers.
    Hang,
    /// The operation takes this much longer.
    Delay(Duration),
    /// The body fails with [`Kind::Unavailable`] after this many bytes.
    CutAfter(u64),
    /// The body stalls after this many bytes.
    StallAfter(u64),
    /// The lowest bit of the byte at this offset of the body is flipped, without an error.
    FlipBit(u64),
    /// The body is this many bytes shorter than announced, without an error.
    Short(u64),
    /// The body is this many zero bytes longer than announced, without an error.
    Long(u64),
    /// `get` does not report the length of the object, like a proxy that uses chunked encoding.
    NoLength,
}

/// A store that adds faults to another store.
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn Store>,
    script: Mutex<Script>,
    calls: [AtomicU64; 7],
}

#[derive(Debug, Default)]
struct Script {
    once: VecDeque<(On, Fault)>,
    always: Vec<(On, Fault)>,
}

impl Faulty {
    /// Wraps `inner`. No fault is scripted yet.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, script: Mutex::default(), calls: Default::default() }
    }

    /// Adds `fault` to the queue of this operation. Each queued fault applies to one call.
    pub fn once(&self, on: On, fault: Fault) {
        self.script().once.push_back((on, fault));
    }

    /// Applies `fault` to every call of this operation from now on, in addition to earlier faults.
    pub fn always(&self, on: On, fault: Fault) {
        self.script().always.push((on, fault));
    }

    /// Removes all faults.
    pub fn heal(&self) {
        *self.script() = Script::default();
    }

    /// How many calls of this operation have started.
    #[must_use]
    pub fn calls(&self, on: On) -> u64 {
        match on {
            On::Any => self.calls.iter().map(|calls| calls.load(Ordering::Relaxed)).sum(),
            on => self.calls[on as usize].load(Ordering::Relaxed),
        }
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock()
    }

    /// Counts a call and returns its faults.
    fn begin(&self, on: On) -> Vec<Fault> {
        self.calls[on as usize].fetch_add(1, Ordering::Relaxed);
        let strikes = |wanted: On| wanted == on || wanted == On::Any;
        let mut script = self.script();
        let mut faults: Vec<Fault> =
            script.always.iter().filter(|(wanted, _)| strikes(*wanted)).map(|(_, fault)| *fault).collect();
        if let Some(next) = script.once.iter().position(|(wanted, _)| strikes(*wanted)) {
            faults.extend(script.once.remove(next).map(|(_, fault)| fault));
        }
        faults
    }

    /// Starts an operation and applies its faults. Returns the faults that apply to its body.
    async fn apply_faults(&self, on: On) -> Result<Vec<Fault>> {
        let faults = self.begin(on);
        for fault in &faults {
            match *fault {
                Fault::Fail(kind) => return Err(Error::new(kind, format!("scripted fault on {on:?}"))),
                Fault::Hang => std::future::pending().await,
                Fault::Delay(pause) => sleep(pause).await,
                _ => {}
            }
        }
        Ok(faults)
    }
}

#[async_trait]
impl Store for Faulty {
    async fn head(&self, key: &Key) -> Result<Option<Meta>> {
        self.apply_faults(On::Head).await?;
        self.inner.head(key).await
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Option<Object>> {
        let faults = self.apply_faults(On::Get).await?;
        let whole = range.is_none();
        let Some(mut object) = self.inner.get(key, range).await? else { return Ok(None) };
        let length = object.range.end - object.range.start;
        object.body = with_faults(object.body, length, &faults);
        if faults.contains(&Fault::NoLength) {
            object.size = None;
            object.range.end = if whole { u64::MAX } else { object.range.end };
        }
        Ok(Some(object))
    }

    async fn put(&self, key: &Key, source: &Source) -> Result<()> {
        let faults = self.apply_faults(On::Put).await?;
        let spoiled = FaultySource { source: source.clone(), faults };
        self.inner.put(key, &Source::new(source.size(), source.digest(), Arc::new(spoiled))).await
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<Meta>> {
        let prefix = prefix.to_owned();
        let begun = async move {
            match self.apply_faults(On::List).await {
                Ok(_) => self.inner.list(&prefix),
                Err(error) => stream::iter([Err(error)]).boxed(),
            }
        };
        stream::once(begun).flatten().boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.apply_faults(On::Delete).await?;
        self.inner.delete(key).await
    }

    async fn probe(&self) -> Result<()> {
        self.apply_faults(On::Probe).await?;
        self.inner.probe().await
    }
}

struct FaultySource {
    source: Source,
    faults: Vec<Fault>,
}

#[async_trait]
impl Open for FaultySource {
    async fn open(&self, range: Range<u64>) -> Result<ByteStream> {
        let length = range.end - range.start;
        Ok(with_faults(self.source.open(range).await?, length, &self.faults))
    }
}

fn with_faults(body: ByteStream, length: u64, faults: &[Fault]) -> ByteStream {
    faults.iter().fold(body, |body, fault| with_fault(body, length, *fault))
}

fn with_fault(body: ByteStream, length: u64, fault: Fault) -> ByteStream {
    match fault {
        Fault::CutAfter(at) if at < length => {
            let cut = Error::new(Kind::Unavailable, format!("scripted cut after {at} bytes"));
            first(body, at).chain(stream::iter([Err(cut)])).boxed()
        }
        Fault::StallAfter(at) if at < length => first(body, at).chain(stream::pending()).boxed(),
        Fault::Short(by) => first(body, length.saturating_sub(by)),
        Fault::Long(by) => {
            let more = vec![0; usize::try_from(by).unwrap_or_default()];
            body.chain(stream::iter([Ok(Bytes::from(more))])).boxed()
        }
        Fault::FlipBit(at) => flip(body, at),
        _ => body,
    }
}

/// The first `most` bytes of a body.
fn first(body: ByteStream, most: u64) -> ByteStream {
    stream::unfold((body, most), |(mut body, left)| async move {
        if left == 0 {
            return None;
        }
        Some(match body.next().await? {
            Ok(mut piece) => {
                piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - piece.len() as u64;
                (Ok(piece), (body, left))
            }
            Err(error) => (Err(error), (body, 0)),
        })
    })
    .boxed()
}

fn flip(body: ByteStream, at: u64) -> ByteStream {
    let mut seen = 0;
    body.map(move |piece| {
        let piece = piece?;
        let here = usize::try_from(at.wrapping_sub(seen)).ok().filter(|here| *here < piece.len());
        seen += piece.len() as u64;
        let Some(here) = here else { return Ok(piece) };
        let mut flipped = BytesMut::from(&piece[..]);
        flipped[here] ^= 1;
        Ok(flipped.freeze())
    })
    .boxed()
}

#[cfg(test)]
#[path = "faulty_tests.rs"]
mod tests;
