//! Images that are kept in the cache.

mod learn;

pub(crate) use self::learn::learn;
