//! What the S3 driver makes of servers that misbehave.

mod support;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use backends::faulty::{Fault, Faulty, On};
use backends::memory::MemoryStore;
use backends::s3::S3Store;
use backends::{Digest, Key, Kind, Result, Secret, Source, Store};
use bytes::Bytes;
use futures_util::TryStreamExt;
use support::{Answer, Scripted, answer, header};

const MIB: usize = 1024 * 1024;

fn key() -> Key {
    Key::new("sha256/ab/abcd")
}

fn store(server: &Scripted) -> S3Store {
    S3Store::new(&support::config(server.address), &support::transport(support::short())).expect("builds")
}

async fn scripted(answers: &[&str]) -> (Scripted, S3Store) {
    let answers = answers.iter().map(|text| Answer::Bytes(answer(text, ""))).collect();
    let server = Scripted::start(answers).await;
    let store = store(&server);
    (server, store)
}

async fn read(store: &S3Store, range: Option<std::ops::Range<u64>>) -> Result<Bytes> {
    let object = store.get(&key(), range).await?.expect("there");
    let pieces: Vec<Bytes> = object.body.try_collect().await?;
    Ok(pieces.concat().into())
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> Kind {
    support::kind(result, &["Signature", support::SECRET_KEY])
}

#[tokio::test]
async fn a_connection_closed_as_idle_is_no_failure() {
    let ok = answer("200 OK\nContent-Length: 5", "");
    let server = Scripted::start(vec![Answer::Close, Answer::Bytes(ok)]).await;
    assert_eq!(store(&server).head(&key()).await.expect("answers").expect("there").size, 5);
    let server = Scripted::start(vec![Answer::Close]).await;
    assert_eq!(kind(store(&server).head(&key()).await), Kind::Unavailable);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn refusals_by_meaning() {
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
async fn a_clock_that_is_off_is_learned() {
    let there = SystemTime::now() + Duration::from_secs(86_400);
    let skewed = format!("403 Forbidden\nDate: {}", httpdate::fmt_http_date(there));
    let (server, store) = scripted(&[&skewed, "200 OK\nContent-Length: 5"]).await;
    store.head(&key()).await.expect("answers");
    let requests = server.requests();
    let days: Vec<_> =
        requests.iter().map(|head| &header(head, "x-amz-date").expect("signed")[..8]).collect();
    assert_ne!(days[0], days[1]);
    // And for puts, which are read anew from their source.
    let (server, store) = scripted(&[&skewed, "200 OK"]).await;
    store.put(&key(), &Source::bytes(Bytes::from_static(b"hello"))).await.expect("written");
    assert_eq!(server.requests().len(), 2);
    // All who were under way learn it.
    let (_server, store) = scripted(&[&skewed, &skewed, &skewed, "200 OK\nContent-Length: 5"]).await;
    let key = key();
    let all = futures_util::future::join_all((0..3).map(|_| store.head(&key))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    // Not for ever: a server that refuses for another reason is asked twice at most.
    let (server, store) = scripted(&[&skewed]).await;
    assert_eq!(kind(store.head(&key).await), Kind::Denied);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn bodies_that_are_not_what_was_promised() {
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
    // Where it ends is not said, but chunks have an end.
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel";
    let server = Scripted::start(vec![Answer::Bytes(chunked.to_owned())]).await;
    assert_eq!(kind(read(&store(&server), None).await), Kind::Unavailable);
}

/// Stores behind proxies that compress, cache or speak HTTP/1.0: the caller knows how long it must be.
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
async fn a_head_without_a_length_has_a_byte_read() {
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
    store.probe().await.expect("an empty object is there");
}

#[tokio::test]
async fn silence_is_bounded() {
    let server = Scripted::start(vec![Answer::Stall(String::new())]).await;
    assert_eq!(kind(store(&server).head(&key()).await), Kind::Timeout);
    let server =
        Scripted::start(vec![Answer::Stall("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123".to_owned())])
            .await;
    assert_eq!(kind(read(&store(&server), None).await), Kind::Timeout);
    // Nobody listens.
    let server = Scripted::start(vec![Answer::Close]).await;
    let mut config = support::config(server.address);
    config.endpoint.set_port(Some(1)).expect("a port");
    let nobody = S3Store::new(&config, &support::transport(support::short())).expect("builds");
    assert_eq!(kind(nobody.probe().await), Kind::Unavailable);
}

#[tokio::test]
async fn a_put_that_stands_still_is_bounded_and_blamed_on_whom_it_waits_for() {
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
async fn another_region_is_named() {
    let moved = "301 Moved Permanently\nx-amz-bucket-region: eu-west-1";
    let (_server, store) = scripted(&[moved]).await;
    let error = store.head(&key()).await.expect_err("elsewhere");
    assert_eq!(error.to_string(), "head sha256/ab/abcd: the bucket is in region eu-west-1: invalid (301)");
}

#[tokio::test]
async fn a_refusal_unheard_during_a_put_is_asked_for() {
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

/// A store that says yes before it has everything has not got it, whatever it says.
#[tokio::test]
async fn a_put_is_not_done_before_everything_is_sent() {
    let bytes = Bytes::from(vec![7; 32 * MIB]);
    let wrong = Source::new(bytes.len() as u64, Digest::of(b"other"), Arc::new(bytes.clone()));
    for source in [Source::bytes(bytes), wrong] {
        let yes = Answer::Early("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned());
        let server = Scripted::start(vec![yes, Answer::Bytes(answer("404 Not Found", ""))]).await;
        assert_eq!(kind(store(&server).put(&key(), &source).await), Kind::Unavailable);
    }
}

#[tokio::test]
async fn writes_are_signed_for_what_they_write() {
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

/// Answers to a `put` of two parts, up to the completing request.
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

/// What the store may still be doing is not undone: an abort would take the parts from under the object.
#[tokio::test]
async fn a_completion_that_fails_late_is_a_failure_and_is_not_aborted() {
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
        let error = written.expect_err("nobody said that it is there");
        assert!(error.has_unknown_outcome(), "{error}");
        assert_eq!(lines[3..5], [format!("POST {path}"), format!("POST {path}")]);
        assert!(lines[5].starts_with("GET "), "what is there is read: {lines:?}");
        assert!(!lines.iter().any(|line| line.starts_with("DELETE ")), "{first:?} {second:?}: {lines:?}");
    }
    // Where the upload is unknown at once, what is there is read as well.
    let (written, lines) = put_in_parts(vec![none, absent]).await;
    assert!(written.expect_err("not there").has_unknown_outcome());
    assert!(lines[4].starts_with("GET ") && lines.len() == 5, "{lines:?}");
}

/// What the store refuses for certain takes no room there any longer.
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

/// A completion that the store does not begin is sent again, and in the end taken back.
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

/// Who gives up while the store puts the parts together leaves them to it; who gives up before takes them back.
#[tokio::test]
async fn a_completion_that_is_given_up_is_not_aborted() {
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

/// 200 comes before the store knows; what ends with nothing more may have been cut.
#[tokio::test]
async fn a_completion_that_says_nothing_is_none() {
    for nothing in ["", " \n ", "<?xml version=\"1.0\"?>\n  ", "<CompleteMultipartUploadResult><Buck"] {
        let cut = Answer::Bytes(answer("200 OK", nothing));
        let none = Answer::Bytes(answer("404 Not Found", "<Error><Code>NoSuchUpload</Code></Error>"));
        let absent = Answer::Bytes(answer("404 Not Found", ""));
        let (written, lines) = put_in_parts(vec![cut, none, absent]).await;
        assert_eq!(kind(written), Kind::Unavailable, "{nothing:?}");
        assert!(lines[4].starts_with("POST ") && lines[5].starts_with("GET "), "{lines:?}");
    }
}

/// Google answers 411 to a POST that does not say how long it is.
#[tokio::test]
async fn what_has_no_body_says_so() {
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
async fn a_completion_whose_answer_is_lost_is_looked_for() {
    let lost = Answer::Bytes(answer("500 Internal Server Error", ""));
    let none = Answer::Bytes(answer("404 Not Found", "<Error><Code>NoSuchUpload</Code></Error>"));
    let there = |bytes: String| Answer::Bytes(answer("200 OK", &bytes));
    let right = "\u{1}".repeat(6 * MIB);
    let (written, lines) = put_in_parts(vec![lost.clone(), none.clone(), there(right.clone())]).await;
    written.expect("it was completed after all");
    assert_eq!(lines.len(), 6);
    // Its size does not say that: what lay there before may have had the same.
    let mut older = right;
    older.replace_range(5..6, "x");
    for other in [older, "short".to_owned()] {
        let (written, _) = put_in_parts(vec![lost.clone(), none.clone(), there(other)]).await;
        assert_eq!(kind(written), Kind::Unavailable);
    }
}

/// A store that wants fewer requests refuses the abort too, and keeps what it holds.
#[tokio::test]
async fn an_abort_is_sent_again() {
    let busy = Answer::Bytes(answer("503 Slow Down", "<Error><Code>SlowDown</Code></Error>"));
    let refused = Answer::Bytes(answer("400 Bad Request", "<Error><Code>InvalidPart</Code></Error>"));
    let gone = Answer::Bytes(answer("204 No Content", ""));
    let (written, lines) = put_in_parts(vec![refused, busy, gone]).await;
    assert_eq!(kind(written), Kind::Invalid);
    let aborts = lines.iter().filter(|line| line.starts_with("DELETE ")).count();
    assert_eq!(aborts, 2, "{lines:?}");
}

#[tokio::test]
async fn parts_are_sent_again() {
    let busy = Answer::Bytes(answer("503 Slow Down", "<Error><Code>SlowDown</Code></Error>"));
    let mut answers = two_parts();
    answers.insert(1, busy);
    answers.push(Answer::Bytes(answer("200 OK", "<CompleteMultipartUploadResult/>")));
    let server = Scripted::start(answers).await;
    let store = store(&server).with_multipart(1, 5 * MIB as u64);
    store.put(&key(), &Source::bytes(Bytes::from(vec![1; 6 * MIB]))).await.expect("written");
    assert_eq!(server.requests().len(), 5);
}

/// A copy within the store is of the bytes that were read before, or none.
#[tokio::test]
async fn a_copy_within_the_store_is_of_what_was_read() {
    let read = answer("200 OK\nETag: \"abc\"", "hello");
    let copied = answer("200 OK", "<CopyObjectResult><ETag>\"abc\"</ETag></CopyObjectResult>");
    let absent = answer("404 Not Found", "");
    let other = answer("412 Precondition Failed", "<Error><Code>PreconditionFailed</Code></Error>");
    for (last, expected) in [(copied, None), (other, Some(Kind::Source))] {
        let script = [read.clone(), absent.clone(), last].map(Answer::Bytes).to_vec();
        let server = Scripted::start(script).await;
        let store = store(&server);
        let version = store.get(&key(), None).await.expect("answers").expect("there").version;
        let from = store.copy_source(&key()).expect("it has keys").with_version(version);
        let done = store.copy(&key(), &from, 5).await;
        assert_eq!(done.map_err(|error| error.kind()), expected.map_or(Ok(true), Err));
        let requests = server.requests();
        assert_eq!(header(&requests[2], "x-amz-copy-source-if-match"), Some("\"abc\""), "{requests:?}");
    }
}

/// A bucket that may not be asked for is no reason to fail.
#[tokio::test]
async fn absence_in_a_bucket_that_may_not_be_seen() {
    let (server, store) = scripted(&["404 Not Found", "403 Forbidden", "404 Not Found"]).await;
    assert!(store.head(&key()).await.expect("answers").is_none());
    assert!(store.head(&key()).await.expect("answers").is_none());
    assert_eq!(server.requests().len(), 3);
}

/// A bucket that could not be asked for just now was not seen.
#[tokio::test]
async fn absence_in_a_bucket_that_cannot_be_asked_for() {
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
async fn a_page_that_is_no_listing_is_none() {
    for body in ["<html/>", "<Error><Code>InternalError</Code></Error>", "<ListBucketResult><IsTrunc"] {
        let server = Scripted::start(vec![Answer::Bytes(answer("200 OK", body))]).await;
        let listed: Result<Vec<_>> = store(&server).list("").try_collect().await;
        assert_eq!(kind(listed), Kind::Unavailable, "{body}");
    }
}

/// A server that hands out two markers in turns would be listed for ever.
#[tokio::test]
async fn a_listing_in_circles_ends() {
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
