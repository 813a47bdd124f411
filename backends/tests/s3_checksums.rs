//! A bucket with Object Lock refuses writes without a checksum. Other stores never get one.

mod support;

use backends::s3::S3Store;
use backends::{Digest, Key, Source, Store, Timeouts};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use support::service::{Asked, Reply, Service, reply};

const MIB: u64 = 1024 * 1024;
const CHECKSUM: &str = "x-amz-checksum-sha256";

/// Amazon's answer to a PutObject or UploadPart without a checksum.
const WANTED: &str = "<Error><Code>InvalidRequest</Code><Message>Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object \
                      requests with Object Lock parameters</Message></Error>";

fn key() -> Key {
    Key::new("sha256/ab/abcd")
}

fn source(size: u64) -> Source {
    Source::bytes((0..size).map(|at| (at / 1000 % 251) as u8).collect::<Bytes>())
}

fn base64(digest: Digest) -> String {
    STANDARD.encode(hex::decode(digest.hex()).expect("hex"))
}

/// A store that accepts the requests for which `takes` is true, and refuses the others.
async fn store(takes: impl Fn(&Asked) -> bool + Send + Sync + 'static) -> (S3Store, Service) {
    let server = Service::start(move |asked| -> Reply {
        let initiated =
            "<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>";
        match asked.method.as_str() {
            "PUT" if !takes(asked) => reply(400, WANTED),
            "POST" if asked.path.ends_with("uploads=") => reply(200, initiated),
            "POST" => reply(200, "<CompleteMultipartUploadResult/>"),
            "PUT" => reply(200, "").with("etag", "\"abc\""),
            _ => reply(204, ""),
        }
    })
    .await;
    let mut config = support::config(server.address);
    // `S3Storage` sets this. Its refusals may also be caused by the encryption.
    config.encrypt = true;
    let transport = support::transport(Timeouts::default());
    (S3Store::new(&config, &transport).expect("builds"), server)
}

/// Whether the request has a correct checksum of its body.
fn is_checked(asked: &Asked) -> bool {
    asked.header(CHECKSUM) == Some(&*base64(Digest::of(&asked.body)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_refusal_all_writes_have_a_checksum() {
    let (store, server) = store(is_checked).await;
    store.put(&key(), &source(5000)).await.expect("written");
    store.put(&key(), &source(6000)).await.expect("written");
    let puts = server.asked(|asked| asked.method == "PUT");
    let checked: Vec<_> = puts.iter().map(is_checked).collect();
    assert_eq!(checked, [false, true, true], "the refusal is remembered");
}

/// Parts in memory, and parts that are too large for memory and are streamed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_needs_checksums_starts_again_with_them() {
    for (part, parts) in [(5 * MIB, 5), (17 * MIB, 2)] {
        let (store, server) = store(is_checked).await;
        let store = store.with_multipart(MIB, part);
        store.put(&key(), &source(21 * MIB)).await.expect("written");
        let begun = server.asked(|asked| asked.path.ends_with("uploads="));
        let algorithms: Vec<_> =
            begun.iter().map(|begun| begun.header("x-amz-checksum-algorithm").map(str::to_owned)).collect();
        assert_eq!(algorithms, [None, Some("SHA256".to_owned())], "the upload starts again with checksums");
        assert_eq!(server.asked(|asked| asked.method == "DELETE").len(), 1, "the first upload is aborted");
        let put = server.asked(|asked| asked.method == "PUT" && is_checked(asked));
        assert_eq!(put.len(), parts);
        let completing = server.asked(|asked| asked.method == "POST" && asked.path.contains("uploadId"));
        let body = String::from_utf8(completing[0].body.to_vec()).expect("text");
        for part in put {
            let named = format!("<ChecksumSHA256>{}</ChecksumSHA256>", base64(Digest::of(&part.body)));
            assert!(body.contains(&named), "{body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_does_not_require_a_checksum_gets_none() {
    let (store, server) = store(|asked| asked.header(CHECKSUM).is_none()).await;
    let store = store.with_multipart(MIB, 5 * MIB);
    store.put(&key(), &source(5000)).await.expect("written");
    store.put(&key(), &source(6 * MIB)).await.expect("written");
    let named = |asked: &Asked| asked.header("x-amz-checksum-algorithm").is_some();
    assert!(server.asked(|asked| named(asked) || asked.header(CHECKSUM).is_some()).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_is_refused_with_a_checksum_gives_advice() {
    let (store, server) = store(|_| false).await;
    let error = store.put(&key(), &source(5000)).await.expect_err("refused").to_string();
    assert!(error.contains("because of Object Lock") && !error.contains("encryption"), "{error}");
    assert_eq!(server.asked(|asked| asked.method == "PUT").len(), 2, "the second try has a checksum");
}
