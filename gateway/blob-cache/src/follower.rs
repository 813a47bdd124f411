//! A client that reads behind a fill, all of the blob or a part.

use std::ops::Range;
use std::sync::{Arc, PoisonError};

use backends::ByteStream;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::watch;

use super::demand::Asked;
use super::fill::{Failure, Fill, Head, Opened, Phase};
use super::part::proven_part;
use gateway_http::BodyError;

/// One reader of a fill. The last byte of what it reads, be it all or a part, comes only when the blob is
/// proven.
pub struct Follower {
    fill: Arc<Fill>,
    phase: watch::Receiver<Phase>,
    asked: Option<Asked>,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").finish_non_exhaustive()
    }
}

impl Follower {
    pub(super) fn new(fill: &Arc<Fill>) -> Self {
        fill.reader_came();
        Self { fill: Arc::clone(fill), phase: fill.phase.subscribe(), asked: None }
    }

    /// Stands for this request.
    pub(super) fn asking(mut self, asked: Asked) -> Self {
        self.asked = Some(asked);
        self
    }

    /// Waits until the blob is open; then [`Follower::size`] and [`Follower::source`] are known.
    pub(super) async fn opened(&mut self) -> Result<(), Failure> {
        loop {
            match &*self.phase.borrow_and_update() {
                Phase::Opening => {}
                Phase::Filling(_) | Phase::Whole => return Ok(()),
                Phase::Failed(failure) => return Err(failure.clone()),
            }
            // The sender lives as long as the fill, and the fill as long as its followers.
            let _ = self.phase.changed().await;
        }
    }

    /// The stream of a blob that is not kept: for the first who asks.
    pub(super) fn take_unkept(&self) -> Option<Opened> {
        self.fill.unkept.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn head(&self) -> Option<&Head> {
        self.fill.head.get()
    }

    /// The blob's size in bytes.
    pub fn size(&self) -> u64 {
        self.head().map_or(0, |head| head.blob.size)
    }

    /// Where it comes from.
    pub fn source(&self) -> Arc<str> {
        self.head().map_or_else(|| "".into(), |head| Arc::clone(&head.from))
    }

    /// These bytes of the blob, as they come in.
    pub fn into_stream(
        self,
        range: Range<u64>,
    ) -> impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static {
        let left = range.start..range.end.min(self.size());
        let tail = Tail { follower: self, left, rest: None, is_cut: false };
        stream::unfold(Some(tail), |tail| async move {
            let mut tail = tail?;
            match tail.next().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(tail))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(asked) = &mut self.asked
            && matches!(*self.phase.borrow(), Phase::Whole)
        {
            asked.served();
        }
        self.fill.reader_left();
    }
}

/// A body under way.
struct Tail {
    follower: Follower,
    left: Range<u64>,
    /// What is left past a failed disk.
    rest: Option<ByteStream>,
    /// Whether that is the part that is wanted, no longer all of the blob's rest.
    is_cut: bool,
}

impl Tail {
    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        while !self.left.is_empty() {
            let phase = self.follower.phase.borrow_and_update().clone();
            let readable = match phase {
                Phase::Opening => 0,
                // The last byte is withheld until the digest is proven.
                Phase::Filling(written) => written.min(self.left.end - 1),
                Phase::Whole => self.left.end,
                Phase::Failed(Failure::Disk { seen }) => match seen.bytes().min(self.left.end - 1) {
                    readable if self.left.start < readable => readable,
                    _ => return self.past_the_disk(seen).await,
                },
                Phase::Failed(failure) => return Err(BodyError::Blob(failure.to_string())),
            };
            if self.left.start < readable {
                return self.read(readable).await.map(Some);
            }
            // The sender lives as long as the fill, and the fill as long as its followers.
            let _ = self.follower.phase.changed().await;
        }
        Ok(None)
    }

    async fn read(&mut self, readable: u64) -> Result<Bytes, BodyError> {
        let Some(head) = self.follower.head() else {
            return Err(BodyError::Blob("the fill was never open".into()));
        };
        let left = self.left.start..readable;
        let read = match head.blob.read_now(&left) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => head.blob.read_from_disk(&left).await,
            Err(error) => Err(error),
        };
        let bytes = read.map_err(|error| BodyError::Blob(format!("the cache's disk: {error}")))?;
        self.left.start += bytes.len() as u64;
        Ok(bytes)
    }

    async fn past_the_disk(&mut self, seen: backends::Hasher) -> Result<Option<Bytes>, BodyError> {
        let resume = || self.follower.head().and_then(|head| head.resume.clone());
        let failed = || BodyError::Blob("the cache's disk failed".into());
        let at = seen.bytes();
        let rest = match &mut self.rest {
            Some(rest) => rest,
            None => {
                let rest = resume().ok_or_else(failed)?(seen);
                self.rest.insert(rest)
            }
        };
        if self.left.start < at {
            // All but the last byte was in the file, and so is that: only the proof is missing.
            while let Some(piece) = rest.next().await {
                piece.map_err(|error| BodyError::Blob(error.to_string()))?;
            }
            return self.read(self.left.end).await.map(Some);
        }
        if !self.is_cut {
            let whole = std::mem::replace(rest, stream::empty().boxed());
            *rest = proven_part(whole, at, self.left.clone());
            self.is_cut = true;
        }
        match rest.next().await {
            Some(Ok(bytes)) => {
                self.left.start += bytes.len() as u64;
                Ok(Some(bytes))
            }
            Some(Err(error)) => Err(BodyError::Blob(error.to_string())),
            None => Err(BodyError::Blob("the rest ended early".into())),
        }
    }
}
