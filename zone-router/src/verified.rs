//! Bodies that end without an error only if their bytes match their digest.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use backends::{ByteStream, Digest, Error, Hasher, Kind, Proof, Result};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};

/// The body of a blob, or the rest of one, which is hashed while it passes. It ends without an error only if its digest
/// is right. Until that is known, it withholds the chunk that completes its size, or, if no size is known, the last
/// chunk.
///
/// Only code that hashes can make such a body: a read of the router, and [`Verified::hashing`]. No method changes the
/// bytes.
pub struct Verified {
    digest: Digest,
    size: Option<u64>,
    body: ByteStream,
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (digest, size) = (&self.digest, &self.size);
        f.debug_struct("Verified").field("digest", digest).field("size", size).finish_non_exhaustive()
    }
}

impl Verified {
    /// Wraps a body from elsewhere, and hashes it here. With a `size` in bytes, a body of any other length fails.
    #[must_use]
    pub fn hashing(body: ByteStream, digest: Digest, size: Option<u64>) -> Self {
        let body = match size {
            Some(size) => sized(body, Proof::new(digest, size, Hasher::new())),
            None => unsized_(body, digest),
        };
        Self { digest, size, body }
    }

    /// Wraps a body that its reader in this crate proves.
    pub(crate) fn by_reader(body: ByteStream, digest: Digest, size: Option<u64>) -> Self {
        Self { digest, size, body }
    }

    /// The digest of the whole blob.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The size of the whole blob in bytes. `None` if nobody knows it.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Calls `done` once, when the body has ended without an error or has given all bytes of the blob. The second case
    /// is needed because over HTTP/1.1 nobody polls for the end of a body after its last byte.
    #[must_use]
    pub fn when_proven(self, done: impl FnOnce() + Send + 'static) -> Self {
        let (mut done, mut left) = (Some(done), self.size);
        let mut body = self.body;
        let body = stream::poll_fn(move |context| {
            let polled = body.poll_next_unpin(context);
            let is_over = match &polled {
                Poll::Ready(Some(Ok(bytes))) => {
                    left = left.and_then(|left| left.checked_sub(bytes.len() as u64));
                    left == Some(0)
                }
                Poll::Ready(Some(Err(_))) => {
                    done = None;
                    false
                }
                Poll::Ready(None) => true,
                Poll::Pending => false,
            };
            if is_over && let Some(done) = done.take() {
                done();
            }
            polled
        });
        Self { body: body.boxed(), ..self }
    }

    /// Waits after each chunk of bytes for as long as `wait` says. No more of the body is read meanwhile.
    #[must_use]
    pub fn paced<W>(self, mut wait: impl FnMut(usize) -> W + Send + 'static) -> Self
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let body = self.body.then(move |item| {
            let waiting = item.as_ref().ok().map(|bytes| wait(bytes.len()));
            async move {
                if let Some(waiting) = waiting {
                    waiting.await;
                }
                item
            }
        });
        Self { body: body.boxed(), ..self }
    }

    /// Keeps `guard` until the body is dropped.
    #[must_use]
    pub fn holding(self, guard: impl Send + 'static) -> Self {
        let body = self.body.inspect(move |_| {
            let _held = &guard;
        });
        Self { body: body.boxed(), ..self }
    }
}

impl Stream for Verified {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.body.poll_next_unpin(context)
    }
}

fn sized(body: ByteStream, proof: Proof) -> ByteStream {
    stream::unfold(Some((body, proof)), |state| async move {
        let (mut body, mut proof) = state?;
        match proof.is_complete() {
            Ok(true) => return None,
            Ok(false) => {}
            Err(error) => return Some((Err(error), None)),
        }
        let item = match body.next().await {
            Some(Ok(bytes)) => proof.admit(&bytes).map(|()| bytes),
            Some(Err(error)) => Err(error),
            None => Err(Error::new(Kind::Unavailable, "the body ended early")),
        };
        let rest = item.is_ok().then_some((body, proof));
        Some((item, rest))
    })
    .boxed()
}

fn unsized_(body: ByteStream, digest: Digest) -> ByteStream {
    let start = Some((body, Hasher::new(), Bytes::new()));
    stream::unfold(start, move |state| async move {
        let (mut body, mut hasher, mut held) = state?;
        loop {
            match body.next().await {
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => {
                    hasher.update(&bytes);
                    let ready = std::mem::replace(&mut held, bytes);
                    if !ready.is_empty() {
                        return Some((Ok(ready), Some((body, hasher, held))));
                    }
                }
                Some(Err(error)) => return Some((Err(error), None)),
                None => return last(hasher, held, digest).map(|item| (item, None)),
            }
        }
    })
    .boxed()
}

fn last(hasher: Hasher, held: Bytes, digest: Digest) -> Option<Result<Bytes>> {
    if hasher.finish() != digest {
        return Some(Err(Error::new(Kind::Corrupt, format!("{digest}: the digest is another"))));
    }
    (!held.is_empty()).then_some(Ok(held))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::TryStreamExt;

    use super::*;

    async fn through(chunks: &'static [&'static str], size: Option<u64>) -> (String, bool) {
        let body = stream::iter(chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk.as_bytes())))).boxed();
        let mut out = String::new();
        let mut body = Verified::hashing(body, Digest::of(b"hello world"), size);
        loop {
            match body.try_next().await {
                Ok(Some(bytes)) => out.push_str(&String::from_utf8_lossy(&bytes)),
                Ok(None) => return (out, true),
                Err(_) => return (out, false),
            }
        }
    }

    #[tokio::test]
    async fn right_bytes_pass_and_wrong_ones_never_complete() {
        for size in [Some(11), None] {
            assert_eq!(through(&["hello", " ", "world"], size).await, ("hello world".into(), true));
            assert_eq!(through(&["hello", " ", "World"], size).await, ("hello ".into(), false));
            assert!(!through(&["hello", " "], size).await.1);
            assert!(!through(&["hello", " world!"], size).await.1);
        }
        for size in [Some(0), Some(11), None] {
            assert_eq!(through(&[], size).await, (String::new(), false), "{size:?}");
        }
    }

    #[tokio::test]
    async fn done_only_at_a_right_end() {
        // HTTP/1.1 does not poll for the end of a body after its last byte.
        for (last, polls, size, expected) in [
            (Ok(Bytes::from_static(b"b")), 2, Some(2), 1),
            (Ok(Bytes::from_static(b"b")), 3, Some(2), 1),
            (Ok(Bytes::from_static(b"b")), 2, None, 0),
            (Ok(Bytes::from_static(b"b")), 3, None, 1),
            (Err(Error::new(Kind::Corrupt, "wrong")), 3, Some(2), 0),
            (Err(Error::new(Kind::Corrupt, "wrong")), 3, None, 0),
        ] {
            let count = Arc::new(AtomicUsize::new(0));
            let seen = Arc::clone(&count);
            let body = stream::iter([Ok(Bytes::from_static(b"a")), last]).boxed();
            let mut body = Verified::by_reader(body, Digest::of(b"ab"), size).when_proven(move || {
                seen.fetch_add(1, Ordering::Relaxed);
            });
            for _ in 0..polls {
                body.next().await;
            }
            assert_eq!(count.load(Ordering::Relaxed), expected, "{size:?} {polls}");
        }
    }
}
