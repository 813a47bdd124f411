//! Pushes through the whole gateway, and the copies that follow.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use harness::image::{Image, Layer, Spec};
use harness::quay::Options;
use harness::site::{LOGIN, Site};
use http::{Method, StatusCode};
use serde_json::json;

const REPOSITORY: &str = "admin/one";

/// Waits until the zone has every blob of the image, byte for byte.
async fn copied(site: &Site, zone: &str, image: &Image) -> Result<()> {
    for blob in image.blobs() {
        for attempt in 0.. {
            if site.zone(zone).has(&blob.digest) && site.zone(zone).read(&blob.digest)? == blob.bytes()? {
                break;
            }
            anyhow::ensure!(attempt < 4800, "{} did not arrive in {zone}", blob.digest);
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_push_reaches_every_zone() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    let image = Spec::layers(1, &[1_000_000, 10_000, 1]).build()?;
    gateway.client(LOGIN)?.push(REPOSITORY, "v1", &image).await?;
    for zone in ["zone-a", "zone-b", "zone-c"] {
        copied(&site, zone, &image).await?;
    }
    Ok(())
}

#[tokio::test]
async fn docker_types_empty_layers_and_foreign_layers() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    let stranger = backends::Digest::of(b"elsewhere");
    let layers = vec![
        Layer::Raw(Vec::new()),
        Layer::Tar(20_000),
        Layer::Foreign(stranger, 9, vec!["https://example.com/layer".into()]),
    ];
    let image = Spec { layers, ..Spec::layers(2, &[]) }.docker().build()?;
    gateway.client(LOGIN)?.push(REPOSITORY, "v1", &image).await?;
    copied(&site, "zone-b", &image).await?;
    assert!(!site.zone("zone-b").has(&stranger));
    Ok(())
}

#[tokio::test]
async fn a_dead_zone_delays_only_itself_and_catches_up() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    site.zone("zone-b").proxy().down().await;
    let image = Spec::layers(1, &[100_000]).build()?;
    gateway.client(LOGIN)?.push(REPOSITORY, "v1", &image).await?;
    copied(&site, "zone-c", &image).await?;
    assert!(!site.zone("zone-b").has(&image.layers[0].digest));
    let status = gateway.status().await?;
    let lane = status["copies"]
        .as_array()
        .expect("lanes")
        .iter()
        .find(|lane| lane["zone"] == "zone-b")
        .expect("a lane");
    assert_eq!(lane["waiting"], 2);
    site.zone("zone-b").proxy().heal().await;
    copied(&site, "zone-b", &image).await
}

/// The registry accepts the manifest nevertheless.
#[tokio::test]
async fn a_manifest_with_more_blobs_than_the_limit_is_left_to_the_sweep() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({"limits": {"manifest_blobs": 2}})).await?;
    let client = gateway.client(LOGIN)?;
    client.push(REPOSITORY, "many", &Spec::layers(1, &[100, 200]).build()?).await?;
    let few = Spec::layers(2, &[300]).build()?;
    client.push(REPOSITORY, "few", &few).await?;
    copied(&site, "zone-b", &few).await?;
    assert!(!site.zone("zone-b").has(&Spec::layers(1, &[100, 200]).build()?.layers[0].digest));
    gateway.logged("more blobs than limits.manifest_blobs").await?;
    let log = gateway.log();
    assert!(
        log.contains("more blobs than limits.manifest_blobs") && log.contains("blobs=3 limit=2"),
        "{log}"
    );
    Ok(())
}

#[tokio::test]
async fn kill_9_between_the_201_and_the_copies_loses_none() -> Result<()> {
    let site = Site::start()?;
    let mut gateway = site.gateway(&json!({})).await?;
    for zone in ["zone-b", "zone-c"] {
        site.zone(zone).proxy().set(|faults| faults.hang = true);
    }
    let image = Spec::layers(1, &[500_000, 1000]).build()?;
    gateway.client(LOGIN)?.push(REPOSITORY, "v1", &image).await?;
    gateway.kill();
    for zone in ["zone-b", "zone-c"] {
        site.zone(zone).proxy().heal().await;
        assert!(!site.zone(zone).has(&image.layers[0].digest));
    }
    gateway.spawn().await?;
    for zone in ["zone-b", "zone-c"] {
        copied(&site, zone, &image).await?;
    }
    Ok(())
}

#[tokio::test]
async fn kill_9_during_a_fill_leaves_no_wrong_byte() -> Result<()> {
    let site = Site::start()?;
    let mut gateway = site.gateway(&json!({})).await?;
    let image = Spec::layers(1, &[2_000_000]).build()?;
    gateway.client(LOGIN)?.push(REPOSITORY, "v1", &image).await?;
    for zone in ["zone-b", "zone-c"] {
        copied(&site, zone, &image).await?;
        site.zone(zone).proxy().set(|faults| faults.hang = true);
    }
    let digest = image.layers[0].digest;
    for bytes in [1, 700_000, 1_900_000] {
        let held = site.zone("zone-a").proxy().hold(&digest.hex(), bytes);
        let client = gateway.client(LOGIN)?;
        let pull = tokio::spawn(async move { client.pull_blob(REPOSITORY, &digest).await });
        held.await;
        gateway.kill();
        assert!(pull.await?.is_err(), "the pull must fail visibly");
        gateway.spawn().await?;
        let left = std::fs::read_dir(gateway.cache_dir().join("partial"))?.count();
        assert_eq!(left, 0, "partial files are gone after a restart");
    }
    for zone in &site.zones {
        zone.proxy().heal().await;
    }
    let client = gateway.client(LOGIN)?;
    let status = client.pull_blob(REPOSITORY, &digest).await?.cache_status;
    assert!(status.is_some_and(|status| status.contains("fwd=miss")));
    assert_eq!(
        client.pull_blob(REPOSITORY, &digest).await?.cache_status.as_deref(),
        Some("quay-gateway; hit")
    );
    Ok(())
}

#[tokio::test]
async fn quays_oddities_pass_unchanged() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    let client = gateway.client(LOGIN)?;
    let uploads = format!("/v2/{REPOSITORY}/blobs/uploads/");
    let started = client.send(Method::POST, &uploads, &[], Bytes::new()).await?;
    assert_eq!(started.headers()["range"], "bytes=0--1");
    let location = started.headers()["location"].to_str()?.to_owned();
    assert!(location.starts_with(&format!("https://{}/v2/", gateway.hostname())), "{location}");
    let patched =
        client.send(Method::PATCH, &location, &[("content-range", "0-4")], Bytes::from("hello")).await?;
    assert_eq!((patched.status(), patched.headers()["range"].to_str()?), (StatusCode::ACCEPTED, "0-4"));
    // The request needs permission to push, which a client's token for reading does not include.
    let token = site.quay.token("admin", REPOSITORY, &["push"], json!({}))?;
    let state = client.raw(Method::GET, &location)?.bearer_auth(token).send().await?;
    assert_eq!((state.status(), state.headers()["range"].to_str()?), (StatusCode::NO_CONTENT, "bytes=0-5"));
    let beyond = client.send(Method::PATCH, &location, &[("content-range", "9-9")], Bytes::from("x")).await?;
    assert_eq!(
        (beyond.status(), beyond.headers()["range"].to_str()?),
        (StatusCode::RANGE_NOT_SATISFIABLE, "0-5")
    );
    let wrong = format!("{location}?digest=sha256:{}", "0".repeat(64));
    let refused = client.send(Method::PUT, &wrong, &[], Bytes::new()).await?;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    assert!(refused.text().await?.contains("BLOB_UPLOAD_INVALID"));
    Ok(())
}

#[tokio::test]
async fn a_slow_last_put_is_waited_for() -> Result<()> {
    let site = Site::start()?;
    let gateway =
        site.gateway(&json!({"timeouts": {"registry_answer": "1s", "registry_stall": "1s"}})).await?;
    site.quay.set(|faults| faults.slow_commit = Duration::from_secs(4));
    let image = Spec::layers(1, &[1000]).build()?;
    gateway.client(LOGIN)?.push_blob(REPOSITORY, &image.layers[0]).await
}

#[tokio::test]
async fn the_registry_sees_the_client_and_not_its_claims() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    let client = gateway.client(LOGIN)?;
    let claims = [
        ("x-forwarded-for", "10.9.9.9"),
        ("x-forwarded-proto", "http"),
        ("forwarded", "for=10.9.9.9"),
        ("user-agent", "engine/1"),
    ];
    client.fetch(Method::GET, "/v2/", &claims).await?;
    let seen = site.quay.record().of(&Method::GET, "/v2/");
    let seen = seen.last().expect("asked");
    assert_eq!(seen.header("x-forwarded-for"), "127.0.0.1");
    assert_eq!(seen.header("x-forwarded-proto"), "https");
    assert_eq!(seen.header("forwarded"), "");
    assert_eq!(seen.header("user-agent"), "engine/1");
    assert_eq!(seen.header("host"), site.quay.hostname());
    Ok(())
}

#[tokio::test]
async fn realm_and_location_lead_to_the_gateway_but_service_never() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    let answer = gateway.client(None)?.raw(Method::GET, "/v2/")?.send().await?;
    let (realm, service) = (gateway.hostname(), site.quay.hostname());
    let expected = format!(r#"Bearer realm="https://{realm}/v2/auth",service="{service}""#);
    let challenge = answer.headers()["www-authenticate"].to_str()?;
    assert_eq!((answer.status(), challenge), (StatusCode::UNAUTHORIZED, expected.as_str()));
    Ok(())
}

#[tokio::test]
async fn with_one_name_nothing_is_rewritten() -> Result<()> {
    let options = Options { hostname: Some("quay.example.com".into()), https: true, ..Options::default() };
    let zones = ["zone-a", "zone-b"].map(|name| (name, Duration::ZERO));
    let site = Site::with(&zones, options)?;
    let gateway = site.gateway(&json!({"hostname": "quay.example.com"})).await?;
    let root = std::fs::read_to_string(gateway.authority_file())?;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(harness::certs::client_config(&[&root])?)
        .resolve("quay.example.com", gateway.address())
        .no_proxy()
        .build()?;
    let url = format!("https://quay.example.com:{}/v2/", gateway.address().port());
    let answer = client.get(url).send().await?;
    let challenge = answer.headers()["www-authenticate"].to_str()?;
    assert_eq!(challenge, r#"Bearer realm="https://quay.example.com/v2/auth",service="quay.example.com""#);
    Ok(())
}

#[tokio::test]
async fn a_registry_behind_tls_is_verified_under_its_own_name() -> Result<()> {
    let authority = harness::certs::Authority::generate()?;
    let tls = authority.certificate(&["quay.example.com"])?.server_config()?;
    let options = Options { hostname: Some("quay.example.com".into()), tls: Some(tls), ..Options::default() };
    let zones = ["zone-a", "zone-b"].map(|name| (name, Duration::ZERO));
    let site = Site::with(&zones, options)?;
    let ca = authority.pem().to_owned();
    let gateway = site.gateway_with(&json!({"ca": "ca.pem"}), &[("ca.pem", &ca)]).await?;
    let image = Spec::layers(1, &[1000]).build()?;
    gateway.client(LOGIN)?.push(REPOSITORY, "v1", &image).await?;
    let stranger = site.gateway(&json!({})).await?;
    let refused = stranger.client(None)?.fetch(Method::GET, "/v2/", &[]).await?;
    assert_eq!(refused.status, StatusCode::BAD_GATEWAY);
    assert!(String::from_utf8_lossy(&refused.body).to_lowercase().contains("certificate"));
    Ok(())
}

#[tokio::test]
async fn sigterm_lets_blobs_in_flight_finish() -> Result<()> {
    let site = Site::start()?;
    let mut gateway = site.gateway(&json!({})).await?;
    let image = Spec::layers(1, &[1_000_000]).build()?;
    let client = gateway.client(LOGIN)?;
    client.push(REPOSITORY, "v1", &image).await?;
    for zone in ["zone-b", "zone-c"] {
        // A copy in progress would also be stopped below.
        copied(&site, zone, &image).await?;
        site.zone(zone).proxy().set(|faults| faults.hang = true);
    }
    let digest = image.layers[0].digest;
    let held = site.zone("zone-a").proxy().hold(&digest.hex(), 300_000);
    let pull = tokio::spawn(async move { client.pull_blob(REPOSITORY, &digest).await });
    held.await;
    let ready = |url: String| async move {
        Ok::<_, anyhow::Error>(harness::http_client()?.get(url).send().await?.status())
    };
    let readyz = format!("http://{}/readyz", gateway.admin_address());
    assert_eq!(ready(readyz.clone()).await?, StatusCode::OK);
    gateway.signal(rustix::process::Signal::TERM)?;
    while ready(readyz.clone()).await? == StatusCode::OK {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(ready(readyz).await?, StatusCode::SERVICE_UNAVAILABLE);
    for zone in &site.zones {
        zone.proxy().heal().await;
    }
    assert!(gateway.terminate().await?.success());
    assert_eq!(pull.await??.size, image.layers[0].size);
    Ok(())
}

/// Parts that stay at a store take space, and nobody sees them.
#[tokio::test]
async fn sigterm_during_a_copy_leaves_no_upload_behind() -> Result<()> {
    let site = Site::start()?;
    let mut gateway = site.gateway(&json!({})).await?;
    site.zone("zone-b").proxy().set(|faults| faults.latency = Duration::from_millis(400));
    let image = Spec::layers(1, &[80_000_000]).build()?;
    gateway.client(LOGIN)?.push(REPOSITORY, "v1", &image).await?;
    let parts = || site.zone("zone-b").proxy().record().count(&Method::PUT, "partNumber=");
    for attempt in 0.. {
        if parts() > 0 && site.zone("zone-b").unfinished_uploads()? > 0 {
            break;
        }
        anyhow::ensure!(attempt < 4800, "no part was ever sent");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert!(gateway.terminate().await?.success());
    assert_eq!(site.zone("zone-b").unfinished_uploads()?, 0);
    gateway.spawn().await?;
    site.zone("zone-b").proxy().heal().await;
    copied(&site, "zone-b", &image).await
}
