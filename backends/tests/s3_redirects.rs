//! How the S3 driver handles answers that name another region or host.

mod support;

use backends::s3::S3Store;
use backends::{Key, Kind, Source, Store};
use bytes::Bytes;
use futures_util::TryStreamExt;
use support::service::{Asked, Reply, Service, reply};

const MIB: usize = 1024 * 1024;
const PARTS: &str = "<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>";

fn key() -> Key {
    Key::new("sha256/ab/abcd")
}

fn store(server: &Service) -> S3Store {
    S3Store::new(&support::config(server.address), &support::transport(support::short())).expect("builds")
}

fn region(asked: &Asked) -> String {
    asked.credential().swap_remove(2)
}

/// The answer of a store to requests that are signed for its region.
fn fine(asked: &Asked) -> Reply {
    match asked.method.as_str() {
        "HEAD" => reply(200, "").with("content-length", "5"),
        "GET" => reply(200, "hello"),
        "POST" if asked.path.ends_with("uploads=") => reply(200, PARTS),
        "POST" => reply(200, "<CompleteMultipartUploadResult/>"),
        "PUT" => reply(200, "").with("etag", "\"abc\""),
        _ => reply(204, ""),
    }
}

/// A server of region `RegionOne`. It answers `refusal` to requests signed for another region.
async fn server(refusal: fn(&Asked) -> Reply) -> Service {
    Service::start(move |asked| if region(asked) == "RegionOne" { fine(asked) } else { refusal(asked) }).await
}

/// Swift's s3api answers in this way. The answer to a HEAD has no body.
fn malformed(asked: &Asked) -> Reply {
    let body = "<?xml version='1.0' encoding='UTF-8'?>\n<Error><Code>AuthorizationHeaderMalformed</Code>\
                <Message>wrong</Message><Region>RegionOne</Region><RequestId>tx1</RequestId></Error>";
    if asked.method == "HEAD" { amazon(asked) } else { reply(400, body) }
}

fn amazon(_: &Asked) -> Reply {
    reply(400, "").with("x-amz-bucket-region", "RegionOne")
}

fn moved(_: &Asked) -> Reply {
    let body = "<Error><Code>PermanentRedirect</Code><Endpoint>evil.example</Endpoint></Error>";
    reply(301, body).with("x-amz-bucket-region", "RegionOne").with("location", "http://evil.example/")
}

fn temporary(_: &Asked) -> Reply {
    let body = "<Error><Code>TemporaryRedirect</Code></Error>";
    reply(307, body).with("x-amz-bucket-region", "RegionOne").with("location", "http://evil.example/")
}

#[tokio::test]
async fn a_region_is_corrected_once_and_remembered() {
    for refusal in [malformed, amazon, moved, temporary] {
        let server = server(refusal).await;
        let store = store(&server);
        assert_eq!(store.head(&key()).await.expect("answers").expect("there").size, 5);
        assert_eq!(server.below("/").len(), 2);
        let object = store.get(&key(), None).await.expect("answers").expect("there");
        let pieces: Vec<Bytes> = object.body.try_collect().await.expect("reads");
        assert_eq!(pieces.concat(), b"hello");
        store.put(&key(), &Source::bytes(Bytes::from_static(b"hello"))).await.expect("written");
        store.delete(&key()).await.expect("deleted");
        assert_eq!(server.below("/").len(), 5);
    }
}

#[tokio::test]
async fn a_put_is_read_again_for_the_right_region() {
    let bytes = Bytes::from(vec![7; 3 * MIB]);
    for refusal in [malformed, amazon, moved, temporary] {
        let server = server(refusal).await;
        store(&server).put(&key(), &Source::bytes(bytes.clone())).await.expect("written");
        let asked = server.below("/");
        assert_eq!(asked.iter().map(region).collect::<Vec<_>>(), ["us-east-1", "RegionOne"]);
        assert!(asked.iter().all(|asked| asked.body == bytes));
    }
}

#[tokio::test]
async fn concurrent_requests_are_all_corrected() {
    for refusal in [malformed, amazon, moved, temporary] {
        let server = server(refusal).await;
        let (store, key) = (store(&server), key());
        let source = Source::bytes(Bytes::from_static(b"hello"));
        let reads = futures_util::future::join_all((0..10).map(|_| store.head(&key)));
        let writes = futures_util::future::join_all((0..10).map(|_| store.put(&key, &source)));
        let (reads, writes) = tokio::join!(reads, writes);
        assert!(reads.iter().all(Result::is_ok) && writes.iter().all(Result::is_ok));
    }
}

#[tokio::test]
async fn parts_are_sent_to_the_right_region() {
    // The store names another region when the upload starts. The parts have 6 MiB (in memory) and 40 MiB
    // (streamed).
    for (size, part) in [(6, 5), (40, 17)] {
        let server = Service::start(|asked| {
            let part = asked.path.contains("partNumber");
            if part && region(asked) != "RegionOne" { malformed(asked) } else { fine(asked) }
        })
        .await;
        let store = store(&server).with_multipart(1, part * MIB as u64);
        let bytes: Bytes = (0..size * MIB).map(|at| (at / 1000) as u8).collect();
        store.put(&key(), &Source::bytes(bytes.clone())).await.expect("written");
        let mut parts =
            server.asked(|asked| asked.path.contains("partNumber") && region(asked) == "RegionOne");
        parts.sort_by(|a, b| a.path.cmp(&b.path));
        assert_eq!(parts.iter().map(|part| part.body.clone()).collect::<Vec<_>>().concat(), bytes);
    }
}

#[tokio::test]
async fn a_store_that_always_refuses_is_asked_twice() {
    let server = Service::start(|asked| {
        let other = if region(asked) == "here" { "there" } else { "here" };
        reply(400, "").with("x-amz-bucket-region", other)
    })
    .await;
    let store = store(&server);
    let error = store.head(&key()).await.expect_err("refused");
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("the bucket is in region"), "{error}");
    assert_eq!(server.below("/").len(), 2);
    store.put(&key(), &Source::bytes(Bytes::from_static(b"x"))).await.expect_err("refused");
    assert_eq!(server.below("/").len(), 4);
}

#[tokio::test]
async fn a_redirect_without_a_region_is_not_followed() {
    for status in [301, 302, 307, 308] {
        let other = Service::start(fine).await;
        let there = format!("http://{}/", other.address);
        let server = Service::start(move |_| reply(status, "").with("location", there.as_str())).await;
        let store = store(&server);
        assert_eq!(store.head(&key()).await.expect_err("refused").kind(), Kind::Invalid);
        assert_eq!(store.get(&key(), None).await.map(drop).expect_err("refused").kind(), Kind::Invalid);
        let source = Source::bytes(Bytes::from_static(b"x"));
        assert_eq!(store.put(&key(), &source).await.expect_err("refused").kind(), Kind::Invalid);
        assert_eq!((server.below("/").len(), other.below("/").len()), (3, 0));
    }
}

#[tokio::test]
async fn the_refusal_of_encryption_gives_advice() {
    let server = Service::start(|asked| match asked.header("x-amz-server-side-encryption") {
        Some(_) => reply(400, "<Error><Code>InvalidRequest</Code></Error>"),
        None => fine(asked),
    })
    .await;
    let mut config = support::config(server.address);
    config.encrypt = true;
    let transport = support::transport(support::short());
    for threshold in [0, 10] {
        let store = S3Store::new(&config, &transport).expect("builds").with_multipart(threshold, 0);
        let source = Source::bytes(Bytes::from_static(b"hello"));
        let error = store.put(&key(), &source).await.expect_err("refused").to_string();
        assert!(error.contains("use https, or Quay's RadosGWStorage"), "{error}");
        assert!(error.contains("InvalidRequest"), "{error}");
    }
    let store = S3Store::new(&config, &transport).expect("builds");
    store.head(&key()).await.expect("reads do not request encryption");
}
