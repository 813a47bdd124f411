//! A source cut into parts, for stores that take large objects piece by piece.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use tokio::time::timeout;

use crate::upload::PIECE;
use crate::{ByteStream, Digest, Error, Hasher, Kind, Proof, Result, Source};

/// Parts being sent at once, to one `put`; one more is being read.
pub(crate) const PARTS_IN_FLIGHT: usize = 2;

/// What comes in pieces of fewer bytes is gathered: each piece that is kept costs some beside its own.
const CRUMB: usize = 16 * 1024;

/// A part in memory.
pub(crate) struct Part {
    /// From 1.
    pub(crate) number: u64,
    pub(crate) digest: Digest,
    pub(crate) pieces: Vec<Bytes>,
}

/// Reads a source once, in order, into parts, and proves it on the way.
pub(crate) struct Parts {
    pieces: ByteStream,
    rest: Bytes,
    proof: Proof,
    part_size: u64,
    number: u64,
    stall: Duration,
}

impl Parts {
    /// Opens the source. Parts are of `part_size` bytes, save the last.
    pub(crate) async fn open(source: &Source, part_size: u64, stall: Duration) -> Result<Self> {
        Ok(Self {
            pieces: bounded(stall, source.open(0..source.size())).await?,
            rest: Bytes::new(),
            proof: Proof::new(source.digest(), source.size(), Hasher::new()),
            part_size,
            number: 0,
            stall,
        })
    }

    /// The parts one after the other.
    pub(crate) fn stream(self) -> impl Stream<Item = Result<Part>> + Send {
        stream::try_unfold(self, |mut parts| async move { Ok(parts.next().await?.map(|part| (part, parts))) })
    }

    /// The next part; the last one only if the whole is proven.
    pub(crate) async fn next(&mut self) -> Result<Option<Part>> {
        let mut left = self.part_size;
        let mut hasher = Hasher::new();
        let mut pieces = Vec::new();
        while left > 0 {
            if self.rest.is_empty() {
                if self.proof.is_complete()? {
                    break;
                }
                self.rest = self.read().await?;
            }
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
            let piece = self.rest.split_to(self.rest.len().min(most));
            self.proof.admit(&piece)?;
            hasher.update(&piece);
            left -= piece.len() as u64;
            pieces.push(piece);
        }
        if pieces.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        Ok(Some(Part { number: self.number, digest: hasher.finish(), pieces }))
    }

    /// What comes next; of crumbs as many as make a piece.
    async fn read(&mut self) -> Result<Bytes> {
        let first = self.read_once().await?;
        if first.len() >= CRUMB || first.len() as u64 >= self.proof.missing() {
            return Ok(first);
        }
        let most = usize::try_from(self.proof.missing()).unwrap_or(usize::MAX).min(PIECE);
        let mut gathered = BytesMut::with_capacity(most);
        gathered.extend_from_slice(&first);
        while gathered.len() < most {
            gathered.extend_from_slice(&self.read_once().await?);
        }
        Ok(gathered.freeze())
    }

    async fn read_once(&mut self) -> Result<Bytes> {
        let next = async { self.pieces.next().await.transpose() };
        bounded(self.stall, next).await?.ok_or_else(|| {
            Error::new(Kind::Corrupt, format!("the source ended {} bytes short", self.proof.missing()))
        })
    }
}

/// A step of the source, which has bounds of its own; this one is for those who have none.
async fn bounded<T>(bound: Duration, step: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(bound, step)
        .await
        .unwrap_or_else(|_| Err(Error::new(Kind::Source, "read the source: no progress")))
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::Arc;

    use async_trait::async_trait;

    use super::*;
    use crate::Open;

    /// Gives its bytes one by one.
    struct Trickling(Bytes);

    #[async_trait]
    impl Open for Trickling {
        async fn open(&self, range: Range<u64>) -> Result<ByteStream> {
            let bytes = self.0.clone();
            Ok(stream::iter(range).map(move |at| Ok(bytes.slice(at as usize..at as usize + 1))).boxed())
        }
    }

    #[tokio::test]
    async fn a_part_costs_what_it_has_in_bytes() {
        let bytes = Bytes::from(vec![7; 300_000]);
        let trickling = Arc::new(Trickling(bytes.clone()));
        let source = Source::new(bytes.len() as u64, Digest::of(&bytes), trickling);
        let mut parts = Parts::open(&source, 200_000, Duration::from_secs(1)).await.expect("opens");
        let mut read = Vec::new();
        while let Some(part) = parts.next().await.expect("reads") {
            assert!(part.pieces.len() <= 4, "{} pieces of {} bytes", part.pieces.len(), 200_000);
            let whole = part.pieces.concat();
            assert_eq!(part.digest, Digest::of(&whole));
            read.extend(whole);
        }
        assert_eq!(read, bytes);
    }
}
