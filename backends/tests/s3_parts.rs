//! Parts that are too large for memory. They are streamed, and read again for each retry.

mod support;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use backends::s3::S3Store;
use backends::{ByteStream, Digest, Key, Kind, Open, Result, Source, Store, Timeouts};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use support::service::{Service, reply};

const MIB: u64 = 1024 * 1024;

fn bytes(size: u64) -> Bytes {
    (0..size).map(|at| (at / 1000 % 251) as u8).collect()
}

fn key() -> Key {
    Key::new("sha256/ab/abcd")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streamed_parts_make_an_object_only_if_the_digest_is_correct() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = support::config(support::s3_server(folder.path()).await);
    let transport = support::transport(Timeouts::default());
    let store = S3Store::new(&config, &transport).expect("builds").with_multipart(MIB, 17 * MIB);
    let bytes = bytes(40 * MIB + 3);
    let wrong = Source::new(bytes.len() as u64, Digest::of(b"other"), Arc::new(bytes.clone()));
    assert_eq!(store.put(&key(), &wrong).await.expect_err("wrong bytes").kind(), Kind::Corrupt);
    assert!(store.head(&key()).await.expect("answers").is_none());
    store.put(&key(), &Source::bytes(bytes.clone())).await.expect("written");
    let object = store.get(&key(), None).await.expect("answers").expect("there");
    let pieces: Vec<Bytes> = object.body.try_collect().await.expect("reads");
    assert!(pieces.concat() == bytes);
}

/// Returns wrong bytes of the same length at some of its openings.
struct Fickle {
    bytes: Bytes,
    opened: AtomicUsize,
    wrong: &'static [usize],
    /// How many bytes more than requested are returned.
    more: usize,
}

#[async_trait]
impl Open for Fickle {
    async fn open(&self, range: Range<u64>) -> Result<ByteStream> {
        let index = self.opened.fetch_add(1, Ordering::Relaxed);
        let mut part = self.bytes[range.start as usize..range.end as usize].to_vec();
        if self.wrong.contains(&index) {
            part[1000] ^= 1;
            part.extend(vec![0; self.more]);
        }
        let pieces: Vec<_> = part.chunks(100_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        Ok(stream::iter(pieces).boxed())
    }
}

/// Writes two parts of 17 and 3 MiB to a server that refuses the first try of the first part. The source is
/// opened three times: for the first part, for its retry, and for the second part.
async fn put_from(wrong: &'static [usize], more: usize) -> (Result<()>, Service, Bytes) {
    let tries = AtomicUsize::new(0);
    let server = Service::start(move |asked| {
        let initiated =
            "<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>";
        match asked.method.as_str() {
            "POST" if asked.path.ends_with("uploads=") => reply(200, initiated),
            "POST" => reply(200, "<CompleteMultipartUploadResult/>"),
            "PUT" if tries.fetch_add(1, Ordering::Relaxed) == 0 => reply(503, ""),
            "PUT" => reply(200, "").with("etag", "\"abc\""),
            _ => reply(204, ""),
        }
    })
    .await;
    let bytes = bytes(20 * MIB);
    let origin = Fickle { bytes: bytes.clone(), opened: AtomicUsize::new(0), wrong, more };
    let source = Source::new(bytes.len() as u64, Digest::of(&bytes), Arc::new(origin));
    let transport = support::transport(Timeouts::default());
    let store = S3Store::new(&support::config(server.address), &transport).expect("builds");
    let written = store.with_multipart(MIB, 17 * MIB).put(&key(), &source).await;
    (written, server, bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proof_covers_the_bytes_that_the_store_accepted() {
    let completed = |server: &Service| {
        server.asked(|asked| asked.method == "POST" && asked.path.contains("uploadId")).len()
    };
    for wrong in [&[][..], &[0]] {
        let (written, server, bytes) = put_from(wrong, 0).await;
        written.expect("written");
        let parts = server.asked(|asked| asked.method == "PUT");
        assert!([&parts[1].body[..], &parts[2].body].concat() == bytes);
        assert!(parts.iter().all(|part| part.header("x-amz-content-sha256") == Some("UNSIGNED-PAYLOAD")));
        assert_eq!(completed(&server), 1);
    }
    for (wrong, more) in [(&[1][..], 0), (&[2], 0), (&[0, 1], 0), (&[2], 5)] {
        let (written, server, _) = put_from(wrong, more).await;
        assert_eq!(written.expect_err("wrong bytes").kind(), Kind::Corrupt, "{wrong:?} {more}");
        assert_eq!(completed(&server), 0);
        assert_eq!(server.asked(|asked| asked.method == "DELETE").len(), 1);
    }
}
