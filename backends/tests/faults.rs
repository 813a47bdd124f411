//! How the drivers of remote stores handle faulty servers: what is the same for all of them.

mod support;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use backends::s3::S3Store;
use backends::{Key, Kind, Result, Source, Store};
use bytes::Bytes;
use futures_util::TryStreamExt;
use support::{Answer, Scripted, answer, azure, header, swift};

/// A driver, and how its server speaks.
struct Driver {
    name: &'static str,
    store: fn(SocketAddr) -> Box<dyn Store>,
    /// What must not be in an error.
    secrets: &'static [&'static str],
    /// The header with the time of a signed request, and how many of its first bytes are its day. `None` if
    /// requests are not signed.
    signed_at: Option<(&'static str, usize)>,
    /// Refusals of a range that cannot be satisfied.
    unsatisfiable: &'static [&'static str],
    /// Successful answers to a listing that are no listing.
    no_listings: &'static [&'static str],
}

const S3: Driver = Driver {
    name: "S3",
    store: |address| {
        Box::new(
            S3Store::new(&support::config(address), &support::transport(support::short())).expect("builds"),
        )
    },
    secrets: &["Signature", support::SECRET_KEY],
    signed_at: Some(("x-amz-date", 8)),
    unsatisfiable: &["416 Range Not Satisfiable"],
    no_listings: &["<html/>", "<Error><Code>InternalError</Code></Error>", "<ListBucketResult><IsTrunc"],
};

const AZURE: Driver = Driver {
    name: "Azure",
    store: |address| Box::new(azure::store(address)),
    secrets: azure::SECRETS,
    signed_at: Some(("x-ms-date", 16)),
    unsatisfiable: &[
        "416 Range Not Satisfiable\nx-ms-error-code: InvalidRange",
        // Azurite answers in this way.
        "206 Partial Content\nContent-Range: bytes 10-9/10\nContent-Length: 0",
    ],
    no_listings: &["<html/>", "<EnumerationResults><Blobs></Blobs><Next"],
};

const SWIFT: Driver = Driver {
    name: "Swift",
    store: |address| Box::new(swift::store_by(address, &support::transport(support::short()))),
    secrets: &["token-", swift::PASSWORD],
    signed_at: None,
    unsatisfiable: &["416 Requested Range Not Satisfiable"],
    no_listings: &["<html/>", "{\"name\": \"a\"}", "[{\"name\": \"a\""],
};

const ALL: [Driver; 3] = [S3, AZURE, SWIFT];

fn key() -> Key {
    Key::new("sha256/ab/abcd")
}

impl Driver {
    async fn before(&self, answers: Vec<Answer>) -> (Scripted, Box<dyn Store>) {
        let server = Scripted::start(answers).await;
        let store = (self.store)(server.address);
        (server, store)
    }

    /// A server with these answers, which have no bodies, and a store at it.
    async fn scripted(&self, heads: &[&str]) -> (Scripted, Box<dyn Store>) {
        self.before(heads.iter().map(|head| Answer::Bytes(answer(head, ""))).collect()).await
    }

    fn kind<T: std::fmt::Debug>(&self, result: Result<T>) -> Kind {
        support::kind(result, self.secrets)
    }
}

/// Reads the object, or a range of it.
async fn read(store: &dyn Store, range: Option<std::ops::Range<u64>>) -> Result<Bytes> {
    let object = store.get(&key(), range).await?.expect("there");
    let pieces: Vec<Bytes> = object.body.try_collect().await?;
    Ok(pieces.concat().into())
}

#[tokio::test]
async fn a_connection_that_was_closed_as_idle_is_not_a_failure() {
    for driver in ALL {
        let ok = Answer::Bytes(answer("200 OK\nContent-Length: 5", ""));
        let (_server, store) = driver.before(vec![Answer::Close, ok]).await;
        assert_eq!(store.head(&key()).await.expect(driver.name).expect("there").size, 5);
        let (server, store) = driver.before(vec![Answer::Close]).await;
        assert_eq!(driver.kind(store.head(&key()).await), Kind::Unavailable, "{}", driver.name);
        assert_eq!(server.requests().len(), 2, "{}", driver.name);
    }
}

#[tokio::test]
async fn refusals_have_their_kinds() {
    let pause = Some(Duration::from_secs(7));
    for driver in ALL {
        for (head, expected) in [
            ("503 Slow Down\nRetry-After: 7", Kind::Throttled { retry_after: pause }),
            ("503 Service Unavailable", Kind::Unavailable),
            ("500 Internal Server Error", Kind::Unavailable),
            ("403 Forbidden", Kind::Denied),
            ("401 Unauthorized", Kind::Denied),
            ("307 Temporary Redirect\nLocation: http://127.0.0.1:1/", Kind::Invalid),
        ] {
            let (_server, store) = driver.scripted(&[head]).await;
            let source = Source::bytes(Bytes::from_static(b"x"));
            for (call, result) in [
                ("head", store.head(&key()).await.map(drop)),
                ("get", store.get(&key(), None).await.map(drop)),
                ("put", store.put(&key(), &source).await),
                ("delete", store.delete(&key()).await),
                ("probe", store.probe().await),
            ] {
                assert_eq!(driver.kind(result), expected, "{}: {call}: {head}", driver.name);
            }
        }
    }
}

#[tokio::test]
async fn a_wrong_clock_is_corrected() {
    for driver in ALL {
        let Some((date, day)) = driver.signed_at else { continue };
        let there = SystemTime::now() + Duration::from_secs(86_400);
        let skewed = format!("403 Forbidden\nDate: {}", httpdate::fmt_http_date(there));
        let (server, store) = driver.scripted(&[&skewed, "200 OK\nContent-Length: 5"]).await;
        store.head(&key()).await.expect(driver.name);
        let requests = server.requests();
        let days: Vec<_> = requests.iter().map(|head| &header(head, date).expect("signed")[..day]).collect();
        assert_ne!(days[0], days[1], "{}", driver.name);
        // A put is also repeated. Its source is read again.
        let (server, store) = driver.scripted(&[&skewed, "201 Created"]).await;
        store.put(&key(), &Source::bytes(Bytes::from_static(b"hello"))).await.expect(driver.name);
        assert_eq!(server.requests().len(), 2, "{}", driver.name);
        // Concurrent requests all learn the offset.
        let answers = [&skewed[..], &skewed, &skewed, "200 OK\nContent-Length: 5"];
        let (_server, store) = driver.scripted(&answers).await;
        let key = key();
        let all = futures_util::future::join_all((0..3).map(|_| store.head(&key))).await;
        assert!(all.iter().all(Result::is_ok), "{}: {all:?}", driver.name);
        // The repetition is bounded: if a server refuses for another reason, the request is sent twice at most.
        let (server, store) = driver.scripted(&[&skewed]).await;
        assert_eq!(driver.kind(store.head(&key).await), Kind::Denied, "{}", driver.name);
        assert_eq!(server.requests().len(), 2, "{}", driver.name);
    }
}

#[tokio::test]
async fn bodies_that_differ_from_their_headers() {
    for driver in ALL {
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
            let (_server, store) = driver.before(vec![Answer::Bytes(answer(head, body))]).await;
            assert_eq!(driver.kind(read(&*store, asked).await), expected, "{}: {head}", driver.name);
        }
        // The length is not announced, but chunked encoding has an end.
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel";
        let (_server, store) = driver.before(vec![Answer::Bytes(chunked.to_owned())]).await;
        assert_eq!(driver.kind(read(&*store, None).await), Kind::Unavailable, "{}", driver.name);
    }
}

/// Stores behind proxies that compress, cache or use HTTP/1.0. The caller knows how long the object must be.
#[tokio::test]
async fn answers_without_a_length() {
    let chunks = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let part = "Content-Range: bytes 1-3/*";
    let whole = "Content-Range: bytes 0-4/*";
    for driver in ALL {
        for (asked, answer, size, range, body) in [
            (None, format!("HTTP/1.1 200 OK\r\n{chunks}"), None, 0..u64::MAX, "hello"),
            (None, "HTTP/1.0 200 OK\r\n\r\nhello".to_owned(), None, 0..u64::MAX, "hello"),
            (None, format!("HTTP/1.1 206 P\r\n{whole}\r\n\r\nhello"), Some(5), 0..5, "hello"),
            (Some(0..3), format!("HTTP/1.1 200 OK\r\n{chunks}"), None, 0..3, "hel"),
            (
                Some(0..3),
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
                Some(5),
                0..3,
                "hel",
            ),
            (Some(1..4), format!("HTTP/1.1 206 P\r\n{part}\r\n\r\nell"), None, 1..4, "ell"),
        ] {
            let (_server, store) = driver.before(vec![Answer::Bytes(answer.clone())]).await;
            let object = store.get(&key(), asked).await.expect(driver.name).expect("there");
            assert_eq!((object.size, object.range), (size, range), "{}: {answer}", driver.name);
            let pieces: Vec<Bytes> = object.body.try_collect().await.expect(&answer);
            assert_eq!(pieces.concat(), body.as_bytes(), "{}: {answer}", driver.name);
        }
    }
}

#[tokio::test]
async fn ranges_that_cannot_be_satisfied() {
    for driver in ALL {
        for refused in driver.unsatisfiable {
            let (server, store) = driver.scripted(&[refused, "200 OK\nContent-Length: 10"]).await;
            assert_eq!(
                driver.kind(store.get(&key(), Some(10..20)).await.map(drop)),
                Kind::Invalid,
                "{}",
                driver.name
            );
            let request = server.requests().remove(0);
            let range = header(&request, "x-ms-range").or_else(|| header(&request, "range"));
            assert_eq!(range, Some("bytes=10-19"), "{}", driver.name);
            let (_server, store) = driver.scripted(&[refused, "200 OK\nContent-Length: 0"]).await;
            let object = store.get(&key(), Some(0..20)).await.expect(driver.name).expect("there");
            assert_eq!((object.range, object.size), (0..0, Some(0)), "{}", driver.name);
            let (_server, store) = driver.scripted(&[refused, "200 OK\nContent-Length: 10"]).await;
            let part = store.get(&key(), Some(5..8)).await.map(drop);
            assert_eq!(driver.kind(part), Kind::Unavailable, "{}", driver.name);
            let (_server, store) = driver.scripted(&[refused]).await;
            store.probe().await.expect("the empty object exists");
        }
    }
}

#[tokio::test]
async fn silence_is_bounded() {
    for driver in ALL {
        let (_server, store) = driver.before(vec![Answer::Stall(String::new())]).await;
        assert_eq!(driver.kind(store.head(&key()).await), Kind::Timeout, "{}", driver.name);
        let part = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123".to_owned();
        let (_server, store) = driver.before(vec![Answer::Stall(part)]).await;
        assert_eq!(driver.kind(read(&*store, None).await), Kind::Timeout, "{}", driver.name);
    }
}

#[tokio::test]
async fn a_store_that_nobody_listens_for_is_unavailable() {
    for driver in ALL {
        let store = (driver.store)(SocketAddr::from(([127, 0, 0, 1], 1)));
        assert_eq!(driver.kind(store.probe().await), Kind::Unavailable, "{}", driver.name);
    }
}

#[tokio::test]
async fn an_answer_that_is_no_listing_is_an_error() {
    for driver in ALL {
        for body in driver.no_listings {
            let (_server, store) = driver.before(vec![Answer::Bytes(answer("200 OK", body))]).await;
            let listed: Result<Vec<_>> = store.list("").try_collect().await;
            assert_eq!(driver.kind(listed), Kind::Unavailable, "{}: {body}", driver.name);
        }
    }
}
