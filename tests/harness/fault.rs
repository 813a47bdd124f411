//! What can be wrong with a store, and a body that has it.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::watch;

use crate::body::{Body, BoxError, streamed};

/// What a [`Proxy`](crate::proxy::Proxy) does to what passes. The default does nothing.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Waited before the head of every response.
    pub latency: Duration,
    /// Connections are taken and nothing is ever answered; bodies under way stop. Undone, all go on.
    pub hang: bool,
    /// Everything is answered with this status and an S3 error; the store is not asked.
    pub status: Option<StatusCode>,
    /// Done to the body of every successful GET.
    pub body: Option<BodyFault>,
    /// Responses come without their length: bodies in chunks.
    pub no_length: bool,
    /// Bytes of a response body per second and request.
    pub bandwidth: Option<u64>,
    /// `status` and `body` only where path and query contain this.
    pub only: Option<String>,
    /// `status` and `body` only so many times more.
    pub times: Option<u32>,
}

/// What is done to a response body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFault {
    /// The connection breaks after so many bytes; Content-Length is the true one.
    CutAfter(u64),
    /// Nothing follows after so many bytes until this is undone. Shorter bodies pass.
    HoldAfter(u64),
    /// The lowest bit of the byte at this offset of the body is the other one.
    FlipAt(u64),
    /// The last bytes are missing, and Content-Length agrees; `Content-Range` is the true one.
    Short(u64),
    /// So many zero bytes follow, and Content-Length agrees; `Content-Range` is the true one.
    Long(u64),
    /// Of a thousand bodies so many have one bit turned, at random.
    Flips {
        /// How many, up to 1000.
        of_1000: u32,
        /// Equal seeds turn the same bits of the same sequence of bodies.
        seed: u64,
    },
}

impl BodyFault {
    /// The Content-Length to announce for a body of `length` bytes.
    #[must_use]
    pub fn announced(self, length: u64) -> u64 {
        match self {
            Self::CutAfter(_) | Self::HoldAfter(_) | Self::FlipAt(_) | Self::Flips { .. } => length,
            Self::Short(missing) => length.saturating_sub(missing),
            Self::Long(more) => length + more,
        }
    }

    /// What becomes of the body that is number `count`, of `length` bytes: chance is taken here.
    #[must_use]
    pub(crate) fn drawn(self, count: u64, length: u64) -> Option<Self> {
        let (of_1000, seed) = match self {
            Self::HoldAfter(bytes) => return (length > bytes).then_some(self),
            Self::Flips { of_1000, seed } => (of_1000, seed),
            _ => return Some(self),
        };
        let mut random = fastrand::Rng::with_seed(seed ^ count.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        (length > 0 && random.u32(0..1000) < of_1000).then(|| Self::FlipAt(random.u64(0..length)))
    }
}

/// `inner` with faults: `fault` as it was at the head, `hang` and `bandwidth` as they are at each piece.
pub(crate) fn faulty(
    inner: Incoming,
    length: Option<u64>,
    fault: Option<BodyFault>,
    faults: watch::Receiver<Faults>,
    held: watch::Sender<u64>,
) -> Body {
    let end = match fault {
        Some(BodyFault::Short(missing)) => length.unwrap_or(0).saturating_sub(missing),
        Some(BodyFault::CutAfter(bytes) | BodyFault::HoldAfter(bytes)) => bytes,
        _ => u64::MAX,
    };
    let state = Passing { inner, fault, faults, held, sent: 0, end, rest: Bytes::new(), done: false };
    streamed(stream::unfold(state, |mut passing| async move {
        let piece = passing.next().await?;
        Some((piece, passing))
    }))
}

struct Passing {
    inner: Incoming,
    fault: Option<BodyFault>,
    faults: watch::Receiver<Faults>,
    /// Bodies that were held so far.
    held: watch::Sender<u64>,
    sent: u64,
    /// Bytes after which it ends, breaks or is held.
    end: u64,
    /// What came of the inner body beyond `end`.
    rest: Bytes,
    done: bool,
}

impl Passing {
    async fn next(&mut self) -> Option<Result<Bytes, BoxError>> {
        if self.done {
            return None;
        }
        if self.sent >= self.end {
            match self.fault {
                Some(BodyFault::HoldAfter(_)) => self.hold().await,
                _ => return self.at_end(),
            }
        }
        let mut piece = match std::mem::take(&mut self.rest) {
            rest if !rest.is_empty() => rest,
            _ => match self.inner_piece().await {
                Some(Ok(piece)) => piece,
                Some(Err(error)) => return Some(Err(error)),
                None => return self.after_last(),
            },
        };
        let room = usize::try_from(self.end - self.sent).unwrap_or(usize::MAX);
        self.rest = piece.split_off(room.min(piece.len()));
        if let Some(BodyFault::FlipAt(offset)) = self.fault {
            piece = flipped(piece, self.sent, offset);
        }
        self.wait(piece.len()).await;
        self.sent += piece.len() as u64;
        Some(Ok(piece))
    }

    async fn inner_piece(&mut self) -> Option<Result<Bytes, BoxError>> {
        loop {
            match self.inner.frame().await? {
                Ok(frame) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Some(Ok(data)),
                    Err(_trailers) => {}
                },
                Err(error) => {
                    self.done = true;
                    return Some(Err(error.into()));
                }
            }
        }
    }

    async fn hold(&mut self) {
        self.held.send_modify(|held| *held += 1);
        let undone = |faults: &Faults| !matches!(faults.body, Some(BodyFault::HoldAfter(_)));
        // An error says that the proxy is gone, and then the connection goes too.
        let _ = self.faults.wait_for(undone).await;
        (self.fault, self.end) = (None, u64::MAX);
    }

    fn at_end(&mut self) -> Option<Result<Bytes, BoxError>> {
        self.done = true;
        match self.fault {
            Some(BodyFault::CutAfter(_)) => Some(Err(io::Error::from(io::ErrorKind::ConnectionReset).into())),
            _ => None,
        }
    }

    fn after_last(&mut self) -> Option<Result<Bytes, BoxError>> {
        self.done = true;
        match self.fault {
            Some(BodyFault::Long(more)) => Some(Ok(Bytes::from(vec![0; usize::try_from(more).unwrap_or(0)]))),
            _ => None,
        }
    }

    async fn wait(&mut self, bytes: usize) {
        let bandwidth = self.faults.borrow().bandwidth;
        if let Some(rate) = bandwidth {
            tokio::time::sleep(Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64)).await;
        }
        // An error says that the proxy is gone, and then the connection goes too.
        let _ = self.faults.wait_for(|faults| !faults.hang).await;
    }
}

/// `piece`, which begins at `start` of the body, with the bit at `offset` turned if it lies in here.
fn flipped(piece: Bytes, start: u64, offset: u64) -> Bytes {
    let Some(at) = offset.checked_sub(start).and_then(|at| usize::try_from(at).ok()) else { return piece };
    let mut bytes = BytesMut::from(piece);
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_flips_as_wanted_and_the_same_for_a_seed() {
        let fault = BodyFault::Flips { of_1000: 10, seed: 7 };
        let drawn = || (0..100_000).map(|count| fault.drawn(count, 4096));
        let flips = drawn().flatten().count();
        assert!((900..1100).contains(&flips), "{flips}");
        assert!(drawn().eq(drawn()));
        let inside = |fault| matches!(fault, BodyFault::FlipAt(offset) if offset < 4096);
        assert!(drawn().flatten().all(inside));
        assert_eq!(BodyFault::Flips { of_1000: 1000, seed: 7 }.drawn(0, 0), None);
    }

    #[test]
    fn one_bit_of_the_right_piece() {
        let piece = Bytes::from_static(&[0, 0, 0, 0]);
        assert_eq!(flipped(piece.clone(), 8, 10), [0, 0, 1, 0][..]);
        assert_eq!(flipped(piece.clone(), 8, 7), piece);
        assert_eq!(flipped(piece.clone(), 8, 12), piece);
    }
}
