//! How the S3 driver handles faults during writes, in one request or in parts.

mod support;

use std::sync::Arc;
use std::time::Duration;

use backends::faulty::{Fault, Faulty, On};
use backends::memory::MemoryStore;
use backends::s3::S3Store;
use backends::{Digest, Kind, Result, Secret, Source, Store};
use bytes::Bytes;
use support::s3::{key, kind, store};
use support::{Answer, Scripted, answer, header};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn a_stalled_put_times_out_with_the_kind_of_the_slow_side() {
    let bytes = Bytes::from(vec![1; 32 * MIB]);
    let server = Scripted::start(vec![Answer::Ignore]).await;
    assert_eq!(kind(store(&server).put(&key(), &Source::bytes(bytes.clone())).await), Kind::Timeout);
    let memory = MemoryStore::new();
    memory.insert(key(), bytes.clone());
    let origin = Faulty::new(Arc::new(memory));
    origin.always(On::Get, Fault::StallAfter(100_000));
    let source = Source::object(Arc::new(origin), key(), bytes.len() as u64, Digest::of(&bytes));
    let server = Scripted::start(vec![Answer::Close]).await;
    assert_eq!(kind(store(&server).put(&key(), &source).await), Kind::Source);
    let initiated = two_parts().swap_remove(0);
    let server = Scripted::start(vec![initiated, Answer::Close]).await;
    assert_eq!(kind(store(&server).with_multipart(1, 0).put(&key(), &source).await), Kind::Source);
}

#[tokio::test]
async fn a_lost_refusal_of_a_put_is_found_out() {
    let source = Source::bytes(Bytes::from(vec![1; 32 * MIB]));
    for (head, expected) in [
        ("403 Forbidden", Kind::Denied),
        ("503 Slow Down\nRetry-After: 1", Kind::Throttled { retry_after: Some(Duration::from_secs(1)) }),
        ("200 OK\nContent-Length: 5", Kind::Unavailable),
    ] {
        let server = Scripted::start(vec![Answer::Slam, Answer::Bytes(answer(head, ""))]).await;
        assert_eq!(kind(store(&server).put(&key(), &source).await), expected, "{head}");
        let methods: Vec<_> = server.requests().iter().map(|head| head[..4].to_owned()).collect();
        assert_eq!(methods, ["PUT ", "HEAD"]);
    }
}

/// If a store reports success before it has received everything, the write has failed.
#[tokio::test]
async fn an_early_success_is_a_failure() {
    let bytes = Bytes::from(vec![7; 32 * MIB]);
    let wrong = Source::new(bytes.len() as u64, Digest::of(b"other"), Arc::new(bytes.clone()));
    for source in [Source::bytes(bytes), wrong] {
        let yes = Answer::Early("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned());
        let server = Scripted::start(vec![yes, Answer::Bytes(answer("404 Not Found", ""))]).await;
        assert_eq!(kind(store(&server).put(&key(), &source).await), Kind::Unavailable);
    }
}

#[tokio::test]
async fn writes_are_signed_with_the_digest_of_their_body() {
    let source = Source::bytes(Bytes::from_static(b"hello"));
    let server = Scripted::start(vec![Answer::Bytes(answer("200 OK", ""))]).await;
    let mut config = support::config(server.address);
    config.encrypt = true;
    config.session_token = Some(Secret::new("a-token"));
    let store = S3Store::new(&config, &support::transport(support::short())).expect("builds");
    store.put(&key(), &source).await.expect("written");
    let head = server.requests().remove(0);
    assert!(head.starts_with("PUT /bucket/datastorage/registry/sha256/ab/abcd HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "x-amz-content-sha256"), Some(&*Digest::of(b"hello").hex()));
    assert_eq!(header(&head, "x-amz-server-side-encryption"), Some("AES256"));
    assert_eq!(header(&head, "x-amz-security-token"), Some("a-token"));
    assert_eq!(header(&head, "content-length"), Some("5"));
    assert_eq!(header(&head, "transfer-encoding"), None);
    let authorization = header(&head, "authorization").expect("signed");
    for signed in ["content-type", "host", "x-amz-server-side-encryption", "x-amz-security-token"] {
        assert!(authorization.contains(signed), "{authorization}");
    }
}

/// The answers to a `put` of two parts, up to the completing request.
fn two_parts() -> Vec<Answer> {
    let initiated =
        "<InitiateMultipartUploadResult><UploadId>id+1</UploadId></InitiateMultipartUploadResult>";
    let part = answer("200 OK\nETag: \"abc\"", "");
    vec![Answer::Bytes(answer("200 OK", initiated)), Answer::Bytes(part.clone()), Answer::Bytes(part)]
}

async fn put_in_parts(last: Vec<Answer>) -> (Result<()>, Vec<String>) {
    let server = Scripted::start(two_parts().into_iter().chain(last).collect()).await;
    let store = store(&server).with_multipart(1, 5 * MIB as u64);
    let source = Source::bytes(Bytes::from(vec![1; 6 * MIB]));
    let written = store.put(&key(), &source).await;
    let lines =
        server.requests().iter().map(|head| head.lines().next().unwrap_or_default().to_owned()).collect();
    (written, lines)
}

/// If the store may still be completing the upload, the upload is not aborted: an abort would remove the
/// parts of the new object.
#[tokio::test]
async fn an_upload_that_may_be_completing_is_not_aborted() {
    let late = Answer::Bytes(answer("200 OK", "  <Error><Code>InternalError</Code></Error>"));
    let error500 =
        Answer::Bytes(answer("500 Internal Server Error", "<Error><Code>InternalError</Code></Error>"));
    let gateway = Answer::Bytes(answer("504 Gateway Timeout", "<html/>"));
    let begun = Answer::Bytes(answer("200 OK", "  <Error><Code>SlowDown</Code></Error>"));
    let none = Answer::Bytes(answer("404 Not Found", "<Error><Code>NoSuchUpload</Code></Error>"));
    let absent = Answer::Bytes(answer("404 Not Found", ""));
    let other = Answer::Bytes(answer("400 Bad Request", "<Error><Code>InvalidPart</Code></Error>"));
    let path = "/bucket/datastorage/registry/sha256/ab/abcd?uploadId=id%2B1 HTTP/1.1";
    for (first, second) in [
        (&late, &late),
        (&error500, &error500),
        (&gateway, &late),
        (&begun, &begun),
        (&gateway, &none),
        (&gateway, &other),
        (&Answer::Close, &Answer::Close),
    ] {
        let (written, lines) = put_in_parts(vec![first.clone(), second.clone(), absent.clone()]).await;
        let error = written.expect_err("no answer confirms the object");
        assert!(error.has_unknown_outcome(), "{error}");
        assert_eq!(lines[3..5], [format!("POST {path}"), format!("POST {path}")]);
        assert!(lines[5].starts_with("GET "), "the object is read: {lines:?}");
        assert!(!lines.iter().any(|line| line.starts_with("DELETE ")), "{first:?} {second:?}: {lines:?}");
    }
    // If the store reports at once that the upload is unknown, the object is read as well.
    let (written, lines) = put_in_parts(vec![none, absent]).await;
    assert!(written.expect_err("not there").has_unknown_outcome());
    assert!(lines[4].starts_with("GET ") && lines.len() == 5, "{lines:?}");
}

/// After a definite refusal, the parts do not stay at the store.
#[tokio::test]
async fn a_completion_that_is_refused_is_aborted() {
    for code in ["InvalidPart", "EntityTooSmall", "InvalidPartOrder"] {
        let refused =
            Answer::Bytes(answer("400 Bad Request", &format!("<Error><Code>{code}</Code></Error>")));
        let gone = Answer::Bytes(answer("204 No Content", ""));
        let (written, lines) = put_in_parts(vec![refused, gone]).await;
        let error = written.expect_err("refused");
        assert_eq!((error.kind(), error.has_unknown_outcome()), (Kind::Invalid, false), "{error}");
        assert!(lines[3].starts_with("POST ") && lines[4].starts_with("DELETE "), "{lines:?}");
        assert_eq!(lines.len(), 5, "{lines:?}");
    }
}

/// If the store does not begin to complete the upload, the request is sent again, and in the end the upload is aborted.
#[tokio::test]
async fn a_completion_that_is_not_begun_is_sent_again_and_then_aborted() {
    let busy = Answer::Bytes(answer("503 Slow Down", "<Error><Code>SlowDown</Code></Error>"));
    let gone = Answer::Bytes(answer("204 No Content", ""));
    let (written, lines) = put_in_parts(vec![busy.clone(), busy.clone(), busy, gone]).await;
    let error = written.expect_err("it asks for fewer requests");
    assert!(matches!(error.kind(), Kind::Throttled { .. }) && !error.has_unknown_outcome(), "{error}");
    assert!(lines[3..6].iter().all(|line| line.starts_with("POST ")), "{lines:?}");
    assert!(lines[6].starts_with("DELETE ") && lines.len() == 7, "{lines:?}");
}

/// If the caller is cancelled while the store completes the upload, the upload is left alone. If it is
/// cancelled before, the upload is aborted.
#[tokio::test]
async fn a_cancelled_completion_is_not_aborted() {
    for (answers, aborted) in [(vec![Answer::Ignore], false), (vec![], true)] {
        let mut script = two_parts();
        if answers.is_empty() {
            script.truncate(1);
            script.extend([Answer::Ignore, Answer::Ignore]);
        }
        let asked = script.len() + answers.len();
        script.extend(answers);
        script.push(Answer::Bytes(answer("204 No Content", "")));
        let server = Scripted::start(script).await;
        let transport = support::transport(backends::Timeouts::default());
        let tidying = transport.tidying.clone();
        let store = S3Store::new(&support::config(server.address), &transport).expect("builds");
        let store = store.with_multipart(1, 5 * MIB as u64);
        let put =
            tokio::spawn(
                async move { store.put(&key(), &Source::bytes(Bytes::from(vec![1; 6 * MIB]))).await },
            );
        while server.requests().len() < asked {
            tokio::task::yield_now().await;
        }
        put.abort();
        assert!(put.await.expect_err("given up").is_cancelled());
        tidying.close();
        tidying.wait().await;
        let aborts = server.requests().iter().filter(|head| head.starts_with("DELETE ")).count();
        assert_eq!(aborts > 0, aborted, "{:?}", server.requests());
    }
}

/// The store may send status 200 before it knows the outcome. A body that ends without a result may be cut.
#[tokio::test]
async fn an_empty_answer_to_a_completion_is_a_failure() {
    for nothing in ["", " \n ", "<?xml version=\"1.0\"?>\n  ", "<CompleteMultipartUploadResult><Buck"] {
        let cut = Answer::Bytes(answer("200 OK", nothing));
        let none = Answer::Bytes(answer("404 Not Found", "<Error><Code>NoSuchUpload</Code></Error>"));
        let absent = Answer::Bytes(answer("404 Not Found", ""));
        let (written, lines) = put_in_parts(vec![cut, none, absent]).await;
        assert_eq!(kind(written), Kind::Unavailable, "{nothing:?}");
        assert!(lines[4].starts_with("POST ") && lines[5].starts_with("GET "), "{lines:?}");
    }
}

/// Google answers 411 to a POST without a length.
#[tokio::test]
async fn a_request_without_a_body_has_a_length_of_zero() {
    let completed = Answer::Bytes(answer("200 OK", "<CompleteMultipartUploadResult/>"));
    let server = Scripted::start(two_parts().into_iter().chain([completed]).collect()).await;
    let store = store(&server).with_multipart(1, 5 * MIB as u64);
    store.put(&key(), &Source::bytes(Bytes::from(vec![1; 6 * MIB]))).await.expect("written");
    for head in server.requests() {
        assert!(header(&head, "content-length").is_some(), "{head}");
        assert_eq!(header(&head, "transfer-encoding"), None, "{head}");
    }
    assert_eq!(header(&server.requests()[0], "content-length"), Some("0"));
}

#[tokio::test]
async fn if_the_answer_to_a_completion_is_lost_the_object_is_read() {
    let lost = Answer::Bytes(answer("500 Internal Server Error", ""));
    let none = Answer::Bytes(answer("404 Not Found", "<Error><Code>NoSuchUpload</Code></Error>"));
    let there = |bytes: String| Answer::Bytes(answer("200 OK", &bytes));
    let right = "\u{1}".repeat(6 * MIB);
    let (written, lines) = put_in_parts(vec![lost.clone(), none.clone(), there(right.clone())]).await;
    written.expect("the upload was completed");
    assert_eq!(lines.len(), 6);
    // The size alone is no proof: an older object may have had the same size.
    let mut older = right;
    older.replace_range(5..6, "x");
    for other in [older, "short".to_owned()] {
        let (written, _) = put_in_parts(vec![lost.clone(), none.clone(), there(other)]).await;
        assert_eq!(kind(written), Kind::Unavailable);
    }
}

/// A store that throttles requests may also refuse the abort, and then keeps the parts.
#[tokio::test]
async fn an_abort_is_retried() {
    let busy = Answer::Bytes(answer("503 Slow Down", "<Error><Code>SlowDown</Code></Error>"));
    let refused = Answer::Bytes(answer("400 Bad Request", "<Error><Code>InvalidPart</Code></Error>"));
    let gone = Answer::Bytes(answer("204 No Content", ""));
    let (written, lines) = put_in_parts(vec![refused, busy, gone]).await;
    assert_eq!(kind(written), Kind::Invalid);
    let aborts = lines.iter().filter(|line| line.starts_with("DELETE ")).count();
    assert_eq!(aborts, 2, "{lines:?}");
}

#[tokio::test]
async fn parts_are_retried() {
    let busy = Answer::Bytes(answer("503 Slow Down", "<Error><Code>SlowDown</Code></Error>"));
    let mut answers = two_parts();
    answers.insert(1, busy);
    answers.push(Answer::Bytes(answer("200 OK", "<CompleteMultipartUploadResult/>")));
    let server = Scripted::start(answers).await;
    let store = store(&server).with_multipart(1, 5 * MIB as u64);
    store.put(&key(), &Source::bytes(Bytes::from(vec![1; 6 * MIB]))).await.expect("written");
    assert_eq!(server.requests().len(), 5);
}
