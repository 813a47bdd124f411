//! How the S3 driver handles faulty servers.

mod support;

use backends::{Kind, Result, Store};
use futures_util::TryStreamExt;
use support::s3::{key, kind, scripted, store};
use support::{Answer, Scripted, answer, header};

#[tokio::test]
async fn code_and_request_id_are_kept() {
    let body = "<Error><Code>AccessDenied</Code><RequestId>tx42</RequestId></Error>";
    let server = Scripted::start(vec![Answer::Bytes(answer("403 Forbidden", body))]).await;
    let error = store(&server).get(&key(), None).await.expect_err("denied");
    assert_eq!(error.to_string(), "get sha256/ab/abcd: denied (AccessDenied) [request tx42]");
}

#[tokio::test]
async fn if_head_has_no_length_the_first_byte_is_read() {
    let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
    for (part, expected) in [
        ("206 P\nContent-Range: bytes 0-0/7", Some(7)),
        ("416 R\nContent-Range: bytes */0", Some(0)),
        ("200 OK\nContent-Length: 7", Some(7)),
        ("206 P\nContent-Range: bytes 0-0/*", None),
    ] {
        let answers = vec![Answer::Bytes(head.to_owned()), Answer::Bytes(answer(part, "h"))];
        let server = Scripted::start(answers).await;
        let found = store(&server).head(&key()).await.map(|meta| meta.expect("there").size);
        assert_eq!(found.as_ref().ok(), expected.as_ref(), "{part}: {found:?}");
    }
}

#[tokio::test]
async fn another_region_is_named() {
    let moved = "301 Moved Permanently\nx-amz-bucket-region: eu-west-1";
    let (_server, store) = scripted(&[moved]).await;
    let error = store.head(&key()).await.expect_err("elsewhere");
    assert_eq!(error.to_string(), "head sha256/ab/abcd: the bucket is in region eu-west-1: invalid (301)");
}

/// A server-side copy has the bytes that were read before, or fails.
#[tokio::test]
async fn a_server_side_copy_requires_the_version_that_was_read() {
    let read = answer("200 OK\nETag: \"abc\"", "hello");
    let copied = answer("200 OK", "<CopyObjectResult><ETag>\"abc\"</ETag></CopyObjectResult>");
    let absent = answer("404 Not Found", "");
    let other = answer("412 Precondition Failed", "<Error><Code>PreconditionFailed</Code></Error>");
    for (last, expected) in [(copied, None), (other, Some(Kind::Source))] {
        let script = [read.clone(), absent.clone(), last].map(Answer::Bytes).to_vec();
        let server = Scripted::start(script).await;
        let store = store(&server);
        let version = store.get(&key(), None).await.expect("answers").expect("there").version;
        let from = store.copy_source(&key()).expect("the store has keys").with_version(version);
        let done = store.copy(&key(), &from, 5).await;
        assert_eq!(done.map_err(|error| error.kind()), expected.map_or(Ok(true), Err));
        let requests = server.requests();
        assert_eq!(header(&requests[2], "x-amz-copy-source-if-match"), Some("\"abc\""), "{requests:?}");
    }
}

/// If the gateway has no permission to ask for the bucket, absence is still a valid result.
#[tokio::test]
async fn absence_without_permission_to_see_the_bucket() {
    let (server, store) = scripted(&["404 Not Found", "403 Forbidden", "404 Not Found"]).await;
    assert!(store.head(&key()).await.expect("answers").is_none());
    assert!(store.head(&key()).await.expect("answers").is_none());
    assert_eq!(server.requests().len(), 3);
}

/// If the request for the bucket failed, the bucket does not count as seen.
#[tokio::test]
async fn absence_while_the_bucket_cannot_be_asked_for() {
    for (refusal, expected) in [
        ("503 Service Unavailable", Kind::Unavailable),
        ("429 Too Many Requests", Kind::Throttled { retry_after: None }),
    ] {
        let (server, store) = scripted(&["404 Not Found", refusal, "404 Not Found"]).await;
        assert_eq!(kind(store.head(&key()).await), expected);
        let error = store.head(&key()).await.expect_err("no bucket");
        assert_eq!(error.code(), Some("NoSuchBucket"), "{error}");
        assert_eq!(server.requests().len(), 4);
    }
}

/// If a server returns two markers in turn, the listing would never end.
#[tokio::test]
async fn a_listing_that_repeats_itself_fails() {
    let page = |name: &str, next: &str| {
        Answer::Bytes(answer(
            "200 OK",
            &format!(
                "<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>{name}</Key><Size>1</Size>\
                 <LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>\
                 <NextContinuationToken>{next}</NextContinuationToken></ListBucketResult>"
            ),
        ))
    };
    let pages = (0..10).flat_map(|_| [page("a", "one"), page("b", "two")]).collect();
    let server = Scripted::start(pages).await;
    let listed: Result<Vec<_>> = store(&server).list("").try_collect().await;
    assert_eq!(kind(listed), Kind::Unavailable);
    assert!(server.requests().len() < 10, "{}", server.requests().len());
}
