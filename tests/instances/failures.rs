//! A failing instance costs no client a request and ends no upload.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use futures_util::stream;
use harness::client::Client;
use harness::gateway::{Gateway, overlay};
use harness::port::{BlackHole, Port};
use harness::quay::Quay;
use harness::site::{LOGIN, Site};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::pair::{Pair, REPOSITORY, UPLOADS, begun, image, problem};

/// The answer to a request for a token.
async fn log_in(pair: &Pair, client: &Client, password: &str) -> Result<StatusCode> {
    let url = format!("/v2/auth?service={}", pair.a().hostname());
    Ok(client.raw(Method::GET, &url)?.basic_auth("admin", Some(password)).send().await?.status())
}

/// Waits until an instance is in this state.
pub(crate) async fn until(gateway: &Gateway, instance: &str, state: &str) -> Result<()> {
    until_is(gateway, instance, "state", state).await
}

/// Waits until an instance is out of use for this reason.
async fn until_why(gateway: &Gateway, instance: &str, why: &str) -> Result<()> {
    until_is(gateway, instance, "why", why).await
}

async fn until_is(gateway: &Gateway, instance: &str, what: &str, wanted: &str) -> Result<()> {
    for _ in 0..1200 {
        if gateway.status().await?["registry"][instance][what] == wanted {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    bail!("{instance} never has {what} {wanted}: {}", gateway.status().await?["registry"])
}

/// A push and a pull by a client that has no token yet.
async fn push_and_pull(gateway: &Gateway, tag: &str, seed: u64) -> Result<()> {
    let client = gateway.client(LOGIN)?;
    client.push(REPOSITORY, tag, &image(seed)?).await?;
    ensure!(gateway.client(LOGIN)?.pull(REPOSITORY, tag).await?.len() == 3);
    Ok(())
}

fn asked(quay: &Quay) -> usize {
    quay.record().all().len()
}

#[tokio::test]
async fn an_instance_without_its_database_is_not_used() -> Result<()> {
    let pair = Pair::start()?;
    let gateway = pair.gateway().await?;
    pair.a().set(|faults| faults.broken = true);
    push_and_pull(&gateway, "v1", 1).await?;
    until_why(&gateway, "zone-a", "its health check fails: auth, database").await?;
    assert_eq!(gateway.status().await?["registry"]["zone-b"]["state"], "closed");
    pair.a().record().clear();
    push_and_pull(&gateway, "v2", 10).await?;
    assert_eq!(asked(pair.a()), 0, "no request is sent to it");
    pair.a().set(|faults| faults.broken = false);
    until(&gateway, "zone-a", "closed").await?;
    assert_eq!(asked(pair.a()), 0, "only probes are sent until it works again");
    pair.b.record().clear();
    push_and_pull(&gateway, "v3", 20).await?;
    assert_eq!(asked(&pair.b), 0, "home gets all requests again");
    Ok(())
}

/// Quay's nginx gives up requests that take 60 s, and one client can send many of them.
#[tokio::test]
async fn an_error_of_one_request_is_confirmed_by_a_probe() -> Result<()> {
    let pair = Pair::start()?;
    let gateway = pair.gateway().await?;
    for quay in [pair.a(), &pair.b] {
        quay.set(|faults| faults.gives_up = Some("/slow"));
    }
    let client = gateway.client(LOGIN)?;
    for path in [format!("/v2/{REPOSITORY}/manifests/slow"), "/v2/slow/_catalog".to_owned()] {
        for _ in 0..3 {
            let answer = client.fetch(Method::GET, &path, &[]).await?;
            assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT, "{path}");
            for zone in ["zone-a", "zone-b"] {
                assert_eq!(gateway.status().await?["registry"][zone]["state"], "closed", "{path} at {zone}");
            }
        }
    }
    pair.a().set(|faults| faults.nginx = Some(StatusCode::BAD_GATEWAY));
    assert_eq!(client.raw(Method::GET, "/v2/")?.send().await?.status(), StatusCode::UNAUTHORIZED);
    until_why(&gateway, "zone-a", "a probe is answered 502").await?;
    pair.a().record().clear();
    push_and_pull(&gateway, "v2", 10).await?;
    assert_eq!(asked(pair.a()), 0, "no request is spent on it");
    Ok(())
}

/// Quay answers 500 for a manifest that it cannot read, and one client can ask for that again and again.
#[tokio::test]
async fn what_no_instance_can_read_takes_none_out_of_use() -> Result<()> {
    let pair = Pair::start()?;
    let gateway = pair.gateway().await?;
    for quay in [pair.a(), &pair.b] {
        quay.set(|faults| faults.unreadable = Some("/manifests/bad"));
    }
    let client = gateway.client(LOGIN)?;
    let closed = async |when: &str| {
        for zone in ["zone-a", "zone-b"] {
            assert_eq!(gateway.status().await?["registry"][zone]["state"], "closed", "{zone}: {when}");
        }
        anyhow::Ok(())
    };
    for time in 1..=20 {
        let path = format!("/v2/{REPOSITORY}/manifests/bad?time={time}");
        let answer = client.fetch(Method::GET, &path, &[]).await?;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        closed(&format!("{time}")).await?;
    }
    let login = log_in(&pair, &gateway.client(None)?, "password").await?;
    assert_eq!(login, StatusCode::OK);
    Ok(())
}

/// A proxy that answers probes itself says nothing about what is behind it.
#[tokio::test]
async fn a_proxy_that_hides_the_health_does_not_speak_for_an_instance() -> Result<()> {
    let pair = Pair::start()?;
    let gateway = pair.gateway().await?;
    let client = gateway.client(None)?;
    let log_in = async || log_in(&pair, &client, "password").await;
    pair.a().set(|faults| (faults.hides_health, faults.nginx) = (true, Some(StatusCode::BAD_GATEWAY)));
    assert_eq!(log_in().await?, StatusCode::BAD_GATEWAY);
    until_why(&gateway, "zone-a", "requests fail, and probes are not answered by Quay itself (404)").await?;
    assert_eq!(log_in().await?, StatusCode::OK, "the other instance");
    until(&gateway, "zone-a", "closed").await?;
    assert_eq!(log_in().await?, StatusCode::BAD_GATEWAY);
    assert_eq!(gateway.status().await?["registry"]["zone-a"]["why"], "it answered 502", "at once");
    assert_eq!(log_in().await?, StatusCode::OK, "the other instance");
    Ok(())
}

#[tokio::test]
async fn a_login_goes_to_the_next_instance_only_if_nothing_was_decided() -> Result<()> {
    let pair = Pair::start()?;
    let gateway = pair.gateway().await?;
    let client = gateway.client(None)?;
    let log_in = async |password: &str| log_in(&pair, &client, password).await;
    pair.a().set(|faults| faults.broken = true);
    assert_eq!(log_in("password").await?, StatusCode::OK);
    assert_eq!(pair.counts(&Method::GET, "/v2/auth"), (1, 1));
    pair.a().set(|faults| faults.broken = false);
    until(&gateway, "zone-a", "closed").await?;
    // The login is refused, and the next one is throttled.
    assert_eq!(log_in("wrong").await?, StatusCode::UNAUTHORIZED);
    assert_eq!(log_in("password").await?, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(pair.counts(&Method::GET, "/v2/auth"), (3, 1), "each login was sent once");
    Ok(())
}

/// nginx accepts requests, but nothing behind it answers.
#[tokio::test]
async fn waiting_requests_leave_an_instance_that_hangs() -> Result<()> {
    let pair = Pair::start()?;
    let gateway = pair.gateway_with(&Pair::impatient(pair.config())).await?;
    let client = gateway.client(LOGIN)?;
    client.push(REPOSITORY, "v1", &image(1)?).await?;
    until(&gateway, "zone-a", "closed").await?;
    pair.a().set(|faults| faults.silent = true);
    pair.a().record().clear();
    // These requests wait at the instance when its failure is detected: a manifest, a list, a permission, a
    // token, a new upload.
    let (manifest, tags) = (format!("/v2/{REPOSITORY}/manifests/v1"), format!("/v2/{REPOSITORY}/tags/list"));
    let manifest = client.fetch(Method::GET, &manifest, &[]);
    let list = client.fetch(Method::GET, &tags, &[]);
    let blob = image(1)?.layers[0].digest;
    let blob = client.pull_blob(REPOSITORY, &blob);
    let fresh = gateway.client(LOGIN)?;
    let token = fresh.fetch(Method::GET, &tags, &[]);
    let upload = begun(&gateway);
    let (manifest, list, blob, token, upload) = tokio::join!(manifest, list, blob, token, upload);
    assert_eq!((manifest?.status, list?.status), (StatusCode::OK, StatusCode::OK));
    assert_eq!(token?.status, StatusCode::OK);
    blob?;
    let (_, location) = upload?;
    assert!(location.ends_with("quay-gateway-instance=zone-b"), "{location}");
    until_why(&gateway, "zone-a", "no answer to a probe within 400 ms").await?;
    pair.a().record().clear();
    push_and_pull(&gateway, "v2", 10).await?;
    assert_eq!(asked(pair.a()), 0, "no request is sent to it");
    pair.a().set(|faults| faults.silent = false);
    until(&gateway, "zone-a", "closed").await?;
    Ok(())
}

#[tokio::test]
async fn an_instance_that_fails_in_tcp_tls_or_http_is_not_used() -> Result<()> {
    let pair = Pair::start()?;
    let silent = Port::free()?;
    // The kernel accepts connections, but nobody answers.
    let _listening = silent.listen()?;
    let hole = Port::free()?;
    let _hole = BlackHole::at(hole.address()).await?;
    for a in [
        format!("https://{}", silent.address()),
        format!("http://{}", silent.address()),
        format!("http://{}", hole.address()),
        pair.a().url().replace("http://", "https://"),
    ] {
        let mut config = Pair::impatient(pair.config_with(&a));
        overlay(&mut config, &json!({"timeouts": {"registry_connect": "300ms"}}));
        let gateway = pair.site.gateway(&config).await?;
        push_and_pull(&gateway, "v1", 1).await.with_context(|| a.clone())?;
        assert!(pair.a().record().all().is_empty());
        gateway.logged("an instance of Quay fails").await?;
    }
    Ok(())
}

/// The store hangs, and Quay asks it before it answers. The health report does not show that.
#[tokio::test]
async fn an_upload_starts_at_another_instance_if_the_first_is_silent() -> Result<()> {
    let pair = Pair::start()?;
    let mut config = Pair::impatient(pair.config());
    overlay(&mut config, &json!({"timeouts": {"registry_probe": "10s", "registry_upload_begin": "300ms"}}));
    let gateway = pair.gateway_with(&config).await?;
    pair.a().set(|faults| faults.begins_hang = true);
    let (_, location) = begun(&gateway).await?;
    assert!(location.ends_with("quay-gateway-instance=zone-b"), "{location}");
    assert_eq!(pair.counts(&Method::POST, UPLOADS).0, 1, "the next upload starts there at once");
    assert_eq!(gateway.status().await?["registry"]["zone-a"]["state"], "closed", "reads still use it");
    Ok(())
}

/// A body of which the client sends the first piece and withholds the rest until this is dropped.
fn held_back() -> (tokio::sync::mpsc::Sender<Bytes>, reqwest::Body) {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    let body = stream::unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await?;
        Some((Ok::<_, std::io::Error>(piece), receiver))
    });
    (sender, reqwest::Body::wrap_stream(body))
}

#[tokio::test]
async fn an_upload_at_an_instance_that_hangs_ends_and_can_start_at_another() -> Result<()> {
    let pair = Pair::start()?;
    let gateway = pair.gateway_with(&Pair::impatient(pair.config())).await?;
    let (client, path) = begun(&gateway).await?;
    pair.a().set(|faults| faults.silent = true);
    let token = pair.a().token("admin", REPOSITORY, &["pull", "push"], json!({}))?;
    let (sender, body) = held_back();
    sender.send(Bytes::from("the first piece")).await?;
    let patch = client.raw(Method::PATCH, &path)?.bearer_auth(token).body(body).send();
    let answer = tokio::spawn(patch);
    // A read detects that the instance hangs.
    client.fetch(Method::GET, &format!("/v2/{REPOSITORY}/tags/list"), &[]).await?;
    let answer = answer.await??;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers().contains_key("retry-after"));
    let said: Value = serde_json::from_slice(&answer.bytes().await?)?;
    assert_eq!(said["errors"][0]["detail"]["fault"], "registry");
    assert!(said["errors"][0]["detail"]["fix"].to_string().contains("begin an upload again"), "{said}");
    drop(sender);
    push_and_pull(&gateway, "v1", 1).await?;
    assert_eq!(pair.counts(&Method::PUT, UPLOADS), (0, 3));
    Ok(())
}

#[tokio::test]
async fn an_upload_whose_store_hangs_ends_and_can_start_at_another_instance() -> Result<()> {
    let pair = Pair::start()?;
    let mut config = Pair::impatient(pair.config());
    overlay(&mut config, &json!({"timeouts": {"registry_probe": "10s"}}));
    let gateway = pair.gateway_with(&config).await?;
    let (client, path) = begun(&gateway).await?;
    pair.site.zone("zone-a").proxy().set(|faults| faults.hang = true);
    let answer = client.fetch(Method::PATCH, &path, &[]).await?;
    let said = problem(&answer);
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{said}");
    assert_eq!(said["errors"][0]["detail"]["fault"], "zone");
    assert!(said["errors"][0]["message"].to_string().contains("zone zone-a"), "{said}");
    push_and_pull(&gateway, "v1", 1).await?;
    assert_eq!(pair.counts(&Method::PUT, UPLOADS), (0, 3));
    pair.site.zone("zone-a").proxy().heal().await;
    Ok(())
}

#[tokio::test]
async fn with_one_instance_an_upload_whose_store_hangs_ends_too() -> Result<()> {
    let site = Site::start()?;
    let timeouts = json!({"registry_lost": "400ms", "registry_upload": "10m", "client_stall": "10m"});
    let gateway = site.gateway(&json!({"timeouts": timeouts})).await?;
    let (client, path) = begun(&gateway).await?;
    site.zone("zone-a").proxy().set(|faults| faults.hang = true);
    let answer = client.fetch(Method::PATCH, &path, &[]).await?;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(problem(&answer)["errors"][0]["detail"]["fault"], "zone");
    site.zone("zone-a").proxy().heal().await;
    Ok(())
}

/// The assembly of a large blob takes minutes without an answer, which is not a fault.
#[tokio::test]
async fn the_last_put_may_be_silent_while_instance_and_store_work() -> Result<()> {
    let pair = Pair::start()?;
    let mut config = pair.config();
    overlay(&mut config, &json!({"timeouts": {"registry_lost": "100ms", "registry_answer": "200ms"}}));
    let gateway = pair.gateway_with(&config).await?;
    pair.a().set(|faults| faults.slow_commit = Duration::from_secs(2));
    gateway.client(LOGIN)?.push_blob(REPOSITORY, &image(1)?.layers[0]).await?;
    assert_eq!(pair.counts(&Method::PUT, UPLOADS), (1, 0));
    Ok(())
}

#[tokio::test]
async fn a_413_for_a_502_is_relayed_and_counts_against_its_instance() -> Result<()> {
    let pair = Pair::start()?;
    let gateway = pair.gateway().await?;
    pair.a().set(|faults| faults.breaks_off = true);
    let (client, path) = begun(&gateway).await?;
    let answer = client.send(Method::PATCH, &path, &[], Bytes::from(vec![7; 300_000])).await?;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(answer.text().await?.starts_with("<html>"), "nginx's own");
    assert_eq!(gateway.status().await?["registry"]["zone-a"]["uploads"], "open");
    push_and_pull(&gateway, "v1", 1).await?;
    assert_eq!(pair.counts(&Method::PATCH, UPLOADS), (1, 3), "the next push goes to another instance");
    Ok(())
}

#[tokio::test]
async fn if_no_instance_serves_the_log_and_a_metric_report_it() -> Result<()> {
    let pair = Pair::start()?;
    let gateway = pair.gateway().await?;
    for quay in [pair.a(), &pair.b] {
        quay.set(|faults| faults.broken = true);
    }
    let client = gateway.client(None)?;
    for _ in 0..5 {
        let answer = client.fetch(Method::GET, &format!("/v2/{REPOSITORY}/manifests/v1"), &[]).await?;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(answer.body.starts_with(b"<!doctype html>"), "Quay's own");
    }
    gateway.logged("THE REGISTRY DOES NOT SERVE").await?;
    let log = gateway.log();
    assert_eq!(log.matches("THE REGISTRY DOES NOT SERVE").count(), 1, "once a minute");
    assert!(log.contains("zone-a: 500; zone-b: 500") || log.contains("zone-b: 500; zone-a: 500"));
    for (instance, zone) in [(pair.a(), "zone-a"), (&pair.b, "zone-b")] {
        until(&gateway, zone, "open").await?;
        instance.set(|faults| faults.broken = false);
    }
    let metrics = gateway.metrics().await?;
    let is = |line: &str| metrics.lines().any(|other| other == line);
    assert!(is("quay_gateway_registry_unserved_total 5"), "{metrics}");
    assert!(is("quay_gateway_registry_instance_errors_total{instance=\"zone-b\"} 5"), "{metrics}");
    until(&gateway, "zone-a", "closed").await?;
    let metrics = gateway.metrics().await?;
    assert!(metrics.contains("quay_gateway_registry_instance_state{instance=\"zone-a\",state=\"closed\"} 1"));
    Ok(())
}

#[tokio::test]
async fn a_single_instance_is_probed_and_always_used() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({"timeouts": {"registry_probe_every": "50ms"}})).await?;
    site.quay.set(|faults| faults.broken = true);
    until(&gateway, "zone-a", "open").await?;
    let client = gateway.client(None)?;
    let answer = client.raw(Method::GET, "/v2/")?.send().await?;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "it is asked in every state");
    let answer = client.fetch(Method::GET, &format!("/v2/{REPOSITORY}/tags/list"), &[]).await?;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    gateway.logged("THE REGISTRY DOES NOT SERVE").await?;
    site.quay.set(|faults| faults.broken = false);
    until(&gateway, "zone-a", "closed").await?;
    Ok(())
}
