//! A client that reads behind a fill.

use std::ops::Range;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use backends::ByteStream;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::watch;

use super::fill::{Failure, Fill, Head, Opened, Phase};
use super::outcome::CachedBlob;
use crate::http::BodyError;

/// One reader of a fill. Its last byte comes only when the blob is proven.
pub(crate) struct Follower {
    fill: Arc<Fill>,
    phase: watch::Receiver<Phase>,
}

impl Follower {
    pub(super) fn new(fill: &Arc<Fill>) -> Self {
        fill.reader_came();
        Self { fill: Arc::clone(fill), phase: fill.phase.subscribe() }
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
    pub(crate) fn size(&self) -> u64 {
        self.head().map_or(0, |head| head.blob.size)
    }

    /// Where it comes from.
    pub(crate) fn source(&self) -> Arc<str> {
        self.head().map_or_else(|| "".into(), |head| Arc::clone(&head.from))
    }

    /// The blob, if it is whole within `bound`.
    pub(crate) async fn whole_within(&mut self, bound: Duration) -> Option<CachedBlob> {
        let whole = self.phase.wait_for(|phase| matches!(phase, Phase::Whole | Phase::Failed(_)));
        let ended = tokio::time::timeout(bound, whole).await.ok()?.ok()?.clone();
        let head = self.head()?;
        matches!(ended, Phase::Whole).then(|| head.blob.clone())
    }

    /// The whole body.
    pub(crate) fn into_stream(self) -> impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static {
        let left = 0..self.size();
        let tail = Tail { follower: self, left, rest: None };
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
        self.fill.reader_left();
    }
}

/// A body under way.
struct Tail {
    follower: Follower,
    left: Range<u64>,
    /// The rest past a failed disk, beginning at the byte up to which the file can be read.
    rest: Option<ByteStream>,
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
                Phase::Failed(Failure::Disk { seen }) if self.left.start < seen.bytes() => seen.bytes(),
                Phase::Failed(Failure::Disk { seen }) => return self.past_the_disk(seen).await,
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
        let rest = match &mut self.rest {
            Some(rest) => rest,
            None => {
                let resume = self.follower.head().and_then(|head| head.resume.clone());
                let Some(resume) = resume else {
                    return Err(BodyError::Blob("the cache's disk failed".into()));
                };
                self.rest.insert(resume(seen))
            }
        };
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
