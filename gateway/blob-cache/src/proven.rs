//! Bodies that end without an error only if they are what their digest names.

use backends::{ByteStream, Digest, Error, Hasher, Kind, Proof, Result};
use bytes::Bytes;
use futures_util::{StreamExt, stream};

/// A body with its end withheld until the digest is proven: the chunk that completes `size`, or,
/// where no size is known, the last chunk.
pub fn proven(body: ByteStream, digest: Digest, size: Option<u64>) -> ByteStream {
    match size {
        Some(size) => sized(body, Proof::new(digest, size, Hasher::new())),
        None => unsized_(body, digest),
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
    use futures_util::TryStreamExt;

    use super::*;

    async fn through(chunks: &'static [&'static str], size: Option<u64>) -> (String, bool) {
        let body = stream::iter(chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk.as_bytes())))).boxed();
        let mut out = String::new();
        let mut body = proven(body, Digest::of(b"hello world"), size);
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
}
