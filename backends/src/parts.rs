//! Cuts a source into parts, for stores that take a large object in parts.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use tokio::time::timeout;

use crate::upload::PIECE;
use crate::{ByteStream, Digest, Error, Hasher, Kind, Proof, Result, Source};

/// The number of parts of one `put` that are sent at once. One more part is read meanwhile.
pub(crate) const PARTS_IN_FLIGHT: usize = 2;

/// Pieces smaller than this, in bytes, are merged, because each piece has an overhead in memory.
const MIN_PIECE: usize = 16 * 1024;

/// A part in memory.
pub(crate) struct Part {
    /// The number of the part, starting at 1.
    pub(crate) number: u64,
    pub(crate) digest: Digest,
    pub(crate) pieces: Vec<Bytes>,
}

/// Reads a source once and in order, cuts it into parts, and verifies its digest.
pub(crate) struct Parts {
    pieces: ByteStream,
    rest: Bytes,
    proof: Proof,
    part_size: u64,
    number: u64,
    stall: Duration,
}

impl Parts {
    /// Opens the source. Every part except the last has `part_size` bytes.
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

    /// The parts in order.
    pub(crate) fn stream(self) -> impl Stream<Item = Result<Part>> + Send {
        stream::try_unfold(self, |mut parts| async move { Ok(parts.next().await?.map(|part| (part, parts))) })
    }

    /// The next part. The last part is returned only if the digest of the whole is correct.
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

    /// The next piece. Small pieces are merged into one.
    async fn read(&mut self) -> Result<Bytes> {
        let first = self.read_once().await?;
        if first.len() >= MIN_PIECE || first.len() as u64 >= self.proof.missing() {
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

/// Bounds one step of the source. It matters only for a source that has no bound of its own.
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

    /// Returns its bytes one at a time.
    struct Trickling(Bytes);

    #[async_trait]
    impl Open for Trickling {
        async fn open(&self, range: Range<u64>) -> Result<ByteStream> {
            let bytes = self.0.clone();
            Ok(stream::iter(range).map(move |at| Ok(bytes.slice(at as usize..at as usize + 1))).boxed())
        }
    }

    #[tokio::test]
    async fn a_part_takes_no_more_memory_than_its_bytes() {
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
