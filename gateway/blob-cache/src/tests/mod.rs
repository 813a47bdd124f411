//! Tests of the cache as a whole, in a real folder.

mod census;
mod contents;
mod copy_source;
mod demand;
mod fills;
mod parts;
mod restarts;
mod space;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backends::{Digest, Error};
use bytes::Bytes;
use config::{CacheSettings, Limits, Timeouts};
use futures_util::{Stream, StreamExt, stream};
use http_body_util::BodyExt;
use limits::pool::Identity;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use zone_router::{NotOpened, Verified};

use crate::{BypassReason, Cache, FileBody, Follower, Interrupted, Lookup, NoFill, NotKept, Writer};

fn open(dir: &Path, size: u64) -> Arc<Cache> {
    let settings = CacheSettings { dir: dir.to_owned(), unremoved: dir.join("unremoved"), size, reserve: 0 };
    Cache::open(&settings, &Limits::default(), &Timeouts::default()).expect("opens")
}

fn peer(address: &str) -> Identity {
    Identity::peer(address.parse().expect("an address"), false)
}

/// A source that a test feeds by hand: what the test sends is the body.
struct Hand {
    digest: Digest,
    size: u64,
    opened: AtomicUsize,
    pieces: Mutex<Option<mpsc::Receiver<Result<Bytes, Error>>>>,
}

impl Hand {
    fn new(bytes: &[u8]) -> (Sender, Arc<Self>) {
        let (sender, pieces) = mpsc::channel(16);
        let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
        (
            sender,
            Arc::new(Self { digest, size, opened: AtomicUsize::new(0), pieces: Mutex::new(Some(pieces)) }),
        )
    }

    /// Returns the body, the first time.
    fn open(&self) -> Result<Verified, NotOpened> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        let pieces = self.pieces.lock().take().ok_or(NotOpened { answers: Vec::new() })?;
        let body =
            stream::unfold(
                pieces,
                |mut pieces| async move { pieces.recv().await.map(|piece| (piece, pieces)) },
            );
        Ok(Verified::hashing(body.boxed(), self.digest, Some(self.size)))
    }
}

/// The result of a miss for a client.
enum Pulled {
    /// The second field is `true` if another client started the fill.
    Following(Follower, bool),
    Bypass(Verified, BypassReason),
    Nothing,
}

async fn pull(cache: &Arc<Cache>, hand: &Arc<Hand>) -> Pulled {
    pull_as(&Identity::GATEWAY, cache, hand).await
}

/// Does what a pull does.
async fn pull_as(client: &Identity, cache: &Arc<Cache>, hand: &Arc<Hand>) -> Pulled {
    let (join, given_back) = match cache.join_or_fill(client, &hand.digest).await {
        Lookup::Hit(_) => return Pulled::Nothing,
        Lookup::Bypass(bypass) => {
            let reason = bypass.reason();
            return Pulled::Bypass(bypass.stream(hand.open().expect("opens")), reason);
        }
        Lookup::Join(join) => (join, None),
        Lookup::Fill(writer, join) => {
            let hand = Arc::clone(hand);
            (join, Some(start(writer, async move { hand.open() })))
        }
    };
    let joined = given_back.is_none();
    match (join.follow().await, given_back) {
        (Ok(follower), _) => Pulled::Following(follower, joined),
        (Err(NoFill::Bypass(bypass)), Some(given_back)) => {
            let reason = bypass.reason();
            Pulled::Bypass(bypass.stream(given_back.await.expect("given back")), reason)
        }
        (Err(_), _) => Pulled::Nothing,
    }
}

/// Starts the fill in a task of its own.
fn start(
    writer: Writer,
    opening: impl Future<Output = Result<Verified, NotOpened>> + Send + 'static,
) -> oneshot::Receiver<Verified> {
    let (give_back, given_back) = oneshot::channel();
    let abandoned = writer.abandoned();
    let filling = async move {
        match opening.await {
            Err(why) => writer.not_opened(why),
            Ok(body) => {
                if let Err(NotKept { body, .. }) = writer.fill(body, "zone=a".into()).await {
                    let _ = give_back.send(body);
                }
            }
        }
    };
    tokio::spawn(async move {
        tokio::select! {
            () = filling => {}
            () = abandoned => {}
        }
    });
    given_back
}

async fn fill(cache: &Arc<Cache>, bytes: &'static [u8]) {
    let (send, hand) = Hand::new(bytes);
    send.send(Ok(Bytes::from_static(bytes))).await.expect("taken");
    drop(send);
    let Pulled::Following(follower, _) = pull(cache, &hand).await else { panic!("not followed") };
    let read: Vec<_> = whole(follower).map(|piece| piece.expect("no error")).collect().await;
    assert_eq!(read.concat(), bytes);
}

fn whole(follower: Follower) -> impl Stream<Item = Result<Bytes, Interrupted>> + Send + 'static {
    let size = follower.size();
    follower.into_stream(0..size)
}

type Sender = mpsc::Sender<Result<Bytes, Error>>;

/// A fill of `hello`, of which `hel` has arrived.
async fn half_filled(cache: &Arc<Cache>) -> (Sender, Arc<Hand>, Follower) {
    let (send, hand) = Hand::new(b"hello");
    send.send(Ok(Bytes::from_static(b"hel"))).await.expect("taken");
    let Pulled::Following(follower, _) = pull(cache, &hand).await else { panic!("not followed") };
    (send, hand, follower)
}

/// Waits for an event on another thread.
async fn until(what: &str, mut happened: impl FnMut() -> bool) {
    for _ in 0..500 {
        if happened() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("in vain, until {what}");
}

async fn is_hit(cache: &Arc<Cache>, digest: &Digest) -> bool {
    matches!(cache.get(&Identity::GATEWAY, digest).await, Ok(Some(_)))
}

async fn read(cache: &Arc<Cache>, digest: &Digest) -> Option<Bytes> {
    let blob = cache.get(&Identity::GATEWAY, digest).await.ok()??;
    Some(FileBody::new(blob.clone(), 0..blob.size).collect().await.expect("reads").to_bytes())
}

/// The old cache is dropped when its last task has ended.
async fn reopen(dir: &Path) -> Arc<Cache> {
    reopen_with(dir, &Timeouts::default()).await
}

async fn reopen_with(dir: &Path, timeouts: &Timeouts) -> Arc<Cache> {
    reopen_as(
        CacheSettings { dir: dir.to_owned(), unremoved: dir.join("unremoved"), size: 1 << 20, reserve: 0 },
        timeouts,
    )
    .await
}

async fn reopen_sized(dir: &Path, size: u64) -> Arc<Cache> {
    reopen_as(
        CacheSettings { dir: dir.to_owned(), unremoved: dir.join("unremoved"), size, reserve: 0 },
        &Timeouts::default(),
    )
    .await
}

async fn reopen_as(settings: CacheSettings, timeouts: &Timeouts) -> Arc<Cache> {
    let mut cache = None;
    until("its folder is free", || {
        cache = Cache::open(&settings, &Limits::default(), timeouts).ok();
        cache.is_some()
    })
    .await;
    cache.expect("opened")
}
