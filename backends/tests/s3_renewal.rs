//! How the S3 driver renews credentials.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backends::{Kind, Source, Store};
use bytes::Bytes;
use support::credentials::*;
use support::service::{Asked, Service, reply, slow_answer};

#[tokio::test]
async fn credentials_are_fetched_once_at_the_first_request() {
    let server = Service::start(|asked| match asked.path.as_str() {
        "/container" => {
            slow_answer(Duration::from_millis(100));
            document("AK", HOUR)
        }
        _ => fine(asked),
    })
    .await;
    let store = store(&server, &container(&server));
    assert_eq!(server.below("/").len(), 0);
    let key = key();
    let all = futures_util::future::join_all((0..20).map(|_| store.head(&key))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!((server.below("/container").len(), server.below("/bucket").len()), (1, 20));
}

#[tokio::test]
async fn a_fetch_continues_if_its_first_caller_is_cancelled() {
    let server = Service::start(|asked| match asked.path.as_str() {
        "/container" => {
            slow_answer(Duration::from_millis(300));
            document("AK", HOUR)
        }
        _ => fine(asked),
    })
    .await;
    let store = Arc::new(store(&server, &container(&server)));
    let hurried = tokio::time::timeout(Duration::from_millis(100), store.head(&key())).await;
    assert!(hurried.is_err());
    store.head(&key()).await.expect("answers");
    assert_eq!(server.below("/container").len(), 1);
}

#[tokio::test]
async fn a_failed_fetch_fails_all_waiting_requests() {
    let server = Service::start(|asked| match asked.path.as_str() {
        "/container" => reply(500, "hunter2"),
        _ => fine(asked),
    })
    .await;
    let store = store(&server, &container(&server));
    let key = key();
    for error in futures_util::future::join_all((0..20).map(|_| store.head(&key))).await {
        let error = error.expect_err("no credentials");
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(said(&error).contains("ask the container's service for credentials"), "{error}");
    }
    assert_eq!((server.below("/container").len(), server.below("/bucket").len()), (3, 0));
}

/// Keys `AK0`, `AK1`, …, each valid for a few seconds. They are requested with the token that is in the file
/// at that time.
#[tokio::test]
async fn credentials_are_renewed_before_they_expire_with_the_current_token() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = write(folder.path(), "token", "day 0\n");
    let given = AtomicUsize::new(0);
    let server = Service::start(move |asked| match asked.path.as_str() {
        "/container" => {
            let index = given.fetch_add(1, Ordering::Relaxed);
            let today = if index == 0 { "day 0" } else { "day 1" };
            let known = asked.header("authorization") == Some(today);
            if known { document(&format!("AK{index}"), Duration::from_secs(3)) } else { reply(401, "") }
        }
        _ => fine(asked),
    })
    .await;
    let url = format!("http://{}/container", server.address);
    let store = store(
        &server,
        &environment(&[
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &file),
        ]),
    );
    store.head(&key()).await.expect("answers");
    std::fs::write(&file, "day 1").expect("rotated");
    let keys = || {
        let mut keys: Vec<_> = server.below("/bucket").iter().map(Asked::key).collect();
        keys.dedup();
        keys
    };
    while keys().len() < 4 {
        store.head(&key()).await.expect("answers");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(keys(), ["AK0", "AK1", "AK2", "AK3"]);
    // Many requests share the keys of one fetch. A renewal may be under way.
    assert!(server.below("/container").len() <= 5);
}

#[tokio::test]
async fn after_a_failed_renewal_the_old_credentials_are_used_until_they_expire() {
    let given = AtomicUsize::new(0);
    let server = Service::start(move |asked| match asked.path.as_str() {
        "/container" if given.fetch_add(1, Ordering::Relaxed) > 0 => reply(500, ""),
        "/container" => document("AK", Duration::from_secs(3)),
        _ => fine(asked),
    })
    .await;
    let store = store(&server, &container(&server));
    let start = std::time::SystemTime::now();
    let error = loop {
        if let Err(error) = store.head(&key()).await {
            break error;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    // Until the keys expire, every request succeeds.
    let at = start.elapsed().expect("the clock advances");
    assert!(at > Duration::from_millis(2500), "{at:?}: {error}");
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(server.below("/container").len() > 1, "nobody tried to renew them");
    assert!(store.head(&key()).await.is_err(), "they stay expired");
}

/// A store that refuses the keys for which `takes` is false.
async fn changing(takes: fn(&str) -> bool) -> Service {
    let given = AtomicUsize::new(0);
    Service::start(move |asked| match asked.path.as_str() {
        "/container" => document(&format!("AK{}", given.fetch_add(1, Ordering::Relaxed)), HOUR),
        _ if takes(&asked.key()) => fine(asked),
        // The answer to a HEAD has no body that could name the reason.
        _ if asked.method == "HEAD" => reply(400, ""),
        _ => expired(),
    })
    .await
}

#[tokio::test]
async fn after_an_expired_token_the_credentials_are_renewed_once_and_the_request_repeated() {
    for method in ["HEAD", "DELETE", "PUT"] {
        let server = changing(|key| key != "AK0").await;
        let store = store(&server, &container(&server));
        match method {
            "HEAD" => drop(store.head(&key()).await.expect("answers")),
            "DELETE" => store.delete(&key()).await.expect("deleted"),
            _ => store.put(&key(), &Source::bytes(Bytes::from_static(b"hello"))).await.expect("written"),
        }
        let keys: Vec<_> = server.below("/bucket").iter().map(Asked::key).collect();
        assert_eq!(keys, ["AK0", "AK1"], "{method}");
    }
    // Concurrent requests cause one renewal.
    let server = changing(|key| key != "AK0").await;
    let store = store(&server, &container(&server));
    let key = key();
    let all = futures_util::future::join_all((0..20).map(|_| store.delete(&key))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(server.below("/container").len(), 2);
}

#[tokio::test]
async fn a_store_that_always_refuses_causes_one_renewal() {
    let server = changing(|_| false).await;
    let store = store(&server, &container(&server));
    for requests in [2, 3, 4] {
        let error = store.delete(&key()).await.expect_err("refused");
        assert_eq!((error.kind(), error.code()), (Kind::Denied, Some("ExpiredToken")), "{}", said(&error));
        assert_eq!(server.below("/bucket").len(), requests);
    }
    assert_eq!(server.below("/container").len(), 2);
    // Keys from the configuration cannot be renewed.
    let fixed = with_role(&server, None, "AKFIXED", &container(&server));
    assert_eq!(fixed.delete(&key()).await.expect_err("refused").kind(), Kind::Denied);
    assert_eq!(server.below("/bucket").len(), 5);
}

/// Some stores answer 403 to an expired token, and the answer to a HEAD has no body. The 403 may also mean
/// that nobody may see this object. Such answers cause a renewal only now and then.
#[tokio::test]
async fn a_refusal_without_a_reason_causes_at_most_one_renewal() {
    let silent = async |takes: fn(&str) -> bool| {
        let given = AtomicUsize::new(0);
        Service::start(move |asked| match asked.path.as_str() {
            "/container" => document(&format!("AK{}", given.fetch_add(1, Ordering::Relaxed)), HOUR),
            _ if takes(&asked.key()) => fine(asked),
            _ if asked.method == "HEAD" => reply(403, ""),
            _ => reply(403, "<Error><Code>AccessDenied</Code></Error>"),
        })
        .await
    };
    let server = silent(|key| key != "AK0").await;
    store(&server, &container(&server)).head(&key()).await.expect("answers");
    let keys: Vec<_> = server.below("/bucket").iter().map(Asked::key).collect();
    assert_eq!(keys, ["AK0", "AK1"]);

    let server = silent(|_| false).await;
    let refused = store(&server, &container(&server));
    for requests in [2, 3, 4] {
        let error = refused.head(&key()).await.expect_err("refused");
        assert_eq!((error.kind(), error.code()), (Kind::Denied, Some("403")), "{}", said(&error));
        assert_eq!(server.below("/bucket").len(), requests);
    }
    assert_eq!(server.below("/container").len(), 2);
    // A refusal with another reason causes no renewal.
    let server = silent(|_| false).await;
    let refused = store(&server, &container(&server));
    assert_eq!(refused.delete(&key()).await.expect_err("refused").code(), Some("AccessDenied"));
    assert_eq!((server.below("/bucket").len(), server.below("/container").len()), (1, 1));
}
