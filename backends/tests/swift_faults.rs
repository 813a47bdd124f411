//! What the Swift driver makes of a Keystone and a Swift that misbehave.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backends::swift::{
    Access, Account, Domain, Identity, Login, Named, Service as Wanted, SwiftConfig, SwiftStore,
};
use backends::{Key, Kind, Result, Secret, Source, Store, Transport};
use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::json;
use support::service::{Asked, Reply, Service, reply};

const PASSWORD: &str = "hunter2";

/// Keystone's `POST /v3/auth/tokens`.
const TOKENS: &str = "/v3/auth/tokens";

/// An hour, in seconds.
const HOUR: u64 = 3600;

fn key() -> Key {
    Key::new("sha256/ab/abcd")
}

fn source(size: usize) -> Source {
    Source::bytes(Bytes::from(vec![7; size]))
}

/// Keystone's answer: the `number`th token, good for `life` seconds, and this same server as Swift.
fn granted(asked: &Asked, number: usize, life: u64) -> Reply {
    // Only the difference counts, for Keystone's clock may be any.
    let expires = format!("2015-11-06T{:02}:{:02}:{:02}.000000Z", life / 3600, life / 60 % 60, life % 60);
    let url = format!("http://{}/v1/AUTH_p", asked.header("host").expect("a host"));
    let endpoint = json!({ "interface": "public", "region": "One", "url": url });
    let body = json!({ "token": {
        "issued_at": "2015-11-06T00:00:00.000000Z",
        "expires_at": expires,
        "catalog": [{ "type": "object-store", "endpoints": [endpoint] }],
    } });
    reply(201, body.to_string()).with("x-subject-token", format!("token-{number}"))
}

/// A Keystone that grants, and behind it a Swift that answers by a function of the token's number.
async fn swift(life: u64, answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Service {
    let logins = AtomicUsize::new(0);
    Service::start(move |asked| {
        if asked.path == TOKENS {
            return granted(asked, logins.fetch_add(1, Ordering::SeqCst) + 1, life);
        }
        let token = asked.header("x-auth-token").and_then(|token| token.strip_prefix("token-"));
        answer(asked, token.and_then(|number| number.parse().ok()).unwrap_or_default())
    })
    .await
}

fn store(server: &Service) -> SwiftStore {
    store_by(server, &support::transport(support::short()))
}

fn store_by(server: &Service, transport: &Transport) -> SwiftStore {
    let named = |name: &str| Named::Name { name: name.to_owned(), domain: Domain::Id("default".to_owned()) };
    let account = Account {
        user: named("quay"),
        password: Some(Secret::new(PASSWORD)),
        token: None,
        project: Some(named("quay")),
    };
    let url = format!("http://{}/v3", server.address).parse().expect("a URL");
    let config = SwiftConfig {
        access: Access::Login(Box::new(Login { url, identity: Identity::V3(account) })),
        storage_url: None,
        service: Wanted { kind: "object-store".to_owned(), interface: "public".to_owned(), region: None },
        container: "blobs".to_owned(),
        root: "reg".to_owned(),
        simple_path_concat: false,
        ca_file: None,
    };
    SwiftStore::new(&config, transport).expect("builds")
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> Kind {
    support::kind(result, &["token-", PASSWORD])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_ask_one_login_runs() {
    let server = Service::start(|asked| {
        if asked.path == TOKENS {
            std::thread::sleep(Duration::from_millis(300));
            return granted(asked, 1, HOUR);
        }
        reply(200, "hello")
    })
    .await;
    let (store, key) = (store(&server), key());
    for head in join_all((0..40).map(|_| store.head(&key))).await {
        assert!(head.expect("answers").is_some());
    }
    assert_eq!(server.below(TOKENS).len(), 1);
}

/// Whoever leaves while a login runs does not take it away from the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_outlives_those_who_wait_for_it() {
    let server = Service::start(|asked| {
        if asked.path == TOKENS {
            std::thread::sleep(Duration::from_millis(300));
            return granted(asked, 1, HOUR);
        }
        reply(200, "hello")
    })
    .await;
    let (store, key) = (store(&server), key());
    let left = tokio::time::timeout(Duration::from_millis(100), store.head(&key)).await;
    assert!(left.is_err());
    assert!(store.head(&key).await.expect("answers").is_some());
    assert_eq!(server.below(TOKENS).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_token_is_replaced_once() {
    let server = swift(HOUR, |_, token| reply(if token < 2 { 401 } else { 200 }, "hello")).await;
    let (store, key) = (store(&server), key());
    for head in join_all((0..20).map(|_| store.head(&key))).await {
        assert!(head.expect("answers").is_some());
    }
    assert_eq!(server.below(TOKENS).len(), 2);
    let server = swift(HOUR, |_, _| reply(401, "")).await;
    assert_eq!(kind(self::store(&server).head(&key).await), Kind::Denied);
    let object = server.below("/v1/AUTH_p/blobs/");
    assert_eq!((server.below(TOKENS).len(), object.len()), (2, 2));
}

/// Swift asks Keystone about each token that it meets for the first time: a crowd that comes with a
/// new one at once would have it ask for every one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_token_is_shown_once_before_a_crowd_bears_it() {
    let (known, herd) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (seen, strangers) = (Arc::clone(&known), Arc::clone(&herd));
    let server = swift(HOUR, move |_, token| {
        if seen.load(Ordering::SeqCst) < token {
            strangers.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(100));
            seen.store(token, Ordering::SeqCst);
        }
        reply(200, "hello")
    })
    .await;
    let (store, key) = (store(&server), key());
    for head in join_all((0..20).map(|_| store.head(&key))).await {
        assert!(head.expect("answers").is_some());
    }
    assert_eq!((server.below(TOKENS).len(), herd.load(Ordering::SeqCst)), (1, 1));
}

/// The second token is refused in mid-upload only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_is_repeated_with_another_token() {
    let server = swift(HOUR, |asked, token| match (asked.method.as_str(), token) {
        ("PUT", 1) => reply(401, ""),
        ("PUT", _) => reply(201, ""),
        _ => reply(404, ""),
    })
    .await;
    // 404 may mean the container until it was seen.
    let error = kind(store(&server).put(&key(), &source(10)).await);
    assert_eq!(error, Kind::Denied);
    let server = swift(HOUR, |asked, token| match (asked.method.as_str(), token) {
        ("PUT", 1) => reply(401, ""),
        ("PUT", _) => reply(201, ""),
        _ if asked.path == "/v1/AUTH_p/blobs" => reply(204, ""),
        _ => reply(404, ""),
    })
    .await;
    store(&server).put(&key(), &source(1_000_000)).await.expect("writes");
    let puts = server.asked(|asked| asked.method == "PUT");
    assert_eq!(puts.iter().map(|put| put.body.len()).collect::<Vec<_>>(), [1_000_000, 1_000_000]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_renewed_early_and_the_old_one_serves_meanwhile() {
    let logins = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&logins);
    let server = Service::start(move |asked| {
        if asked.path != TOKENS {
            return reply(200, "hello");
        }
        match counted.fetch_add(1, Ordering::SeqCst) {
            0 => granted(asked, 1, 5),
            _ => reply(503, ""),
        }
    })
    .await;
    let (store, key) = (store(&server), key());
    assert!(store.head(&key).await.expect("answers").is_some());
    // Past 80 % of five seconds, and before their end.
    tokio::time::sleep(Duration::from_millis(4200)).await;
    for _ in 0..5 {
        assert!(store.head(&key).await.expect("the old token serves").is_some());
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    // Tried early once, and again now that there is no other way.
    assert_eq!(kind(store.head(&key).await), Kind::Unavailable);
    assert_eq!(logins.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keystone_says_is_sorted() {
    for (status, expected, logins) in [
        // A refused login is not repeated at once: Keystone may lock the account.
        (401, Kind::Denied, 1),
        (403, Kind::Denied, 1),
        (404, Kind::Invalid, 1),
        (503, Kind::Unavailable, 3),
        (429, Kind::Throttled { retry_after: None }, 3),
        (302, Kind::Invalid, 1),
    ] {
        let server = Service::start(move |_| reply(status, "").with("x-openstack-request-id", "req-1")).await;
        let store = store(&server);
        for _ in 0..3 {
            let answer = store.head(&key()).await;
            let text = answer.as_ref().expect_err("no login").to_string();
            assert!(text.contains("req-1"), "{text}");
            assert_eq!(kind(answer), expected, "{status}");
        }
        assert_eq!(server.below(TOKENS).len(), logins, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_by_meaning() {
    let pause = Some(Duration::from_secs(7));
    for (status, expected) in [
        (498, Kind::Throttled { retry_after: pause }),
        (429, Kind::Throttled { retry_after: pause }),
        (499, Kind::Unavailable),
        (403, Kind::Denied),
        (413, Kind::Invalid),
        (507, Kind::Denied),
        (500, Kind::Unavailable),
        (408, Kind::Timeout),
    ] {
        let server =
            swift(HOUR, move |_, _| reply(status, "").with("retry-after", "7").with("x-trans-id", "tx-1"))
                .await;
        let error = store(&server).head(&key()).await.expect_err("refused");
        assert!(error.to_string().contains("tx-1"), "{error}");
        assert_eq!(error.kind(), expected, "{status}");
    }
}

/// A Swift that takes segments and lists them, and answers to manifests with `status`; `HEAD` of the
/// object says `declared` of what was sent.
async fn segmented(status: u16, declared: bool) -> Service {
    segmented_with(declared, move || status).await
}

/// The same, with what it says of manifests as it comes.
async fn segmented_with(
    declared: bool,
    manifest_answer: impl Fn() -> u16 + Send + Sync + 'static,
) -> Service {
    let sent = Arc::new(std::sync::Mutex::new(Vec::<(String, usize)>::new()));
    let manifest = Arc::new(std::sync::Mutex::new(None::<String>));
    swift(HOUR, move |asked, _| {
        let name = asked.path.strip_prefix("/v1/AUTH_p/blobs/").unwrap_or_default().to_owned();
        match (asked.method.as_str(), asked.header("x-object-manifest")) {
            ("PUT", Some(folder)) => {
                *manifest.lock().expect("unpoisoned") = Some(folder.to_owned());
                reply(manifest_answer(), "")
            }
            ("PUT", None) => {
                sent.lock().expect("unpoisoned").push((name, asked.body.len()));
                reply(201, "")
            }
            ("DELETE", _) => reply(204, ""),
            ("HEAD", _) if name.is_empty() => reply(204, ""),
            ("HEAD", _) => match manifest.lock().expect("unpoisoned").clone().filter(|_| declared) {
                Some(folder) => reply(200, "hello").with("x-object-manifest", folder),
                None => reply(404, ""),
            },
            _ if asked.path == "/info" => reply(404, ""),
            _ if asked.path.contains("marker=") => reply(200, "[]"),
            _ => {
                let listed = sent.lock().expect("unpoisoned").clone();
                let listed: Vec<_> =
                    listed.iter().map(|(name, bytes)| json!({ "name": name, "bytes": bytes })).collect();
                reply(200, json!(listed).to_string())
            }
        }
    })
    .await
}

fn removed(server: &Service) -> usize {
    server.asked(|asked| asked.method == "DELETE" && asked.path.contains("/segments/")).len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_without_a_manifest_are_removed() {
    let server = segmented(403, false).await;
    let store = store(&server).with_segments(100, 1000);
    assert_eq!(kind(store.put(&key(), &source(2500)).await), Kind::Denied);
    assert_eq!(removed(&server), 3);
}

/// Where it is not known whether a manifest was written, its segments stay: somebody may be reading.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_of_a_manifest_in_doubt_stay() {
    let server = segmented(503, false).await;
    let store = store(&server).with_segments(100, 1000);
    assert_eq!(kind(store.put(&key(), &source(2500)).await), Kind::Unavailable);
    assert_eq!(removed(&server), 0);
}

/// The same where only an earlier try of the manifest broke off: what it did is not known, whatever the
/// last one was told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_stay_after_a_try_that_broke_off() {
    let tries = AtomicUsize::new(0);
    let refused = move || if tries.fetch_add(1, Ordering::SeqCst) == 0 { 503 } else { 403 };
    let server = segmented_with(false, refused).await;
    let store = store(&server).with_segments(100, 1000);
    assert_eq!(kind(store.put(&key(), &source(2500)).await), Kind::Denied);
    assert_eq!(removed(&server), 0);
}

/// And where it broke off, and the look that follows it is refused: that says nothing of the manifest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_stay_after_a_try_that_broke_off_and_a_look_that_is_refused() {
    let sent = Arc::new(std::sync::Mutex::new(Vec::<(String, usize)>::new()));
    let declared = std::sync::atomic::AtomicBool::new(false);
    let server = swift(HOUR, move |asked, _| {
        let name = asked.path.strip_prefix("/v1/AUTH_p/blobs/").unwrap_or_default().to_owned();
        match asked.method.as_str() {
            "PUT" if asked.header("x-object-manifest").is_some() => {
                declared.store(true, Ordering::SeqCst);
                panic!("the connection breaks")
            }
            "PUT" => {
                sent.lock().expect("unpoisoned").push((name, asked.body.len()));
                reply(201, "")
            }
            "HEAD" if name.is_empty() => reply(204, ""),
            "HEAD" if declared.load(Ordering::SeqCst) && asked.header("x-newest").is_none() => reply(403, ""),
            "HEAD" => reply(404, ""),
            "DELETE" => reply(204, ""),
            _ if asked.path == "/info" => reply(404, ""),
            _ if asked.path.contains("marker=") => reply(200, "[]"),
            _ => {
                let listed = sent.lock().expect("unpoisoned").clone();
                let listed: Vec<_> =
                    listed.iter().map(|(name, bytes)| json!({ "name": name, "bytes": bytes })).collect();
                reply(200, json!(listed).to_string())
            }
        }
    })
    .await;
    let error =
        store(&server).with_segments(100, 1000).put(&key(), &source(2500)).await.expect_err("broke off");
    assert_eq!(removed(&server), 0, "{error}");
    assert!(error.has_unknown_outcome() && error.kind() == Kind::Denied, "{error}");
}

/// What was replaced goes only once the object in its place is seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_of_the_old_object_stay_until_the_new_one_is_seen() {
    const OLD: &str = "blobs/reg/segments/old";
    for (size, takes, expected) in [(2500, false, 0), (2500, true, 1), (50, false, 0), (50, true, 0)] {
        let written = Arc::new(std::sync::Mutex::new((OLD.to_owned(), 5)));
        let sent = Arc::new(std::sync::Mutex::new(Vec::<(String, usize)>::new()));
        let server = swift(HOUR, move |asked, _| {
            let name = asked.path.strip_prefix("/v1/AUTH_p/blobs/").unwrap_or_default().to_owned();
            let is_segment = name.contains("/segments/");
            match asked.method.as_str() {
                "PUT" if is_segment => {
                    sent.lock().expect("unpoisoned").push((name, asked.body.len()));
                    reply(201, "")
                }
                "PUT" => {
                    // 202: what is there is newer by the servers' clocks, and stays.
                    let manifest = asked.header("x-object-manifest").unwrap_or_default().to_owned();
                    if takes {
                        *written.lock().expect("unpoisoned") = (manifest, asked.body.len());
                    }
                    reply(202, "")
                }
                "DELETE" => reply(204, ""),
                "HEAD" if name.is_empty() => reply(204, ""),
                "HEAD" => match written.lock().expect("unpoisoned").clone() {
                    (manifest, bytes) if manifest.is_empty() => reply(200, "x".repeat(bytes)),
                    (manifest, _) => reply(200, "hello").with("x-object-manifest", manifest),
                },
                _ if asked.path == "/info" => reply(404, ""),
                _ if asked.path.contains("marker=") => reply(200, "[]"),
                _ if asked.path.contains("old") => {
                    reply(200, json!([{ "name": "reg/segments/old/000000000", "bytes": 5 }]).to_string())
                }
                _ => {
                    let listed = sent.lock().expect("unpoisoned").clone();
                    let listed: Vec<_> =
                        listed.iter().map(|(name, bytes)| json!({ "name": name, "bytes": bytes })).collect();
                    reply(200, json!(listed).to_string())
                }
            }
        })
        .await;
        let store = store(&server).with_segments(100, 1000);
        match store.put(&key(), &source(size)).await {
            Ok(()) => assert!(size == 2500 && takes, "{size} {takes}: nobody saw the object"),
            Err(error) => assert!(error.has_unknown_outcome() && error.is_transient(), "{error}"),
        }
        let old = server.asked(|asked| asked.method == "DELETE" && asked.path.contains("/segments/old/"));
        assert_eq!((old.len(), removed(&server)), (expected, expected), "{size} {takes}");
    }
}

/// Whoever gives up at the manifest leaves an object that is whole, or nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_manifest_is_seen_to_its_end_though_nobody_waits() {
    for (status, remain) in [(201, 3), (403, 0)] {
        let (asked, begun) = std::sync::mpsc::channel();
        let (go_on, held) = std::sync::mpsc::channel::<()>();
        let held = std::sync::Mutex::new(held);
        let server = segmented_with(status == 201, move || {
            asked.send(()).expect("the test waits");
            held.lock().expect("unpoisoned").recv().expect("the test lets it go on");
            status
        })
        .await;
        let transport = support::transport(support::short());
        let tidying = transport.tidying.clone();
        let store = store_by(&server, &transport).with_segments(100, 1000);
        let put = tokio::spawn(async move { store.put(&key(), &source(2500)).await });
        tokio::task::spawn_blocking(move || begun.recv()).await.expect("waits").expect("asked");
        put.abort();
        assert!(put.await.expect_err("given up").is_cancelled());
        go_on.send(()).expect("it waits");
        if remain == 0 {
            while removed(&server) < 3 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        } else {
            tidying.close();
            tidying.wait().await;
            assert_eq!(removed(&server), 0);
        }
    }
}

/// An answer that was lost is no failure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_is_there_was_written() {
    let server = segmented(503, true).await;
    let store = store(&server).with_segments(100, 1000);
    store.put(&key(), &source(2500)).await.expect("writes");
    assert_eq!(removed(&server), 0);
}
