//! What the web page shows as it happens: requests, events and snapshots, for a few subscribers.
//!
//! Requests and snapshots cost nothing while nobody is subscribed. Events are rare, and the latest ones are kept for
//! the next subscriber.

mod cache_status;
mod events;
mod history;
mod requests;
mod snapshot;
mod state;
mod stream;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backends::Digest;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use zone_router::Turn;

use self::events::Events;
use self::history::History;
pub(super) use self::stream::subscribe;
use crate::gateway::Current;

pub(crate) use self::requests::{EndedRequest, WatchedRequest};

/// The time between two snapshots, and between two looks at what has changed.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(1);

/// The most subscribers at once. Each keeps one connection of the admin API busy.
const SUBSCRIBERS_MAX: usize = 16;

/// The most frames that wait for the slowest subscriber. It misses those before.
const FRAMES_MAX: usize = 512;

/// The most requests that are told between two snapshots. Further ones are only counted.
const REQUESTS_MAX: u32 = 200;

/// What is known at one moment to everybody who is subscribed, and what the next subscriber gets first.
#[derive(Debug)]
pub(crate) struct Live {
    subscribers: AtomicUsize,
    /// Whole frames of the stream. With nobody subscribed, nothing is sent.
    frames: broadcast::Sender<Bytes>,
    /// The turns of the blobs that are read now, by blob. Has entries only for requests that are watched.
    turns: Mutex<HashMap<Digest, Turns>>,
    /// The requests that were told since the last snapshot.
    told: AtomicU32,
    /// The requests that were not told, because there were too many.
    untold: AtomicU64,
    events: Mutex<Events>,
    history: Mutex<History>,
}

/// The turns of one blob's reads, and the number of requests that wait to be told with them.
#[derive(Debug, Default)]
struct Turns {
    requests: usize,
    turns: Vec<Turn>,
}

/// A place among the subscribers.
#[derive(Debug)]
struct Seat(Arc<Live>);

impl Live {
    pub(crate) fn new() -> Self {
        Self {
            subscribers: AtomicUsize::new(0),
            frames: broadcast::Sender::new(FRAMES_MAX),
            turns: Mutex::default(),
            told: AtomicU32::new(0),
            untold: AtomicU64::new(0),
            events: Mutex::default(),
            history: Mutex::default(),
        }
    }

    /// Whether anybody is subscribed. One relaxed load, because every request asks.
    fn is_watched(&self) -> bool {
        self.subscribers.load(Ordering::Relaxed) > 0
    }

    /// Takes a place among the subscribers, if one is free.
    fn sit(self: &Arc<Self>) -> Option<Seat> {
        let next = |now| (now < SUBSCRIBERS_MAX).then_some(now + 1);
        let taken = self.subscribers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        taken.ok().map(|_| Seat(Arc::clone(self)))
    }

    /// Sends a frame to everybody who is subscribed.
    fn send<T: Serialize>(&self, event: &str, data: &T) {
        if self.is_watched() {
            // Nobody may be left to receive it.
            let _ = self.frames.send(stream::frame(event, data));
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.subscribers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Looks for changes and sends snapshots until `shutdown`.
pub(crate) async fn run(current: Arc<Current>, shutdown: CancellationToken) {
    let mut tick = tokio::time::interval(SNAPSHOT_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = None;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        let gateway = current.load();
        let live = &gateway.live;
        let now = state::read(&gateway);
        live.history.lock().note(&now);
        if let Some(before) = &before {
            for change in state::changes(before, &now) {
                let event = live.events.lock().add(change, milliseconds(SystemTime::now()));
                live.send("event", &event);
            }
        }
        before = Some(now);
        live.told.store(0, Ordering::Relaxed);
        if live.is_watched() {
            live.send("snapshot", &snapshot::snapshot(&gateway));
        }
    }
}

/// Milliseconds since 1970.
fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_few_and_come_back() {
        let live = Arc::new(Live::new());
        assert!(!live.is_watched());
        let seats: Vec<_> = std::iter::from_fn(|| live.sit()).collect();
        assert_eq!((seats.len(), live.is_watched()), (SUBSCRIBERS_MAX, true));
        drop(seats);
        assert!(!live.is_watched() && live.sit().is_some());
    }

    #[test]
    fn without_a_subscriber_nothing_is_kept() {
        let live = Live::new();
        live.send("snapshot", &1);
        assert_eq!(live.frames.len(), 0);
    }
}
