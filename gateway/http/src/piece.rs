//! How many bytes of a body are read at once.

/// The largest piece, in bytes. It is large enough that system calls and TLS records cost little.
pub const PIECE_MAX: usize = 256 * 1024;

/// The smallest piece, in bytes: one TLS record.
pub const PIECE_MIN: usize = 16 * 1024;

tokio::task_local! {
    static LIMIT: usize;
}

/// Polls a body with a limit of `limit` bytes for its next piece. Bodies that read files respect this limit.
/// The limit belongs to the client's connection and is known only at the time of the poll.
pub fn limited<T>(limit: usize, poll: impl FnOnce() -> T) -> T {
    LIMIT.sync_scope(limit, poll)
}

/// The number of bytes that a body may read for its next piece.
pub fn limit() -> usize {
    LIMIT.try_with(|limit| *limit).unwrap_or(PIECE_MAX)
}
