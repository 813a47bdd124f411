//! How the S3 driver handles faulty servers.

mod support;

use std::time::{Duration, SystemTime};

use backends::s3::S3Store;
use backends::{Kind, Result, Source, Store};
use bytes::Bytes;
use futures_util::TryStreamExt;
use support::s3::{key, kind, read, scripted, store};
use support::{Answer, Scripted, answer, header};

#[tokio::test]
async fn a_connection_that_was_closed_as_idle_is_not_a_failure() {
    let ok = answer("200 OK\nContent-Length: 5", "");
    let server = Scripted::start(vec![Answer::Close, Answer::Bytes(ok)]).await;
    assert_eq!(store(&server).head(&key()).await.expect("answers").expect("there").size, 5);
    let server = Scripted::start(vec![Answer::Close]).await;
    assert_eq!(kind(store(&server).head(&key()).await), Kind::Unavailable);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn refusals_have_their_kinds() {
    let pause = Some(Duration::from_secs(7));
    for (head, expected) in [
        ("503 Slow Down\nRetry-After: 7", Kind::Throttled { retry_after: pause }),
        ("503 Service Unavailable", Kind::Unavailable),
        ("500 Internal Server Error", Kind::Unavailable),
        ("403 Forbidden", Kind::Denied),
        ("401 Unauthorized", Kind::Denied),
        ("307 Temporary Redirect\nLocation: http://127.0.0.1:1/", Kind::Invalid),
    ] {
        let (_server, store) = scripted(&[head]).await;
        assert_eq!(kind(store.head(&key()).await), expected, "{head}");
        assert_eq!(kind(store.get(&key(), None).await.map(drop)), expected, "{head}");
        assert_eq!(
            kind(store.put(&key(), &Source::bytes(Bytes::from_static(b"x"))).await),
            expected,
            "{head}"
        );
        assert_eq!(kind(store.probe().await), expected, "{head}");
    }
}

#[tokio::test]
async fn code_and_request_id_are_kept() {
    let body = "<Error><Code>AccessDenied</Code><RequestId>tx42</RequestId></Error>";
    let server = Scripted::start(vec![Answer::Bytes(answer("403 Forbidden", body))]).await;
    let error = store(&server).get(&key(), None).await.expect_err("denied");
    assert_eq!(error.to_string(), "get sha256/ab/abcd: denied (AccessDenied) [request tx42]");
}

#[tokio::test]
async fn a_wrong_clock_is_corrected() {
    let there = SystemTime::now() + Duration::from_secs(86_400);
    let skewed = format!("403 Forbidden\nDate: {}", httpdate::fmt_http_date(there));
    let (server, store) = scripted(&[&skewed, "200 OK\nContent-Length: 5"]).await;
    store.head(&key()).await.expect("answers");
    let requests = server.requests();
    let days: Vec<_> =
        requests.iter().map(|head| &header(head, "x-amz-date").expect("signed")[..8]).collect();
    assert_ne!(days[0], days[1]);
    // A put is also repeated. Its source is read again.
    let (server, store) = scripted(&[&skewed, "200 OK"]).await;
    store.put(&key(), &Source::bytes(Bytes::from_static(b"hello"))).await.expect("written");
    assert_eq!(server.requests().len(), 2);
    // Concurrent requests all learn the offset.
    let (_server, store) = scripted(&[&skewed, &skewed, &skewed, "200 OK\nContent-Length: 5"]).await;
    let key = key();
    let all = futures_util::future::join_all((0..3).map(|_| store.head(&key))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    // The repetition is bounded: if a server refuses for another reason, the request is sent twice at most.
    let (server, store) = scripted(&[&skewed]).await;
    assert_eq!(kind(store.head(&key).await), Kind::Denied);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn bodies_that_differ_from_their_headers() {
    for (asked, head, body, expected) in [
        (None, "200 OK\nContent-Length: 10", "12345", Kind::Unavailable),
        (
            Some(2..5),
            "206 Partial Content\nContent-Range: bytes 2-4/10\nContent-Length: 4",
            "1234",
            Kind::Corrupt,
        ),
        (
            Some(2..5),
            "206 Partial Content\nContent-Range: bytes 2-4/10\nContent-Length: 3",
            "12",
            Kind::Unavailable,
        ),
        (Some(2..5), "206 Partial Content\nContent-Range: bytes 3-5/10", "123", Kind::Corrupt),
        (Some(2..5), "206 Partial Content", "123", Kind::Unavailable),
    ] {
        let server = Scripted::start(vec![Answer::Bytes(answer(head, body))]).await;
        assert_eq!(kind(read(&store(&server), asked).await), expected, "{head}");
    }
    // The length is not announced, but chunked encoding has an end.
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel";
    let server = Scripted::start(vec![Answer::Bytes(chunked.to_owned())]).await;
    assert_eq!(kind(read(&store(&server), None).await), Kind::Unavailable);
}

/// Stores behind proxies that compress, cache or use HTTP/1.0. The caller knows how long the object must be.
#[tokio::test]
async fn answers_without_a_length() {
    let chunks = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let part = "Content-Range: bytes 1-3/*";
    for (asked, answer, size, range, body) in [
        (None, format!("HTTP/1.1 200 OK\r\n{chunks}"), None, 0..u64::MAX, "hello"),
        (None, "HTTP/1.0 200 OK\r\n\r\nhello".to_owned(), None, 0..u64::MAX, "hello"),
        (
            None,
            "HTTP/1.1 206 P\r\nContent-Range: bytes 0-4/*\r\n\r\nhello".to_owned(),
            Some(5),
            0..5,
            "hello",
        ),
        (Some(0..3), format!("HTTP/1.1 200 OK\r\n{chunks}"), None, 0..3, "hel"),
        (Some(0..3), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(), Some(5), 0..3, "hel"),
        (Some(1..4), format!("HTTP/1.1 206 P\r\n{part}\r\n\r\nell"), None, 1..4, "ell"),
    ] {
        let server = Scripted::start(vec![Answer::Bytes(answer.clone())]).await;
        let object = store(&server).get(&key(), asked).await.expect("answers").expect("there");
        assert_eq!((object.size, object.range), (size, range), "{answer}");
        let pieces: Vec<Bytes> = object.body.try_collect().await.expect(&answer);
        assert_eq!(pieces.concat(), body.as_bytes(), "{answer}");
    }
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
async fn ranges_that_cannot_be_satisfied() {
    let refused = "416 Range Not Satisfiable";
    let (_server, store) = scripted(&[refused, "200 OK\nContent-Length: 10"]).await;
    assert_eq!(kind(store.get(&key(), Some(10..20)).await.map(drop)), Kind::Invalid);
    let (_server, store) = scripted(&[refused, "200 OK\nContent-Length: 0"]).await;
    let object = store.get(&key(), Some(0..20)).await.expect("answers").expect("there");
    assert_eq!((object.range, object.size), (0..0, Some(0)));
    let (_server, store) = scripted(&[refused, "200 OK\nContent-Length: 10"]).await;
    assert_eq!(kind(store.get(&key(), Some(5..8)).await.map(drop)), Kind::Unavailable);
    let (_server, store) = scripted(&[refused]).await;
    store.probe().await.expect("the empty object exists");
}

#[tokio::test]
async fn silence_is_bounded() {
    let server = Scripted::start(vec![Answer::Stall(String::new())]).await;
    assert_eq!(kind(store(&server).head(&key()).await), Kind::Timeout);
    let server =
        Scripted::start(vec![Answer::Stall("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123".to_owned())])
            .await;
    assert_eq!(kind(read(&store(&server), None).await), Kind::Timeout);
    // No server listens at this address.
    let server = Scripted::start(vec![Answer::Close]).await;
    let mut config = support::config(server.address);
    config.endpoint.set_port(Some(1)).expect("a port");
    let nobody = S3Store::new(&config, &support::transport(support::short())).expect("builds");
    assert_eq!(kind(nobody.probe().await), Kind::Unavailable);
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

#[tokio::test]
async fn an_answer_that_is_no_listing_is_an_error() {
    for body in ["<html/>", "<Error><Code>InternalError</Code></Error>", "<ListBucketResult><IsTrunc"] {
        let server = Scripted::start(vec![Answer::Bytes(answer("200 OK", body))]).await;
        let listed: Result<Vec<_>> = store(&server).list("").try_collect().await;
        assert_eq!(kind(listed), Kind::Unavailable, "{body}");
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
