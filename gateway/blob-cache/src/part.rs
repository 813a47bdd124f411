//! Streams a part of a body and withholds its last byte until the whole body is proven.

use std::ops::Range;

use backends::{ByteStream, Error, Kind, Result};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use zone_router::Verified;

/// Streams the bytes `range` of a blob, out of a body that begins at byte `at` of the blob. The part's last byte is
/// returned only after the body has ended, so that no part is complete before the digest of the whole is checked.
///
/// The range must not be empty, and must begin at `at` or later.
#[must_use]
pub fn part_of(body: Verified, at: u64, range: Range<u64>) -> ByteStream {
    cut(body, at, range)
}

fn cut(
    body: impl Stream<Item = Result<Bytes>> + Send + Unpin + 'static,
    at: u64,
    range: Range<u64>,
) -> ByteStream {
    let part = Part { body, at, left: range, last: None };
    stream::unfold(Some(part), |part| async move {
        let mut part = part?;
        match part.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(part))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

struct Part<B> {
    body: B,
    /// The position in the blob at which the next piece of the body begins.
    at: u64,
    /// The bytes that are still to be returned, including the last one.
    left: Range<u64>,
    /// The last byte, once it has arrived.
    last: Option<Bytes>,
}

impl<B: Stream<Item = Result<Bytes>> + Unpin> Part<B> {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        while !self.left.is_empty() {
            match self.body.next().await {
                Some(piece) => {
                    let ready = self.take(&piece?);
                    if !ready.is_empty() {
                        return Ok(Some(ready));
                    }
                }
                None => {
                    let Some(last) = self.last.take() else {
                        return Err(Error::new(Kind::Unavailable, "the body ended before the part did"));
                    };
                    self.left.start = self.left.end;
                    return Ok(Some(last));
                }
            }
        }
        Ok(None)
    }

    /// The bytes of a piece that may be returned now.
    fn take(&mut self, piece: &Bytes) -> Bytes {
        let here = self.at..self.at + piece.len() as u64;
        self.at = here.end;
        let cut = |from: u64, to: u64| {
            let (from, to) = (from.max(here.start), to.min(here.end));
            // Both positions are within the piece, so the casts cannot fail.
            if from < to {
                piece.slice((from - here.start) as usize..(to - here.start) as usize)
            } else {
                Bytes::new()
            }
        };
        let (ready, last) = (cut(self.left.start, self.left.end - 1), cut(self.left.end - 1, self.left.end));
        if !last.is_empty() {
            self.last = Some(last);
        }
        self.left.start += ready.len() as u64;
        ready
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn through(pieces: &[usize], at: u64, range: Range<u64>, proven: bool) -> (Vec<u8>, bool) {
        let mut next = at;
        let mut items: Vec<Result<Bytes>> = Vec::new();
        for length in pieces {
            items.push(Ok((next..next + *length as u64).map(|byte| byte as u8).collect::<Vec<_>>().into()));
            next += *length as u64;
        }
        if !proven {
            items.push(Err(Error::new(Kind::Corrupt, "the digest is another")));
        }
        let body = cut(stream::iter(items).boxed(), at, range);
        futures_util::FutureExt::now_or_never(body.collect::<Vec<_>>())
            .expect("nothing waits")
            .into_iter()
            .fold((Vec::new(), true), |(mut bytes, good), item| match item {
                Ok(piece) => {
                    bytes.extend_from_slice(&piece);
                    (bytes, good)
                }
                Err(_) => (bytes, false),
            })
    }

    proptest! {
        #[test]
        fn all_of_a_part_and_only_if_the_whole_is_proven(
            pieces in prop::collection::vec(0..9_usize, 1..9),
            at in 0..5_u64,
            ends in (0..1000_u64, 0..1000_u64),
            proven in any::<bool>(),
        ) {
            let size = pieces.iter().sum::<usize>() as u64;
            prop_assume!(size > 0);
            let (start, length) = (ends.0 % size, ends.1 % size + 1);
            let range = at + start..at + (start + length).min(size);
            let (bytes, complete) = through(&pieces, at, range.clone(), proven);
            let wanted: Vec<u8> = range.map(|byte| byte as u8).collect();
            prop_assert_eq!(complete, proven);
            match proven {
                true => prop_assert_eq!(bytes, wanted),
                false => prop_assert_eq!(&bytes[..], &wanted[..wanted.len() - 1]),
            }
        }
    }

    #[test]
    fn a_body_that_ends_before_the_part_is_an_error() {
        assert_eq!(through(&[3], 0, 1..5, true), (vec![1, 2], false));
        assert_eq!(through(&[3], 0, 4..5, true), (vec![], false));
    }
}
