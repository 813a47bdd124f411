//! Objects as a store gives them.

use std::fmt;
use std::ops::Range;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::{Error, Key, Kind, Result};

/// Bytes as they come, in order; the first error ends it.
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

/// What a store says of an object without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Its key below the store's root.
    pub key: Key,
    /// Its whole size in bytes.
    pub size: u64,
    /// When it was last written, if the store says so.
    pub modified: Option<SystemTime>,
}

impl Meta {
    /// The part that is asked for, `None` for the whole, cut at the object's end.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if it begins beyond the end, or at the end of what has bytes.
    pub(crate) fn part(&self, asked: Option<Range<u64>>) -> Result<Range<u64>> {
        let range = asked.map_or(0..self.size, |asked| asked.start..asked.end.min(self.size));
        if range.start > range.end || (range.start == self.size && self.size > 0) {
            return Err(Error::new(Kind::Invalid, format!("get {}: range starts beyond the end", self.key)));
        }
        Ok(range)
    }
}

/// An object being read.
pub struct Object {
    /// The size of the whole in bytes, whatever part of it is being read; `None` where the store did not
    /// say, as behind a proxy that sends chunks.
    pub size: Option<u64>,
    /// Which bytes follow; never beyond `size`. Its end is `u64::MAX` where all of the object follows and
    /// the store did not say how long it is.
    pub range: Range<u64>,
    /// Exactly the bytes of `range`, else an error: a driver turns short or long bodies into one. Where
    /// the end is not known, whatever came until the store ended it, which may be too early.
    pub body: ByteStream,
    /// What the store calls these bytes, if it does (`ETag`): what is written there later is called otherwise.
    pub version: Option<String>,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("size", &self.size).field("range", &self.range).finish_non_exhaustive()
    }
}
