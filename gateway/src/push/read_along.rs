//! Copies a body while it passes through.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::{Mutex, MutexGuard};

use gateway_http::{Body, BodyError};
use limits::memory::Reservation;

/// The error of a body that cannot be copied because memory ran out.
pub(crate) const NO_ROOM: &str = "limits.memory has no room";

/// The first capacity of a copy in bytes, if the body promises at least that many. The capacity doubles when
/// it is full.
const FIRST: usize = 64 * 1024;

/// The memory that a manifest takes, as a multiple of its bytes: they are copied, and then parsed to at most twice as
/// much (`registry::local_blobs`).
const TIMES: u64 = 3;

/// The bytes of a body that were copied so far. The copy is complete once the body has ended. Its memory is
/// reserved while any clone lives.
#[derive(Clone)]
pub(crate) struct ReadAlongCopy(Arc<Mutex<State>>);

struct State {
    /// `None` if the body has more than `limit` bytes.
    bytes: Option<Vec<u8>>,
    limit: usize,
    /// The number of bytes that the body promises.
    size: usize,
    /// [`TIMES`] the capacity of `bytes`.
    memory: Reservation,
    had_no_room: bool,
}

impl ReadAlongCopy {
    /// Takes the bytes. `None` if there were more than the limit.
    pub(crate) fn take(&self) -> Option<Bytes> {
        self.lock().bytes.take().map(Bytes::from)
    }

    /// Whether the body ended in an error because memory ran out.
    pub(crate) fn had_no_room(&self) -> bool {
        self.lock().had_no_room
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl State {
    fn add(&mut self, data: &[u8]) -> Result<(), BodyError> {
        let Some(bytes) = &mut self.bytes else { return Ok(()) };
        let needed = bytes.len() + data.len();
        if needed > self.limit {
            self.bytes = None;
            self.memory.resize(0);
            return Ok(());
        }
        if needed > bytes.capacity() {
            let room = (2 * bytes.capacity()).max(FIRST).min(self.size).max(needed);
            if !self.memory.needs(TIMES * room as u64) {
                self.had_no_room = true;
                return Err(BodyError::NoRoom(NO_ROOM));
            }
            bytes.reserve_exact(room - bytes.len());
        }
        bytes.extend_from_slice(data);
        Ok(())
    }
}

/// Wraps a body. Returns the same body, and a copy of it that stays empty if the body has more than `limit`
/// bytes. `size` is the number of bytes that the body promises. `memory` grows with the copy; if it cannot
/// grow, the body ends in an error.
pub(crate) fn body(body: Body, limit: u64, size: u64, memory: Reservation) -> (Body, ReadAlongCopy) {
    let [limit, size] = [limit, size].map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    let state = State { bytes: Some(Vec::new()), limit, size, memory, had_no_room: false };
    let copy = ReadAlongCopy(Arc::new(Mutex::new(state)));
    (Body::new(ReadAlong { body, copy: copy.clone() }), copy)
}

struct ReadAlong {
    body: Body,
    copy: ReadAlongCopy,
}

impl http_body::Body for ReadAlong {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let item = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &item
            && let Some(data) = frame.data_ref()
        {
            let added = self.copy.lock().add(data);
            if let Err(error) = added {
                return Poll::Ready(Some(Err(error)));
            }
        }
        Poll::Ready(item)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use limits::memory::{Memory, Use};

    /// The bytes reserved for a body of 4 MiB that arrives in these pieces, and whether each piece was passed
    /// on.
    fn reserved(budget: u64, pieces: &[usize]) -> Vec<(u64, bool)> {
        let memory = Memory::new(budget);
        let nothing = memory.reserve(Use::Manifests, None, 0).expect("0 bytes can always be reserved");
        let (_, copy) = body(Body::empty(), 4 << 20, 4 << 20, nothing);
        let add = |bytes: usize| copy.lock().add(&vec![0; bytes]).is_ok();
        let reserved = || memory.status().reserved[Use::Manifests as usize];
        let seen =
            pieces.iter().map(|bytes| (add(*bytes), reserved())).map(|(ok, bytes)| (bytes, ok)).collect();
        drop(copy);
        assert_eq!(reserved(), 0);
        seen
    }

    #[tokio::test]
    async fn memory_is_reserved_as_bytes_arrive() {
        let first = TIMES * FIRST as u64;
        let pieces = [1, FIRST - 1, 1, (4 << 20) - FIRST - 1, 1];
        let all = [(first, true), (first, true), (2 * first, true), (TIMES * (4 << 20), true), (0, true)];
        assert_eq!(reserved(TIMES * (4 << 20), &pieces), all);
        assert_eq!(reserved(first, &pieces[..3]), [(first, true), (first, true), (first, false)]);
    }

    async fn copied(limit: u64) -> Option<Bytes> {
        let memory =
            Memory::new(1000).reserve(Use::Manifests, None, 0).expect("0 bytes can always be reserved");
        let (body, copy) = body(Body::full("manifest"), limit, 8, memory);
        let passed = body.collect().await.expect("no error").to_bytes();
        assert_eq!(passed, "manifest");
        copy.take()
    }

    #[tokio::test]
    async fn a_copy_has_all_bytes_or_none() {
        assert_eq!(copied(8).await.as_deref(), Some(&b"manifest"[..]));
        assert_eq!(copied(7).await, None);
    }
}
