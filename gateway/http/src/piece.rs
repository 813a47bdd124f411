//! How much of a body is read at once.

/// The largest piece of a body, in bytes: large enough that system calls and TLS records are cheap.
pub const PIECE_MAX: usize = 256 * 1024;

/// The smallest: a TLS record.
pub const PIECE_MIN: usize = 16 * 1024;

tokio::task_local! {
    static LIMIT: usize;
}

/// Polls a body whose next piece is to be no larger than `limit` bytes, if it is one that reads by itself.
/// The limit is the client's connection's, and known at the moment of the poll alone.
pub fn limited<T>(limit: usize, poll: impl FnOnce() -> T) -> T {
    LIMIT.sync_scope(limit, poll)
}

/// Bytes that a body may read for its next piece.
pub fn limit() -> usize {
    LIMIT.try_with(|limit| *limit).unwrap_or(PIECE_MAX)
}
