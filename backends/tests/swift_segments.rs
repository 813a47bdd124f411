//! How the Swift driver keeps the segments of large objects, if writes and manifests fail.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backends::{Kind, Store};
use parking_lot::Mutex;
use serde_json::json;
use support::service::{Asked, Reply, Service, reply};
use support::swift::{HOUR, key, kind, source, store, store_by, swift};

/// The segments that were sent: their names and sizes.
type Sent = Mutex<Vec<(String, usize)>>;

/// The answer to a GET: the server does not describe itself, and the listing is one page of what was sent.
fn read(asked: &Asked, sent: &Sent) -> Reply {
    if asked.path == "/info" {
        return reply(404, "");
    }
    let sent = if asked.path.contains("marker=") { Vec::new() } else { sent.lock().clone() };
    let listed: Vec<_> = sent.iter().map(|(name, bytes)| json!({ "name": name, "bytes": bytes })).collect();
    reply(200, json!(listed).to_string())
}

/// A Swift that accepts and lists segments, and answers `status` to manifests. If `declared` is set, `HEAD`
/// of the object reports the manifest that was sent.
async fn segmented(status: u16, declared: bool) -> Service {
    segmented_with(declared, move || status).await
}

/// Like [`segmented`], with a function that answers the requests for manifests.
async fn segmented_with(
    declared: bool,
    manifest_answer: impl Fn() -> u16 + Send + Sync + 'static,
) -> Service {
    let sent = Arc::new(Sent::default());
    let manifest = Arc::new(Mutex::new(None::<String>));
    swift(HOUR, move |asked, _| {
        let name = asked.path.strip_prefix("/v1/AUTH_p/blobs/").unwrap_or_default().to_owned();
        match (asked.method.as_str(), asked.header("x-object-manifest")) {
            ("PUT", Some(folder)) => {
                *manifest.lock() = Some(folder.to_owned());
                reply(manifest_answer(), "")
            }
            ("PUT", None) => {
                sent.lock().push((name, asked.body.len()));
                reply(201, "")
            }
            ("DELETE", _) => reply(204, ""),
            ("HEAD", _) if name.is_empty() => reply(204, ""),
            ("HEAD", _) => match manifest.lock().clone().filter(|_| declared) {
                Some(folder) => reply(200, "hello").with("x-object-manifest", folder),
                None => reply(404, ""),
            },
            _ => read(asked, &sent),
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

/// If it is unknown whether a manifest was written, its segments stay, because a reader may use them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_stay_if_the_manifest_is_uncertain() {
    let server = segmented(503, false).await;
    let store = store(&server).with_segments(100, 1000);
    assert_eq!(kind(store.put(&key(), &source(2500)).await), Kind::Unavailable);
    assert_eq!(removed(&server), 0);
}

/// The same holds if only an earlier try of the manifest broke off. The result of that try is unknown,
/// whatever the last try returned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_stay_if_one_try_broke_off() {
    let tries = AtomicUsize::new(0);
    let refused = move || if tries.fetch_add(1, Ordering::SeqCst) == 0 { 503 } else { 403 };
    let server = segmented_with(false, refused).await;
    let store = store(&server).with_segments(100, 1000);
    assert_eq!(kind(store.put(&key(), &source(2500)).await), Kind::Denied);
    assert_eq!(removed(&server), 0);
}

/// The same holds if the try broke off and the request that checks the object is refused: that refusal says
/// nothing about the manifest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_stay_if_one_try_broke_off_and_the_check_is_refused() {
    let sent = Arc::new(Sent::default());
    let declared = std::sync::atomic::AtomicBool::new(false);
    let server = swift(HOUR, move |asked, _| {
        let name = asked.path.strip_prefix("/v1/AUTH_p/blobs/").unwrap_or_default().to_owned();
        match asked.method.as_str() {
            "PUT" if asked.header("x-object-manifest").is_some() => {
                declared.store(true, Ordering::SeqCst);
                panic!("the connection breaks")
            }
            "PUT" => {
                sent.lock().push((name, asked.body.len()));
                reply(201, "")
            }
            "HEAD" if name.is_empty() => reply(204, ""),
            "HEAD" if declared.load(Ordering::SeqCst) && asked.header("x-newest").is_none() => reply(403, ""),
            "HEAD" => reply(404, ""),
            "DELETE" => reply(204, ""),
            _ => read(asked, &sent),
        }
    })
    .await;
    let error =
        store(&server).with_segments(100, 1000).put(&key(), &source(2500)).await.expect_err("broke off");
    assert_eq!(removed(&server), 0, "{error}");
    assert!(error.has_unknown_outcome() && error.kind() == Kind::Denied, "{error}");
}

/// The old segments are removed only if the new object is visible.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_of_the_old_object_stay_until_the_new_one_is_seen() {
    const OLD: &str = "blobs/reg/segments/old";
    for (size, takes, expected) in [(2500, false, 0), (2500, true, 1), (50, false, 0), (50, true, 0)] {
        let written = Arc::new(Mutex::new((OLD.to_owned(), 5)));
        let sent = Arc::new(Sent::default());
        let server = swift(HOUR, move |asked, _| {
            let name = asked.path.strip_prefix("/v1/AUTH_p/blobs/").unwrap_or_default().to_owned();
            let is_segment = name.contains("/segments/");
            match asked.method.as_str() {
                "PUT" if is_segment => {
                    sent.lock().push((name, asked.body.len()));
                    reply(201, "")
                }
                "PUT" => {
                    // 202: the present object is newer by the servers' clocks, and stays.
                    let manifest = asked.header("x-object-manifest").unwrap_or_default().to_owned();
                    if takes {
                        *written.lock() = (manifest, asked.body.len());
                    }
                    reply(202, "")
                }
                "DELETE" => reply(204, ""),
                "HEAD" if name.is_empty() => reply(204, ""),
                "HEAD" => match written.lock().clone() {
                    (manifest, bytes) if manifest.is_empty() => reply(200, "x".repeat(bytes)),
                    (manifest, _) => reply(200, "hello").with("x-object-manifest", manifest),
                },
                _ if asked.path.contains("old") && !asked.path.contains("marker=") => {
                    reply(200, json!([{ "name": "reg/segments/old/000000000", "bytes": 5 }]).to_string())
                }
                _ => read(asked, &sent),
            }
        })
        .await;
        let store = store(&server).with_segments(100, 1000);
        match store.put(&key(), &source(size)).await {
            Ok(()) => assert!(size == 2500 && takes, "{size} {takes}: nobody saw the object"),
            Err(error) => assert!(error.has_unknown_outcome() && error.is_transient(), "{error}"),
        }
        let old = server.asked(|asked| asked.method == "DELETE" && asked.path.contains("/segments/old/"));
        // The segments of a manifest that was dropped are removed, because nobody will ever read them.
        let own = if size == 2500 && !takes { 3 } else { 0 };
        assert_eq!((old.len(), removed(&server)), (expected, expected + own), "{size} {takes}");
    }
}

/// If the caller is cancelled while the manifest is written, the result is a complete object or none.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_write_of_a_manifest_ends_even_if_its_caller_is_cancelled() {
    for (status, remain) in [(201, 3), (403, 0)] {
        let (asked, begun) = std::sync::mpsc::sync_channel(1);
        let (go_on, held) = std::sync::mpsc::sync_channel::<()>(1);
        let held = Mutex::new(held);
        let server = segmented_with(status == 201, move || {
            asked.send(()).expect("the test waits");
            held.lock().recv().expect("the test lets it go on");
            status
        })
        .await;
        let transport = support::transport(support::short());
        let tidying = transport.tidying.clone();
        let store = store_by(server.address, &transport).with_segments(100, 1000);
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

/// A lost answer is not a failure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visible_manifest_counts_as_written() {
    let server = segmented(503, true).await;
    let store = store(&server).with_segments(100, 1000);
    store.put(&key(), &source(2500)).await.expect("writes");
    assert_eq!(removed(&server), 0);
}
