//! How the Swift driver handles a faulty Keystone and a faulty Swift.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backends::{Kind, Store};
use futures_util::future::join_all;
use support::service::{Service, reply, slow_answer};
use support::swift::{HOUR, TOKENS, granted, key, kind, source, store, swift};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_requests_share_one_login() {
    let server = Service::start(|asked| {
        if asked.path == TOKENS {
            slow_answer(Duration::from_millis(300));
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

/// If the caller that started a login is cancelled, the login continues for the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_continues_if_its_caller_is_cancelled() {
    let server = Service::start(|asked| {
        if asked.path == TOKENS {
            slow_answer(Duration::from_millis(300));
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

/// Swift asks Keystone about each token that it does not know. If many requests arrived with a new token at
/// once, Swift would ask for each of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_introduces_a_new_token_before_the_others_use_it() {
    let (known, herd) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (seen, strangers) = (Arc::clone(&known), Arc::clone(&herd));
    let server = swift(HOUR, move |_, token| {
        if seen.load(Ordering::SeqCst) < token {
            strangers.fetch_add(1, Ordering::SeqCst);
            slow_answer(Duration::from_millis(100));
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

/// The second token is refused only during an upload.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_is_repeated_with_a_new_token() {
    let server = swift(HOUR, |asked, token| match (asked.method.as_str(), token) {
        ("PUT", 1) => reply(401, ""),
        ("PUT", _) => reply(201, ""),
        _ => reply(404, ""),
    })
    .await;
    // Until the container was seen once, a 404 may mean the container.
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

/// Moves the clock. Between two calls, time passes as always, because the requests use real sockets.
async fn advance(by: Duration) {
    tokio::time::pause();
    tokio::time::advance(by).await;
    tokio::time::resume();
}

#[tokio::test]
async fn tokens_are_renewed_early_while_the_old_one_is_used() {
    let logins = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&logins);
    let server = Service::start(move |asked| {
        if asked.path != TOKENS {
            return reply(200, "hello");
        }
        match counted.fetch_add(1, Ordering::SeqCst) {
            0 => granted(asked, 1, HOUR),
            _ => reply(503, ""),
        }
    })
    .await;
    let (store, key, hour) = (store(&server), key(), Duration::from_secs(HOUR));
    for _ in 0..5 {
        assert!(store.head(&key).await.expect("answers").is_some());
    }
    assert_eq!(logins.load(Ordering::SeqCst), 1);
    advance(hour.mul_f64(0.85)).await;
    for _ in 0..5 {
        assert!(store.head(&key).await.expect("the old token is valid").is_some());
    }
    while logins.load(Ordering::SeqCst) < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(store.head(&key).await.expect("the old token is valid").is_some());
    assert_eq!(logins.load(Ordering::SeqCst), 2, "one early renewal is tried");
    advance(hour.mul_f64(0.2)).await;
    // The first of them may wait for the early renewal.
    for _ in 0..2 {
        assert_eq!(kind(store.head(&key).await), Kind::Unavailable);
    }
    assert!(logins.load(Ordering::SeqCst) > 2, "the token has expired");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_keystone_have_their_kinds() {
    for (status, expected, logins) in [
        // A refused login is not repeated at once, because Keystone may lock the account.
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
async fn refusals_have_their_kinds() {
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
