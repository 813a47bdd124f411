//! The faults of a store, and a body with a fault.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::watch;

use crate::body::{Body, BoxError, streamed};

/// What a [`Proxy`](crate::proxy::Proxy) does with requests and answers. The default does nothing.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// The delay before the head of every answer.
    pub latency: Duration,
    /// New connections are accepted but get no answer, and bodies in flight stop. When this ends, all of them
    /// continue.
    pub hang: bool,
    /// Every request is answered with this status and an S3 error. The store is not asked.
    pub status: Option<StatusCode>,
    /// The fault of the body of every successful GET.
    pub body: Option<BodyFault>,
    /// Answers have no length: their bodies are chunked.
    pub no_length: bool,
    /// The speed of an answer's body, in bytes per second and request.
    pub bandwidth: Option<u64>,
    /// If set, `status` and `body` apply only to requests whose path and query contain this.
    pub only: Option<String>,
    /// If set, `status` and `body` apply only this many more times.
    pub times: Option<u32>,
}

/// The fault of an answer's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFault {
    /// The connection breaks after this many bytes. Content-Length is correct.
    CutAfter(u64),
    /// The body stops after this many bytes until the fault is removed. Shorter bodies pass.
    HoldAfter(u64),
    /// The lowest bit of the byte at this offset of the body is flipped.
    FlipAt(u64),
    /// The last bytes are missing, and Content-Length agrees. `Content-Range` is not changed.
    Short(u64),
    /// This many zero bytes are appended, and Content-Length agrees. `Content-Range` is not changed.
    Long(u64),
    /// In this many of a thousand bodies, one random bit is flipped.
    Flips {
        /// How many of a thousand, up to 1000.
        of_1000: u32,
        /// Equal seeds flip the same bits of the same sequence of bodies.
        seed: u64,
    },
}

impl BodyFault {
    /// The Content-Length for a body of `length` bytes.
    #[must_use]
    pub fn announced(self, length: u64) -> u64 {
        match self {
            Self::CutAfter(_) | Self::HoldAfter(_) | Self::FlipAt(_) | Self::Flips { .. } => length,
            Self::Short(missing) => length.saturating_sub(missing),
            Self::Long(more) => length + more,
        }
    }

    /// The fault of body number `count` with `length` bytes. Random faults are decided here.
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

/// `inner` with faults. `fault` is the one at the time of the head; `hang` and `bandwidth` are read at each
/// piece.
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
    let state = FaultyBody { inner, fault, faults, held, sent: 0, end, rest: Bytes::new(), done: false };
    streamed(stream::unfold(state, |mut passing| async move {
        let piece = passing.next().await?;
        Some((piece, passing))
    }))
}

struct FaultyBody {
    inner: Incoming,
    fault: Option<BodyFault>,
    faults: watch::Receiver<Faults>,
    /// The number of bodies that were stopped so far.
    held: watch::Sender<u64>,
    sent: u64,
    /// The number of bytes after which the body ends, breaks or stops.
    end: u64,
    /// The bytes of the inner body beyond `end` that were read already.
    rest: Bytes,
    done: bool,
}

impl FaultyBody {
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
        // An error means that the proxy was dropped. The connection then ends too.
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
        // An error means that the proxy was dropped. The connection then ends too.
        let _ = self.faults.wait_for(|faults| !faults.hang).await;
    }
}

/// `piece`, which starts at offset `start` of the body. If the bit at `offset` lies in it, the bit is
/// flipped.
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
    fn flips_have_the_given_frequency_and_depend_on_the_seed() {
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
    fn one_bit_of_the_right_piece_is_flipped() {
        let piece = Bytes::from_static(&[0, 0, 0, 0]);
        assert_eq!(flipped(piece.clone(), 8, 10), [0, 0, 1, 0][..]);
        assert_eq!(flipped(piece.clone(), 8, 7), piece);
        assert_eq!(flipped(piece.clone(), 8, 12), piece);
    }
}
