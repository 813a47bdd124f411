//! Objects that a store returns.

use std::fmt;
use std::ops::Range;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::{Error, Key, Kind, Result};

/// The bytes of a body, in order. The first error ends the stream.
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

/// What a store says about an object, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Its key below the store's root.
    pub key: Key,
    /// Its whole size in bytes.
    pub size: u64,
    /// When the object was last written, if the store reports it.
    pub modified: Option<SystemTime>,
}

impl Meta {
    /// The range to read. `None` asks for the whole object. A range that reaches beyond the object's end is
    /// cut there.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if the range starts beyond the end, or at the end of an object that is not empty.
    pub(crate) fn part(&self, asked: Option<Range<u64>>) -> Result<Range<u64>> {
        let range = asked.map_or(0..self.size, |asked| asked.start..asked.end.min(self.size));
        if range.start > range.end || (range.start == self.size && self.size > 0) {
            return Err(Error::new(Kind::Invalid, format!("get {}: range starts beyond the end", self.key)));
        }
        Ok(range)
    }
}

/// An object that is being read.
pub struct Object {
    /// The size of the whole object in bytes, whatever part is read. `None` if the store did not report it,
    /// for example behind a proxy that uses chunked encoding.
    pub size: Option<u64>,
    /// The bytes that follow, never beyond `size`. If the whole object follows and its size is not known, the
    /// end is `u64::MAX`.
    pub range: Range<u64>,
    /// Exactly the bytes of `range`, or an error. The driver turns a body that is too short or too long into
    /// an error. If the end is not known, the body contains all bytes until the store ended it, which may be
    /// too early.
    pub body: ByteStream,
    /// The store's name for this version of the bytes (`ETag`), if it has one. Bytes that are written later
    /// have another version.
    pub version: Option<String>,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("size", &self.size).field("range", &self.range).finish_non_exhaustive()
    }
}
