//! A forward proxy between the gateway and its registry and stores: Squid, with a login.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::gateway::Gateway;
use harness::image::{Image, Spec};
use harness::site::{LOGIN, Site};
use http::Method;
use real_servers::{Certificates, SQUID_LOGIN, Squid};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
const REPOSITORY: &str = "admin/app";

/// Names that only Squid can resolve.
const NAMES: [&str; 3] = ["quay.test", "zone-a.test", "zone-b.test"];

/// An address that leads to loopback and is not one, so that rules decide about it. It is in `no_proxy`.
const DIRECT: &str = "0.0.0.0";

/// A gateway, not started, whose registry and two of three zones have names of [`NAMES`]. The third zone is dialled
/// without the proxy.
fn prepared(site: &Site, proxy: &Value, login: &str, ca: Option<&str>) -> Result<Gateway> {
    let mut quay = site.quay.config();
    for (zone, host) in [("zone-a", NAMES[1]), ("zone-b", NAMES[2]), ("zone-c", DIRECT)] {
        quay["DISTRIBUTED_STORAGE_CONFIG"][zone][1]["hostname"] = host.into();
    }
    let url = format!("http://{}:{}", NAMES[0], site.quay.address().port());
    let mut config = site.gateway_config(&json!({"registry": {"url": url}, "proxy": proxy}));
    if ca.is_some() {
        config["ca"] = "ca.pem".into();
    }
    let quay = serde_json::to_string(&quay)?;
    Gateway::prepare(&config, &[("quay.yaml", &quay), ("login", login), ("ca.pem", ca.unwrap_or_default())])
}

fn proxy(url: &str) -> Value {
    json!({"url": url, "credentials_file": "login", "no_proxy": [DIRECT]})
}

fn image() -> Result<Image> {
    Spec::layers(7, &[300_000, 40]).build()
}

async fn report(gateway: &Gateway) -> Result<Value> {
    let output = gateway.command(&["check", "--output", "json"]).await?;
    serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Waits until there is a value.
async fn until<T>(what: &str, value: impl AsyncFn() -> Option<T>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        match value().await {
            Some(value) => return Ok(value),
            None => ensure!(Instant::now() < end, "{what}"),
        }
        sleep(POLL).await;
    }
}

/// Waits until every zone has every blob of the image.
async fn copied(site: &Site, image: &Image) -> Result<()> {
    let everywhere = async || {
        let blobs = image.blobs();
        site.zones.iter().all(|zone| blobs.iter().all(|blob| zone.has(&blob.digest))).then_some(())
    };
    until("not every zone has every blob", everywhere).await
}

#[tokio::test]
async fn a_push_its_copies_and_a_pull_go_through_the_proxy_but_for_one_zone() -> Result<()> {
    let (site, squid, image) = (Site::start()?, Squid::start(&NAMES, None).await?, image()?);
    let mut gateway = prepared(&site, &proxy(&squid.url()), SQUID_LOGIN, None)?;
    let report = report(&gateway).await?;
    ensure!(report["registry"]["ok"] == true && report["registry"]["proxy"] == squid.url(), "{report:#}");
    for (at, through) in [(0, json!(squid.url())), (1, json!(squid.url())), (2, Value::Null)] {
        let zone = &report["zones"][at];
        ensure!(zone["ok"] == true && zone["proxy"] == through, "{zone:#}");
    }
    gateway.spawn().await?;
    let client = gateway.client(LOGIN)?;
    client.push(REPOSITORY, "v1", &image).await?;
    copied(&site, &image).await?;
    let pulled = client.pull(REPOSITORY, "v1").await?;
    ensure!(pulled.len() == image.blobs().len(), "{}", pulled.len());
    gateway.terminate().await?;
    let tunnel = format!("CONNECT quay.test:{} 200 gateway", site.quay.address().port());
    let log = squid.passed(&tunnel).await?;
    for (zone, host) in [("zone-a", NAMES[1]), ("zone-b", NAMES[2])] {
        let passed = format!("PUT http://{host}:{}/", site.zone(zone).address.port());
        ensure!(log.contains(&passed), "no {passed} in {log}");
    }
    let direct = site.zone("zone-c").address.port().to_string();
    ensure!(!log.contains(DIRECT) && !log.contains(&direct), "zone-c went through the proxy: {log}");
    ensure!(!gateway.log().contains("hunter2"), "a password is in the log");
    Ok(())
}

#[tokio::test]
async fn a_dead_proxy_is_named_as_the_reason_and_the_other_zone_goes_on() -> Result<()> {
    let (site, mut squid) = (Site::start()?, Squid::start(&NAMES, None).await?);
    let mut gateway = prepared(&site, &proxy(&squid.url()), SQUID_LOGIN, None)?;
    gateway.spawn().await?;
    squid.stop();
    let down = format!("the proxy {} cannot be reached", squid.url());
    gateway.logged(&down).await?;
    let answer = gateway.client(LOGIN)?.fetch(Method::GET, "/v2/", &[]).await?;
    let message = String::from_utf8_lossy(&answer.body).into_owned();
    ensure!(answer.status == 502 && message.contains(&down), "{} {message}", answer.status);
    let states = until("the zones behind the proxy are not ejected", async || {
        let zones = gateway.zones().await.ok()?;
        let state = |at: usize| zones["zones"][at]["state"].as_str().map(str::to_owned);
        let all = [state(0)?, state(1)?, state(2)?];
        (all[0] == "ejected" && all[1] == "ejected").then(|| (all, zones.to_string()))
    });
    let (states, zones) = states.await?;
    ensure!(states[2] == "healthy" && zones.contains(&down), "{zones}");
    squid.start_again().await?;
    let back = until("the registry does not come back", async || {
        let answer = gateway.client(LOGIN).ok()?.fetch(Method::GET, "/v2/", &[]).await.ok()?;
        (answer.status != 502).then_some(())
    });
    back.await
}

#[tokio::test]
async fn a_wrong_login_is_named_with_the_fix_and_never_printed() -> Result<()> {
    let (site, squid) = (Site::start()?, Squid::start(&NAMES, None).await?);
    let gateway = prepared(&site, &proxy(&squid.url()), "gateway:hunter3", None)?;
    let report = report(&gateway).await?;
    for of in [&report["registry"], &report["zones"][0]] {
        let text = of.to_string();
        let why = format!("the proxy {} refuses the gateway's credentials (407)", squid.url());
        ensure!(of["ok"] == false && text.contains(&why) && text.contains("credentials_file"), "{of:#}");
    }
    ensure!(report["zones"][2]["ok"] == true, "{report:#}");
    ensure!(!report.to_string().contains("hunter3"), "a password is in the report");
    Ok(())
}

/// The proxy's certificate is judged by `ca`, like that of a store.
#[tokio::test]
async fn a_proxy_with_tls() -> Result<()> {
    let (site, certificates) = (Site::start()?, Certificates::make()?);
    let squid = Squid::start(&NAMES, Some(&certificates.server())).await?;
    let url = squid.tls_url()?;
    let gateway = prepared(&site, &proxy(&url), SQUID_LOGIN, Some(&certificates.pem()))?;
    let trusted = report(&gateway).await?;
    ensure!(trusted["registry"]["ok"] == true && trusted["zones"][0]["ok"] == true, "{trusted:#}");
    let untrusting = prepared(&site, &proxy(&url), SQUID_LOGIN, None)?;
    let report = report(&untrusting).await?;
    let why = format!("the proxy {url} cannot be reached");
    for of in [&report["registry"], &report["zones"][0]] {
        ensure!(of["ok"] == false && of.to_string().contains(&why), "{of:#}");
    }
    Ok(())
}
