//! A follower: a client that reads all of a blob, or a part, behind a fill.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use backends::{ByteStream, Error, Hasher, Kind};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use limits::pool::Identity;
use tokio::sync::watch;
use zone_router::{NotOpened, Verified};

use crate::bypass::Bypass;
use crate::cached_blob::CachedBlob;
use crate::demand::Request;
use crate::fill::{Failure, Fill, Head, Phase, Presence};
use crate::part::part_of;

/// A client's place in a fill, from before its source is open.
pub struct Join {
    client: Identity,
    phase: watch::Receiver<Phase>,
    presence: Presence,
    request: Request,
}

/// One reader of a fill that is open. The reader gets the last byte of its range only when the whole blob is proven.
pub struct Follower {
    head: Arc<Head>,
    /// The fill's file, for this client.
    blob: Box<CachedBlob>,
    phase: watch::Receiver<Phase>,
    _presence: Presence,
    request: Request,
}

/// Why a joined fill gives no bytes.
#[derive(Debug)]
pub enum NoFill {
    /// No zone gave the blob.
    NotOpened(Arc<NotOpened>),
    /// The blob is not kept.
    Bypass(Bypass),
    /// The fill failed before its first byte. The caller may start another one.
    Broken(Arc<str>),
}

/// Why the bytes of a follower ended early.
#[derive(Debug)]
pub enum Interrupted {
    /// The blob cannot be completed with the right bytes.
    Broken(Arc<str>),
    /// The cache's disk failed. The rest can be read from elsewhere.
    Disk(Remainder),
}

/// The part of the blob that a follower still needs after the cache's disk has failed.
pub struct Remainder {
    follower: Follower,
    seen: Arc<Hasher>,
    left: Range<u64>,
}

impl fmt::Debug for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Join").field("fill", &self.presence).finish_non_exhaustive()
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("from", &self.head.from).finish_non_exhaustive()
    }
}

impl fmt::Debug for Remainder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remainder").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Join {
    pub(super) fn new(fill: &Arc<Fill>, client: &Identity, request: Request) -> Self {
        let presence = Presence::new(Arc::clone(fill), client);
        Self { client: *client, phase: fill.phase.subscribe(), presence, request }
    }

    /// Waits until the source is open and the blob has its space in the cache.
    ///
    /// # Errors
    /// The fill gives no bytes: see [`NoFill`].
    pub async fn follow(mut self) -> Result<Follower, NoFill> {
        loop {
            let phase = self.phase.borrow_and_update().clone();
            match phase {
                Phase::Opening => {}
                Phase::Filling(head, _) | Phase::Whole(head) => {
                    let Self { client, phase, presence, request } = self;
                    let blob = Box::new(head.blob.read_by(client));
                    return Ok(Follower { head, blob, phase, _presence: presence, request });
                }
                Phase::Failed(Failure::NotOpened(why)) => return Err(NoFill::NotOpened(why)),
                Phase::Failed(Failure::Bypassed(reason)) => {
                    return Err(NoFill::Bypass(Bypass::new(reason, self.request)));
                }
                Phase::Failed(Failure::Broken(why)) => return Err(NoFill::Broken(why)),
                Phase::Failed(Failure::Disk { .. }) => {
                    return Err(NoFill::Broken("the cache's disk fails".into()));
                }
            }
            // The sender lives as long as the fill, and the fill as long as its followers.
            let _ = self.phase.changed().await;
        }
    }
}

impl Follower {
    /// The blob's size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.blob.size
    }

    /// The name that the writer gave the source.
    #[must_use]
    pub fn source(&self) -> &Arc<str> {
        &self.head.from
    }

    /// Streams these bytes of the blob as they arrive. If the stream fails, its last item is an error.
    pub fn into_stream(
        self,
        range: Range<u64>,
    ) -> impl Stream<Item = Result<Bytes, Interrupted>> + Send + 'static {
        let left = range.start..range.end.min(self.size());
        stream::unfold(Some((self, left)), |state| async move {
            let (mut follower, mut left) = state?;
            if left.is_empty() {
                return None;
            }
            let read = match follower.readable(&left).await {
                Ok(readable) => follower.read(left.start..readable).await,
                Err(Failure::Disk { seen }) => {
                    return Some((Err(Interrupted::Disk(Remainder { follower, seen, left })), None));
                }
                Err(failure) => Err(failure.to_string().into()),
            };
            match read {
                Ok(bytes) => {
                    left.start += bytes.len() as u64;
                    Some((Ok(bytes), Some((follower, left))))
                }
                Err(why) => Some((Err(Interrupted::Broken(why)), None)),
            }
        })
    }

    /// Waits until a byte of `left` can be read. Returns the position up to which bytes can be read.
    async fn readable(&mut self, left: &Range<u64>) -> Result<u64, Failure> {
        loop {
            let readable = match &*self.phase.borrow_and_update() {
                Phase::Opening => 0,
                // The last byte is withheld until the digest is proven.
                Phase::Filling(_, written) => (*written).min(left.end - 1),
                Phase::Whole(_) => left.end,
                Phase::Failed(Failure::Disk { seen }) => match seen.bytes().min(left.end - 1) {
                    readable if left.start < readable => readable,
                    _ => return Err(Failure::Disk { seen: Arc::clone(seen) }),
                },
                Phase::Failed(failure) => return Err(failure.clone()),
            };
            if left.start < readable {
                return Ok(readable);
            }
            // The sender lives as long as the fill, and the fill as long as its followers.
            let _ = self.phase.changed().await;
        }
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes, Arc<str>> {
        self.blob.read(&range).await.map_err(|error| format!("the cache's disk: {error}").into())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if matches!(*self.phase.borrow(), Phase::Whole(_)) {
            self.request.served();
        }
    }
}

impl Remainder {
    /// The hash of all bytes before the first one that [`Remainder::continue_with`] needs.
    #[must_use]
    pub fn seen(&self) -> &Hasher {
        &self.seen
    }

    /// The blob's size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.follower.size()
    }

    /// The bytes that the follower still needs. `rest` is the rest of the blob after [`Remainder::seen`], from
    /// elsewhere.
    #[must_use]
    pub fn continue_with(self, rest: Verified) -> ByteStream {
        let at = self.seen.bytes();
        if self.left.start >= at {
            return part_of(rest, at, self.left);
        }
        // The follower has all bytes but the last. The file has the last byte, too, and only the proof is missing.
        stream::once(self.last_byte(rest)).boxed()
    }

    async fn last_byte(self, mut rest: Verified) -> backends::Result<Bytes> {
        while let Some(piece) = rest.next().await {
            piece?;
        }
        let read = self.follower.read(self.left).await;
        read.map_err(|why| Error::new(Kind::Unavailable, why.to_string()))
    }
}
