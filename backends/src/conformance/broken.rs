//! Sources that fail, at any point where a driver may cut them.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};

use super::noise;
use crate::{ByteStream, Digest, Error, Kind, Open, Result, Source};

/// How a source fails. Offsets count from the start of the whole source.
#[derive(Debug, Clone, Copy)]
pub(super) enum Break {
    /// It cannot be opened.
    Shut,
    /// It fails before this byte, each time it is opened.
    Cut(u64),
    /// It ends one byte early, without an error.
    Short,
    /// The byte at this offset is wrong.
    Flip(u64),
    /// It stalls before this byte.
    Stall(u64),
}

/// A source of `size` bytes that fails in this way.
pub(super) fn broken(size: usize, how: Break) -> Source {
    let bytes = noise(8, size);
    Source::new(size as u64, Digest::of(&bytes), Arc::new(Broken { bytes, how }))
}

struct Broken {
    bytes: Bytes,
    how: Break,
}

#[async_trait]
impl Open for Broken {
    async fn open(&self, range: Range<u64>) -> Result<ByteStream> {
        let bytes = self.bytes.slice(range.start as usize..range.end as usize);
        let inside = |at: u64| range.contains(&at).then(|| (at - range.start) as usize);
        let failure = || Error::new(Kind::Unavailable, "the source broke off");
        let whole = |bytes: Bytes| stream::iter([Ok(bytes)]).boxed();
        Ok(match self.how {
            Break::Shut => return Err(Error::new(Kind::Denied, "the source does not open")),
            Break::Cut(at) if let Some(at) = inside(at) => {
                stream::iter([Ok(bytes.slice(..at)), Err(failure())]).boxed()
            }
            Break::Short if range.end == self.bytes.len() as u64 => {
                whole(bytes.slice(..bytes.len().saturating_sub(1)))
            }
            Break::Flip(at) if let Some(at) = inside(at) => {
                let mut wrong = BytesMut::from(&bytes[..]);
                wrong[at] ^= 1;
                whole(wrong.freeze())
            }
            Break::Stall(at) if let Some(at) = inside(at) => {
                stream::iter([Ok(bytes.slice(..at))]).chain(stream::pending()).boxed()
            }
            Break::Cut(_) | Break::Short | Break::Flip(_) | Break::Stall(_) => whole(bytes),
        })
    }
}
