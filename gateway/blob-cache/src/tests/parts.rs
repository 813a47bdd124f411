//! Tests of parts of a blob that is being filled.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt};

use super::{Hand, Pulled, half_filled, open, pull};
use crate::{Cache, Interrupted};

/// A part of `hello`, of which `hel` has arrived: the bytes that can be read now, and the rest.
async fn part(
    cache: &Arc<Cache>,
    hand: &Arc<Hand>,
    range: std::ops::Range<u64>,
    now: usize,
) -> (Vec<u8>, impl Stream<Item = Result<Bytes, Interrupted>> + Unpin + use<>) {
    let Pulled::Following(follower, _) = pull(cache, hand).await else { panic!("not followed") };
    let mut body = Box::pin(follower.into_stream(range));
    let mut bytes = Vec::new();
    while bytes.len() < now {
        bytes.extend_from_slice(&body.next().await.expect("more").expect("no error"));
    }
    assert!(body.next().now_or_never().is_none(), "more than is proven");
    (bytes, body)
}

#[tokio::test]
async fn a_part_is_read_up_to_the_watermark_and_completed_when_the_whole_is_proven() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path(), 1 << 20);
    let (send, hand, _follower) = half_filled(&cache).await;
    let mut parts = Vec::new();
    for (range, now) in [(0..2, "h"), (1..3, "e"), (2..3, ""), (1..5, "el"), (3..5, ""), (4..5, "")] {
        let (bytes, rest) = part(&cache, &hand, range.clone(), now.len()).await;
        assert_eq!(bytes, now.as_bytes(), "{range:?}");
        parts.push((range, bytes, rest));
    }
    send.send(Ok(Bytes::from_static(b"lo"))).await.expect("taken");
    drop(send);
    for (range, mut bytes, rest) in parts {
        bytes.extend(rest.map(|piece| piece.expect("no error")).collect::<Vec<_>>().await.concat());
        assert_eq!(bytes, &b"hello"[range.start as usize..range.end as usize], "{range:?}");
    }
    assert_eq!(hand.opened.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn no_part_of_wrong_bytes_is_completed() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path(), 1 << 20);
    let (send, hand, _follower) = half_filled(&cache).await;
    let (bytes, rest) = part(&cache, &hand, 0..2, 1).await;
    assert_eq!(bytes, b"h");
    // The wrong byte is behind the part, and the part fails all the same.
    send.send(Ok(Bytes::from_static(b"lO"))).await.expect("taken");
    drop(send);
    let rest: Vec<_> = rest.collect().await;
    assert!(matches!(rest[..], [Err(Interrupted::Broken(_))]), "completed");
}
