//! What operators see of zones, and what they can change while the gateway runs.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::gateway::Gateway;
use harness::image::{Image, Spec};
use harness::quay::Options;
use harness::record::Seen;
use harness::site::{LOGIN, Site, ZONES};
use http::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};

const REPOSITORY: &str = "admin/app";

/// The timeout for background work of the gateway, such as reading its configuration again.
const SOON: Duration = Duration::from_secs(10);

async fn get(gateway: &Gateway, path: &str) -> Result<String> {
    let url = format!("http://{}{path}", gateway.admin_address());
    Ok(harness::http_client()?.get(url).send().await?.error_for_status()?.text().await?)
}

async fn zone(gateway: &Gateway, name: &str) -> Result<Value> {
    let report: Value = serde_json::from_str(&get(gateway, "/zones").await?)?;
    let zones = report["zones"].as_array().context("zones")?;
    zones.iter().find(|zone| zone["name"] == name).cloned().context("the zone")
}

async fn until(gateway: &Gateway, name: &str, state: &str) -> Result<()> {
    let deadline = Instant::now() + SOON;
    loop {
        let zone = zone(gateway, name).await?;
        if zone["state"] == state {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{name} is not {state}: {zone:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits for a line of the metrics. The metrics of zones are slightly delayed.
async fn until_measured(gateway: &Gateway, line: &str) -> Result<()> {
    let deadline = Instant::now() + SOON;
    loop {
        let metrics = get(gateway, "/metrics").await?;
        if metrics.lines().any(|other| other == line) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{line}\n{metrics}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Pushes an image that is then in every zone.
async fn pushed(site: &Site, gateway: &Gateway, seed: u64) -> Result<Image> {
    let image = Spec::layers(seed, &[40_000]).build()?;
    gateway.client(LOGIN)?.push(REPOSITORY, &format!("v{seed}"), &image).await?;
    for blob in [&image.layers[0], &image.config] {
        site.zones
            .iter()
            .try_for_each(|zone| Ok::<_, anyhow::Error>(zone.write(&blob.digest, &blob.bytes()?)?))?;
    }
    Ok(image)
}

/// Pulls the image. Returns the source of its layer.
async fn source(gateway: &Gateway, seed: u64, image: &Image) -> Result<String> {
    let blobs = gateway.client(LOGIN)?.pull(REPOSITORY, &format!("v{seed}")).await?;
    let layer = blobs.iter().find(|blob| blob.digest == image.layers[0].digest).context("the layer")?;
    Ok(layer.cache_status.clone().unwrap_or_default())
}

async fn pulled_from(site: &Site, gateway: &Gateway, seed: u64) -> Result<String> {
    let image = pushed(site, gateway, seed).await?;
    source(gateway, seed, &image).await
}

async fn command(gateway: &Gateway, arguments: &[&str]) -> Result<(bool, String)> {
    let output = gateway.command(arguments).await?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8(text)?))
}

/// The operators of a store can see which requests serve clients and which are probes.
#[tokio::test]
async fn the_log_of_a_store_distinguishes_probes_and_reads() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    let image = pushed(&site, &gateway, 1).await?;
    assert!(source(&gateway, 1, &image).await?.contains("zone=zone-a"));
    let (record, blobs) = (site.zone("zone-a").proxy().record(), "/sha256/");
    let probed = || record.of(&Method::GET, blobs).iter().any(Seen::is_probe);
    let deadline = Instant::now() + SOON;
    while !probed() {
        ensure!(Instant::now() < deadline, "no probe reads a blob that was read before: {:#?}", record.all());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Quay reads from this store too.
    let mut ours = record.of(&Method::GET, blobs);
    ours.retain(|seen| seen.header("user-agent").starts_with("quay-gateway/"));
    assert!(ours.iter().any(|seen| !seen.is_probe()), "no read has the gateway's user agent: {ours:#?}");
    for seen in ours {
        assert_eq!(seen.is_probe(), seen.header("range") == "bytes=0-0", "{seen:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_zone_is_drained_and_undrained_by_command() -> Result<()> {
    let site = Site::start()?;
    let mut gateway = site.gateway(&json!({})).await?;
    assert!(pulled_from(&site, &gateway, 1).await?.contains("zone=zone-a"));
    let (ok, said) = command(&gateway, &["zones", "drain", "zone-a"]).await?;
    assert!(ok && said.contains("zone-a is drained"), "{said}");
    until(&gateway, "zone-a", "drained").await?;
    assert!(!pulled_from(&site, &gateway, 2).await?.contains("zone=zone-a"));
    // A restart does not undo the drain.
    gateway.terminate().await?;
    gateway.spawn().await?;
    until(&gateway, "zone-a", "drained").await?;
    let (ok, said) = command(&gateway, &["zones"]).await?;
    assert!(ok && said.contains("drained by command: quay-gateway zones undrain zone-a"), "{said}");
    let (ok, said) = command(&gateway, &["zones", "undrain", "zone-a"]).await?;
    assert!(ok, "{said}");
    until(&gateway, "zone-a", "healthy").await?;
    let (ok, said) = command(&gateway, &["zones", "drain", "zone-x"]).await?;
    assert!(!ok && said.contains("there is no zone zone-x; zones are zone-a, zone-b, zone-c"), "{said}");
    Ok(())
}

#[tokio::test]
async fn the_last_zone_is_not_drained() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    for zone in ["zone-a", "zone-b"] {
        assert!(command(&gateway, &["zones", "drain", zone]).await?.0);
    }
    let (ok, said) = command(&gateway, &["zones", "drain", "zone-c"]).await?;
    assert!(!ok && said.contains("undrain another zone first"), "{said}");
    Ok(())
}

#[tokio::test]
async fn commands_from_a_web_page_are_refused() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    let url = format!("http://{}/zones/zone-a/drain", gateway.admin_address());
    // A web page in a browser on this machine could send this request.
    let answer = harness::http_client()?.post(url).send().await?;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(zone(&gateway, "zone-a").await?["state"], "healthy");
    Ok(())
}

/// Through a port-forward, a web page could reach the admin API under its own host name.
#[tokio::test]
async fn pages_of_other_sites_have_no_access() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    let (admin, client) = (gateway.admin_address(), harness::http_client()?);
    let own = admin.to_string();
    let status = async |method: Method, path: &str, headers: &[(&str, &str)]| -> Result<StatusCode> {
        let mut request = client.request(method, format!("http://{admin}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(request.send().await?.status())
    };
    let (sent, evil) = (("quay-gateway-command", "1"), "evil.example.com:9090");
    let foreign = ("origin", "http://evil.example.com:9090");
    for headers in [&[sent, ("host", evil), foreign][..], &[sent, ("host", evil)], &[sent, foreign]] {
        for path in ["/zones/zone-a/drain", "/queue/park", "/queue/add", "/queue/retry"] {
            let refused = status(Method::POST, path, headers).await?;
            assert_eq!(refused, StatusCode::FORBIDDEN, "{path} {headers:?}");
        }
    }
    assert_eq!(zone(&gateway, "zone-a").await?["state"], "healthy");
    for path in ["/status", "/zones", "/queue", "/queue/jobs"] {
        assert_eq!(status(Method::GET, path, &[("host", evil)]).await?, StatusCode::FORBIDDEN, "{path}");
        assert_eq!(status(Method::GET, path, &[("host", &own)]).await?, StatusCode::OK, "{path}");
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(status(Method::GET, path, &[("host", evil)]).await?, StatusCode::OK, "{path}");
    }
    let drained = status(Method::POST, "/zones/zone-a/drain", &[sent, ("host", &own)]).await?;
    assert_eq!(drained, StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn scrapers_get_the_format_that_they_accept() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    pushed(&site, &gateway, 1).await?;
    let url = format!("http://{}/metrics", gateway.admin_address());
    for (accept, open) in [
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1", true),
        ("text/plain;version=0.0.4", false),
        ("text/plain", false),
        ("*/*", false),
    ] {
        let answer = harness::http_client()?.get(&url).header("accept", accept).send().await?;
        let kind = answer.headers()["content-type"].to_str()?.to_owned();
        let text = answer.text().await?;
        assert_eq!(kind.starts_with("application/openmetrics-text; version=1.0.0"), open, "{accept}: {kind}");
        assert_eq!(kind.starts_with("text/plain; version=0.0.4"), !open, "{accept}: {kind}");
        assert_eq!(text.ends_with("# EOF\n"), open, "{accept}");
        let family = if open { "requests counter" } else { "requests_total counter" };
        assert!(text.contains(&format!("# TYPE quay_gateway_{family}\n")), "{accept}: {text}");
        assert!(text.lines().any(|line| line.starts_with("quay_gateway_requests_total{")), "{text}");
    }
    Ok(())
}

/// A secret in the wrong place of a configuration appears in no output of any command, and not in the log.
#[tokio::test]
async fn no_secret_of_a_refused_configuration_is_printed() -> Result<()> {
    const SECRET: &str = "hunter2SECRET";
    let site = Site::start()?;
    let (text, quay) = (format!("{{\"secret_key\": \"{SECRET}\"}}"), site.quay.config().to_string());
    let gateway = Gateway::prepare(&site.gateway_config(&json!({})), &[("quay.yaml", &quay)])?;
    for broken in [
        json!({"zones": text}),
        json!({"zones": {"z": text}}),
        json!({"zones": {"z": ["S3Storage", text]}}),
        json!({"journal": text}),
        json!({"journal": {"url_file": SECRET}}),
        json!({"journal": [SECRET]}),
        json!({"registry": {"url": format!("https://user:{SECRET}@localhost")}}),
        json!({"registry": {"account": {"username": "robot", "password_file": SECRET}}}),
        json!({"admin": {"token_file": SECRET}}),
        json!({"tls": {"certificate": "quay.yaml", "key": format!("-----BEGIN PRIVATE KEY-----\n{SECRET}")}}),
        json!({"replication": {"placements": true, "database": format!("postgres://u:p@{SECRET}@h/d")}}),
    ] {
        gateway.configure(&site.gateway_config(&broken))?;
        for arguments in [&["check-config"][..], &["run"], &["check"], &["zones"]] {
            let output = gateway.command(arguments).await?;
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(!output.status.success() && !said.is_empty(), "{arguments:?} {broken}");
            assert!(!said.contains(SECRET), "{arguments:?}: {said}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn beyond_loopback_commands_need_the_token() -> Result<()> {
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    let site = Site::start()?;
    let quay = site.quay.config().to_string();
    let files = [("quay.yaml", quay.as_str()), ("token", TOKEN)];
    let mut gateway = Gateway::prepare(&site.gateway_config(&json!({})), &files)?;
    let listen = format!("0.0.0.0:{}", gateway.admin_address().port());
    gateway.configure(&site.gateway_config(&json!({"admin": {"listen": listen}})))?;
    gateway.spawn().await?;
    let (ok, said) = command(&gateway, &["zones", "drain", "zone-a"]).await?;
    assert!(!ok && said.contains("admin.token_file"), "{said}");
    gateway.terminate().await?;

    let admin = json!({"listen": listen, "token_file": "token", "hosts": ["gateway.ops.example.com"]});
    gateway.configure(&site.gateway_config(&json!({"admin": admin})))?;
    gateway.spawn().await?;
    let url = format!("http://{}/zones/zone-b/drain", gateway.admin_address());
    let drain = |token: &'static str| {
        let host = ("host", "gateway.ops.example.com:30090");
        let request = harness::http_client().map(|client| client.post(&url).header(host.0, host.1));
        async move {
            let request = request?.header("quay-gateway-command", "1").header("authorization", token);
            anyhow::Ok(request.send().await?.status())
        }
    };
    assert_eq!(drain("Bearer 0123456789abcdef").await?, StatusCode::UNAUTHORIZED);
    assert_eq!(drain("").await?, StatusCode::UNAUTHORIZED);
    assert_eq!(zone(&gateway, "zone-b").await?["state"], "healthy");
    let (ok, said) = command(&gateway, &["zones", "drain", "zone-a"]).await?;
    assert!(ok, "{said}");
    until(&gateway, "zone-a", "drained").await?;
    assert_eq!(drain("Bearer 0123456789abcdef0123456789abcdef").await?, StatusCode::OK);
    until(&gateway, "zone-b", "drained").await?;
    assert!(!gateway.log().contains(TOKEN));
    Ok(())
}

#[tokio::test]
async fn a_reloaded_configuration_changes_the_drains_of_zones() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    let routing = json!({ "zones": { "zone-a": { "drain": true }, "zone-b": { "reads": "never" } } });
    gateway.configure(&site.gateway_config(&json!({ "routing": routing })))?;
    gateway.signal(Signal::HUP)?;
    until(&gateway, "zone-a", "drained").await?;
    until(&gateway, "zone-b", "never read").await?;
    assert!(pulled_from(&site, &gateway, 1).await?.contains("zone=zone-c"));
    let (ok, said) = command(&gateway, &["zones", "undrain", "zone-a"]).await?;
    assert!(!ok && said.contains("routing.zones.zone-a.drain"), "{said}");
    // A refused configuration changes nothing.
    let routing = json!({ "zones": { "zone-a": { "weight": 0 } } });
    gateway.configure(&site.gateway_config(&json!({ "routing": routing })))?;
    gateway.signal(Signal::HUP)?;
    let deadline = Instant::now() + SOON;
    while !gateway.log().contains("routing.zones.zone-a.weight: must be between") {
        ensure!(Instant::now() < deadline, "{}", gateway.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(zone(&gateway, "zone-a").await?["state"], "drained");
    gateway.configure(&site.gateway_config(&json!({})))?;
    gateway.signal(Signal::HUP)?;
    until(&gateway, "zone-a", "healthy").await
}

#[tokio::test]
async fn an_outage_and_its_end_are_reported() -> Result<()> {
    let site = Site::with(&ZONES, Options::default())?;
    let gateway = site.gateway(&json!({})).await?;
    let image = pushed(&site, &gateway, 1).await?;
    until(&gateway, "zone-a", "healthy").await?;
    site.zone("zone-a").proxy().down().await;
    until(&gateway, "zone-a", "ejected").await?;
    assert!(source(&gateway, 1, &image).await?.contains("zone=zone-b"));
    for line in [
        "quay_gateway_zone_serves{zone=\"zone-a\"} 0",
        "quay_gateway_zone_state{zone=\"zone-a\",state=\"ejected\"} 1",
        "quay_gateway_zone_reads_total{zone=\"zone-b\"} 2",
        "quay_gateway_zones_all_ejected 0",
    ] {
        until_measured(&gateway, line).await?;
    }
    let (ok, said) = command(&gateway, &["zones"]).await?;
    assert!(ok && said.contains("zone zone-a: ejected: unavailable: "), "{said}");
    let (_, said) = command(&gateway, &["zones", "--output", "json"]).await?;
    let report: Value = serde_json::from_str(&said)?;
    assert_eq!(report["zones"][0]["classes"][0]["why"], "ejected");
    site.zone("zone-a").proxy().heal().await;
    until(&gateway, "zone-a", "healthy").await?;
    gateway.logged("zone is out of use: reads go to others").await?;
    gateway.logged("zone is in use again").await?;
    Ok(())
}
