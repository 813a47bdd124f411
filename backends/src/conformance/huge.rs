//! Tests with one object of 100 MiB, which is never in memory as a whole.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{CaseResult, MIB, Suite, ensure, noise, same};
use crate::{ByteStream, Digest, Hasher, Key, Kind, Open, Result, Source};

/// Its size in bytes. It is not a multiple of any size at which drivers cut.
const SIZE: u64 = 100 * MIB as u64 + 1;
/// Bytes that are generated at a time.
const BLOCK: u64 = 256 * 1024;
/// Bytes that are read around each edge.
const AROUND: u64 = 70_000;

pub(super) async fn huge_object(suite: &Suite) -> CaseResult {
    if !suite.options.huge {
        return Ok(());
    }
    let made = Arc::new(Pattern::new());
    let digest = made.digest();
    let key = suite.key("huge");
    let open = Arc::clone(&made);
    suite.store.put(&key, &Source::new(SIZE, digest, open)).await.map_err(|error| error.to_string())?;
    let size = suite.store.head(&key).await.map_err(|error| error.to_string())?.map(|meta| meta.size);
    same("the size", &size, &Some(SIZE))?;
    reads(suite, &key, &made, None).await?;
    for edge in [5, 8, 16, 32, 64, 96].map(|edge| edge * MIB as u64) {
        reads(suite, &key, &made, Some(edge - AROUND..edge + AROUND)).await?;
    }
    reads(suite, &key, &made, Some(SIZE - 1..u64::MAX)).await?;
    suite.remove(&key).await?;
    suite.is_absent(&key).await?;

    let wrong = Source::new(SIZE, Digest::of(b"another"), made);
    super::fails("put of wrong bytes", suite.store.put(&key, &wrong).await, &[Kind::Corrupt])?;
    suite.is_absent(&key).await
}

/// Reads a range and compares the bytes while they arrive.
async fn reads(suite: &Suite, key: &Key, made: &Pattern, range: Option<Range<u64>>) -> CaseResult {
    let what = format!("{range:?}");
    let object = suite.store.get(key, range).await.map_err(|error| format!("{what}: {error}"))?;
    let mut object = object.ok_or_else(|| format!("{what}: it is gone"))?;
    let mut at = object.range.start;
    while let Some(piece) = object.body.try_next().await.map_err(|error| format!("{what}: {error}"))? {
        let end = at + piece.len() as u64;
        let mut rest = &piece[..];
        for expected in made.blocks(at..end) {
            let (here, further) = rest.split_at(expected.len());
            ensure(here == &expected[..], || format!("{what}: other bytes near {at}"))?;
            rest = further;
        }
        at = end;
    }
    same("the end", &at, &object.range.end)
}

/// Bytes that are computed from their offset.
struct Pattern {
    block: Bytes,
}

impl Pattern {
    fn new() -> Self {
        Self { block: noise(9, BLOCK as usize) }
    }

    /// The bytes of `range`, block by block.
    fn blocks(&self, range: Range<u64>) -> impl Iterator<Item = Bytes> + use<> {
        let block = self.block.clone();
        (range.start / BLOCK..range.end.div_ceil(BLOCK)).map(move |index| {
            // Every block is different.
            let mut bytes = block.to_vec();
            bytes[..8].copy_from_slice(&index.to_be_bytes());
            let first = index * BLOCK;
            let (from, to) = (range.start.max(first), range.end.min(first + BLOCK));
            Bytes::from(bytes).slice((from - first) as usize..(to - first) as usize)
        })
    }

    fn digest(&self) -> Digest {
        let mut hasher = Hasher::new();
        self.blocks(0..SIZE).for_each(|block| hasher.update(&block));
        hasher.finish()
    }
}

#[async_trait]
impl Open for Pattern {
    async fn open(&self, range: Range<u64>) -> Result<ByteStream> {
        Ok(stream::iter(self.blocks(range).map(Ok)).boxed())
    }
}
