//! A push stays with one instance, and survives the failure of any one instance or of its store.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures_util::stream;
use harness::gateway::overlay;
use harness::port::Port;
use harness::site::{LOGIN, Site};
use http::{Method, StatusCode};
use serde_json::json;

use crate::failures::until;
use crate::pair::{PARAMETER, Pair, REPOSITORY, UPLOADS, begun, image, problem};

#[tokio::test]
async fn a_push_stays_with_the_home_instance() -> Result<()> {
    let pair = Pair::start()?;
    let gateway = pair.gateway().await?;
    let client = gateway.client(LOGIN)?;
    client.push(REPOSITORY, "v1", &image(1)?).await?;
    assert_eq!(pair.counts(&Method::POST, UPLOADS), (3, 0));
    assert_eq!(pair.counts(&Method::PATCH, UPLOADS), (3, 0));
    assert_eq!(pair.counts(&Method::PUT, UPLOADS), (3, 0));
    assert_eq!(pair.counts(&Method::PUT, "/manifests/"), (1, 0));
    assert!(pair.b.record().all().is_empty(), "the home instance gets all requests");
    for seen in pair.a().record().all() {
        assert!(!seen.target.contains(PARAMETER), "Quay never sees the parameter: {}", seen.target);
    }
    let put = pair.a().record().of(&Method::PUT, UPLOADS);
    assert!(put.iter().all(|seen| seen.target.contains("?digest=sha256%3A")), "{put:?}");
    Ok(())
}

#[tokio::test]
async fn with_one_instance_no_location_is_marked() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    let (_, path) = begun(&gateway).await?;
    assert!(!path.contains('?'), "{path}");
    Ok(())
}

#[tokio::test]
async fn a_push_survives_the_death_of_the_home_instance() -> Result<()> {
    let pair = Pair::start()?;
    let gateway = pair.gateway().await?;
    pair.a().down().await;
    let image = image(1)?;
    let client = gateway.client(LOGIN)?;
    client.push(REPOSITORY, "v1", &image).await?;
    assert_eq!(pair.counts(&Method::PUT, ""), (0, 4));
    for blob in image.blobs() {
        assert_eq!(pair.site.zone("zone-b").read(&blob.digest)?, blob.bytes()?);
    }
    assert_eq!(client.pull(REPOSITORY, "v1").await?.len(), 3);
    gateway.logged("an instance of Quay fails").await?;
    let log = gateway.log();
    assert_eq!(log.matches("an instance of Quay fails").count(), 1, "one log line per change");
    pair.a().up().await;
    for attempt in 0.. {
        client.fetch(Method::GET, "/v2/", &[]).await?;
        if gateway.log().contains("an instance of Quay answers again") {
            break;
        }
        ensure!(attempt < 1200, "the home instance was not tried again");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let (before, _) = pair.counts(&Method::POST, UPLOADS);
    client.push_blob(REPOSITORY, &self::image(9)?.layers[0]).await?;
    assert_eq!(pair.counts(&Method::POST, UPLOADS).0, before + 1, "the home instance gets uploads again");
    Ok(())
}

#[tokio::test]
async fn another_instance_continues_an_upload_if_its_own_has_died() -> Result<()> {
    let pair = Pair::start()?;
    let gateway = pair.gateway().await?;
    let (client, path) = begun(&gateway).await?;
    pair.a().down().await;
    let bytes = Bytes::from(vec![7; 300_000]);
    let digest = backends::Digest::of(&bytes);
    let patched = client.send(Method::PATCH, &path, &[], bytes.clone()).await?;
    assert_eq!((patched.status(), patched.headers()["range"].to_str()?), (StatusCode::ACCEPTED, "0-299999"));
    let location = patched.headers()["location"].to_str()?.to_owned();
    assert!(location.ends_with("quay-gateway-instance=zone-b"), "{location}");
    // The upload stays there although home works again.
    pair.a().up().await;
    let put = client.send(Method::PUT, &format!("{location}&digest={digest}"), &[], Bytes::new()).await?;
    assert_eq!(put.status(), StatusCode::CREATED);
    assert_eq!(pair.counts(&Method::PATCH, UPLOADS), (0, 1));
    assert_eq!(pair.counts(&Method::PUT, UPLOADS), (0, 1));
    assert_eq!(client.pull_blob(REPOSITORY, &digest).await?.size, 300_000);
    Ok(())
}

#[tokio::test]
async fn a_push_stays_although_another_request_failed_there() -> Result<()> {
    let pair = Pair::start()?;
    let gateway = pair.gateway().await?;
    let (client, path) = begun(&gateway).await?;
    // A read fails while home's nginx has no Quay behind it for a moment.
    pair.a().set(|faults| faults.nginx = Some(StatusCode::SERVICE_UNAVAILABLE));
    client.fetch(Method::GET, "/v2/", &[]).await?;
    until(&gateway, "zone-a", "open").await?;
    pair.a().set(|faults| faults.nginx = None);
    let bytes = Bytes::from(vec![7; 300_000]);
    let patched = client.send(Method::PATCH, &path, &[], bytes.clone()).await?;
    let location = patched.headers()["location"].to_str()?.to_owned();
    assert_eq!(pair.counts(&Method::PATCH, UPLOADS), (1, 0));
    let digest = backends::Digest::of(&bytes);
    client.send(Method::PUT, &format!("{location}&digest={digest}"), &[], Bytes::new()).await?;
    assert_eq!(pair.counts(&Method::PUT, UPLOADS), (1, 0));
    Ok(())
}

#[tokio::test]
async fn after_the_home_store_failed_a_push_the_next_goes_to_another_instance_and_later_home() -> Result<()> {
    let pair = Pair::start()?;
    let mut config = pair.config();
    // A probe of the store would already send the first push to another instance.
    overlay(&mut config, &json!({"routing": {"probe_interval": "1h"}}));
    let gateway = pair.gateway_with(&config).await?;
    let client = gateway.client(LOGIN)?;
    pair.site.zone("zone-a").proxy().down().await;
    let first = client.push(REPOSITORY, "v1", &image(1)?).await.expect_err("its store is dead");
    assert!(first.to_string().contains("PATCH upload: 500"), "{first}");
    assert_eq!(pair.counts(&Method::PATCH, UPLOADS), (1, 0), "never sent twice");
    client.push(REPOSITORY, "v1", &image(1)?).await?;
    assert_eq!(pair.counts(&Method::POST, UPLOADS), (1, 3));
    assert_eq!(pair.counts(&Method::PUT, "/manifests/"), (0, 1));
    gateway.logged("uploads fail at an instance of Quay").await?;
    let log = gateway.log();
    assert_eq!(log.matches("uploads fail at an instance of Quay").count(), 1);
    let status = gateway.status().await?;
    let uploads = ["zone-a", "zone-b"].map(|name| status["registry"][name]["uploads"].clone());
    assert_eq!(uploads, [json!("open"), json!("closed")]);
    assert_eq!(status["registry"]["zone-a"]["state"], "closed");
    // Requests that need only the database still go home.
    let before = pair.counts(&Method::GET, "/tags/list").0;
    client.fetch(Method::GET, &format!("/v2/{REPOSITORY}/tags/list"), &[]).await?;
    assert!(pair.counts(&Method::GET, "/tags/list").0 > before);
    pair.site.zone("zone-a").proxy().heal().await;
    for seed in 10.. {
        client.push_blob(REPOSITORY, &image(seed)?.layers[0]).await?;
        if gateway.log().contains("uploads work again at an instance of Quay") {
            break;
        }
        ensure!(seed < 600, "the home instance was not tried again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// It is unknown whether a store that cannot be used here works.
#[tokio::test]
async fn uploads_avoid_an_instance_whose_store_does_not_work() -> Result<()> {
    let pair = Pair::start()?;
    let mut config = pair.config();
    config["zones"] = json!({"zone-a": ["S4Storage", {}]});
    let gateway = pair.site.gateway(&config).await?;
    gateway.client(LOGIN)?.push(REPOSITORY, "v1", &image(1)?).await?;
    assert_eq!(pair.counts(&Method::PUT, ""), (0, 4));
    assert_eq!(pair.counts(&Method::GET, "/v2/auth").1, 0, "other requests stay at home");
    assert_eq!(pair.counts(&Method::HEAD, "/blobs/").1, 0);
    Ok(())
}

#[tokio::test]
async fn a_location_without_a_known_instance_is_refused() -> Result<()> {
    let pair = Pair::start()?;
    let gateway = pair.gateway().await?;
    let (client, path) = begun(&gateway).await?;
    let (upload, mark) = path.split_once('?').context("a mark")?;
    assert_eq!(mark, "quay-gateway-instance=zone-a");
    let stranger = Port::free()?;
    let listener = stranger.listen()?;
    let elsewhere = format!("http%3A%2F%2F{}", stranger.address());
    let seen = || pair.a().record().all().len() + pair.b.record().all().len();
    let before = seen();
    for wrong in [
        "zone-c".to_owned(),
        String::new(),
        elsewhere,
        "1".to_owned(),
        "zone-a%00".to_owned(),
        format!("zone-a&{PARAMETER}=zone-b"),
    ] {
        let target = format!("{upload}?{PARAMETER}={wrong}");
        for method in [Method::PATCH, Method::PUT, Method::GET, Method::DELETE] {
            let answer = client.fetch(method, &target, &[]).await?;
            let code = problem(&answer)["errors"][0]["code"].clone();
            assert_eq!(
                (answer.status, code),
                (StatusCode::NOT_FOUND, json!("BLOB_UPLOAD_UNKNOWN")),
                "{target}"
            );
        }
    }
    assert_eq!(seen(), before, "no instance was asked");
    assert!(
        tokio::time::timeout(Duration::ZERO, listener.accept()).await.is_err(),
        "no other host was asked"
    );
    // Another configured instance is accepted, because all instances share the database.
    let patched =
        client.send(Method::PATCH, &format!("{upload}?{PARAMETER}=zone-b"), &[], Bytes::from("x")).await?;
    assert_eq!(patched.status(), StatusCode::ACCEPTED);
    assert_eq!(pair.counts(&Method::PATCH, UPLOADS), (0, 1));
    Ok(())
}

#[tokio::test]
async fn replicas_of_the_gateway_continue_each_others_uploads() -> Result<()> {
    let pair = Pair::start()?;
    let (one, two) = tokio::try_join!(pair.gateway(), pair.gateway())?;
    pair.a().down().await;
    let (client, path) = begun(&one).await?;
    pair.a().up().await;
    let token = pair.a().token("admin", REPOSITORY, &["pull", "push"], json!({}))?;
    let other = two.client(None)?;
    let patch = other.raw(Method::PATCH, &path)?.bearer_auth(&token).body("layer").send().await?;
    assert_eq!(patch.status(), StatusCode::ACCEPTED);
    assert_eq!(
        pair.counts(&Method::PATCH, UPLOADS),
        (0, 1),
        "not home, although the second gateway prefers it"
    );
    let digest = backends::Digest::of(b"layer");
    let put = client.send(Method::PUT, &format!("{path}&digest={digest}"), &[], Bytes::new()).await?;
    assert_eq!(put.status(), StatusCode::CREATED);
    assert_eq!(pair.counts(&Method::PUT, UPLOADS), (0, 1));
    Ok(())
}

#[tokio::test]
async fn reads_go_to_the_next_instance_if_one_is_unavailable() -> Result<()> {
    for status in [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT] {
        let pair = Pair::start()?;
        let image = image(1)?;
        let gateway = pair.gateway().await?;
        let client = gateway.client(LOGIN)?;
        client.push(REPOSITORY, "v1", &image).await?;
        // Fetches the token for reads.
        client.manifest(REPOSITORY, "v1").await?;
        pair.a().set(|faults| faults.nginx = Some(status));
        pair.a().record().clear();
        let digest = image.layers[0].digest;
        assert_eq!(client.pull_blob(REPOSITORY, &digest).await?.size, image.layers[0].size);
        client.manifest(REPOSITORY, "v1").await?;
        let blob = digest.to_string();
        assert_eq!(pair.counts(&Method::HEAD, &blob), (1, 1), "{status}: both were asked");
        assert_eq!(pair.counts(&Method::GET, "/manifests/v1").1, 1, "{status}");
    }
    Ok(())
}

/// There is no proof that an instance hangs. It may only be slow.
#[tokio::test]
async fn a_timeout_of_a_request_does_not_count_against_its_instance() -> Result<()> {
    let pair = Pair::start()?;
    let mut config = pair.config();
    overlay(&mut config, &json!({"timeouts": {"registry_permission": "600ms", "permission": "1ms"}}));
    let gateway = pair.site.gateway(&config).await?;
    let image = image(1)?;
    let client = gateway.client(LOGIN)?;
    client.push(REPOSITORY, "v1", &image).await?;
    client.pull(REPOSITORY, "v1").await?;
    pair.a().set(|faults| faults.silent = true);
    pair.a().record().clear();
    pair.b.record().clear();
    let digest = image.layers[0].digest;
    client.pull_blob(REPOSITORY, &digest).await?;
    assert_eq!(pair.counts(&Method::HEAD, &digest.to_string()), (1, 1), "the second was asked in time");
    assert_eq!(gateway.status().await?["registry"]["zone-a"]["state"], "closed");
    pair.a().set(|faults| faults.silent = false);
    Ok(())
}

#[tokio::test]
async fn a_failed_manifest_does_not_count_against_uploads() -> Result<()> {
    let pair = Pair::start()?;
    let gateway = pair.gateway().await?;
    let token = pair.a().token("admin", REPOSITORY, &["pull", "push"], json!({}))?;
    pair.a().set(|faults| faults.broken = true);
    let target = format!("/v2/{REPOSITORY}/manifests/v1");
    let put = gateway.client(None)?.raw(Method::PUT, &target)?.bearer_auth(token).body("{}").send().await?;
    assert_eq!(put.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(pair.counts(&Method::PUT, "/manifests/"), (1, 0));
    assert_eq!(gateway.status().await?["registry"]["zone-a"]["uploads"], "closed");
    Ok(())
}

#[tokio::test]
async fn if_all_are_unavailable_the_last_answer_is_forwarded() -> Result<()> {
    let pair = Pair::start()?;
    let gateway = pair.gateway().await?;
    for quay in [pair.a(), &pair.b] {
        quay.set(|faults| faults.nginx = Some(StatusCode::BAD_GATEWAY));
    }
    let client = gateway.client(None)?;
    let answer = client.fetch(Method::GET, "/v2/", &[]).await?;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert!(answer.body.starts_with(b"<html>"), "nginx's own");
    pair.a().down().await;
    pair.b.down().await;
    let answer = client.fetch(Method::GET, "/v2/", &[]).await?;
    let said = problem(&answer)["errors"][0]["message"].to_string();
    assert!(
        said.contains("zone-a: the registry cannot be reached") && said.contains("zone-b: the"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn logins_are_sent_once() -> Result<()> {
    // All spellings that Quay's nginx treats as this path.
    for path in ["/v2/auth", "/v2/%61uth", "/v2//auth"] {
        let pair = Pair::start()?;
        let gateway = pair.gateway().await?;
        pair.a().set(|faults| faults.nginx = Some(StatusCode::SERVICE_UNAVAILABLE));
        let client = gateway.client(None)?;
        let refused =
            client.raw(Method::GET, &format!("{path}?service=x&scope=repository:a/b:push"))?.send().await?;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(pair.counts(&Method::GET, "scope="), (1, 0), "{path}");
    }
    // If there was no connection, nothing was sent.
    let pair = Pair::start()?;
    let gateway = pair.gateway().await?;
    let client = gateway.client(None)?;
    pair.a().down().await;
    let url = format!("/v2/auth?service={}", pair.a().hostname());
    let given = client.raw(Method::GET, &url)?.basic_auth("admin", Some("password")).send().await?;
    assert_eq!(given.status(), StatusCode::OK);
    assert_eq!(pair.counts(&Method::GET, "/v2/auth"), (0, 1));
    Ok(())
}

#[tokio::test]
async fn a_body_that_was_started_is_never_sent_again() -> Result<()> {
    let pair = Pair::start()?;
    let gateway = pair.gateway().await?;
    let (_, path) = begun(&gateway).await?;
    let token = pair.a().token("admin", REPOSITORY, &["pull", "push"], json!({}))?;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    let body = stream::unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await?;
        Some((Ok::<_, std::io::Error>(piece), receiver))
    });
    let client = gateway.client(None)?;
    let request = client.raw(Method::PATCH, &path)?.bearer_auth(token).body(reqwest::Body::wrap_stream(body));
    let patch = tokio::spawn(request.send());
    sender.send(Bytes::from("the first piece")).await?;
    while pair.counts(&Method::PATCH, UPLOADS).0 == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The instance dies during the body.
    pair.a().down().await;
    let answer = patch.await??;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(pair.counts(&Method::PATCH, UPLOADS), (1, 0));
    drop(sender);
    Ok(())
}
