//! `quay-gateway check`, and zones that cannot be used.

use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::body;
use harness::certs::Authority;
use harness::gateway::Gateway;
use harness::image::{Image, Spec};
use harness::port::Port;
use harness::quay::{Options, Quay};
use harness::server::Server;
use harness::site::{LOGIN, Site};
use hyper::service::service_fn;
use serde_json::{Value, json};

const REPOSITORY: &str = "admin/one";

/// A gateway in front of this site that is not started, with another `quay.yaml`.
fn prepared(site: &Site, over: &Value, quay: &Value, files: &[(&str, &str)]) -> Result<Gateway> {
    let quay = serde_json::to_string(quay)?;
    let mut all = vec![("quay.yaml", quay.as_str())];
    all.extend_from_slice(files);
    Gateway::prepare(&site.gateway_config(over), &all)
}

fn zone_of<'a>(quay: &'a mut Value, name: &str) -> &'a mut Value {
    &mut quay["DISTRIBUTED_STORAGE_CONFIG"][name]
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The output of the command, which must be a single JSON object.
fn parsed(output: &Output) -> Result<Value> {
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{}\n{}", text(&output.stdout), text(&output.stderr)))
}

/// The steps of one zone, or of the registry, as `name:ok`.
fn steps(of: &Value) -> Vec<String> {
    let steps = of["steps"].as_array().into_iter().flatten();
    steps.map(|step| format!("{}:{}", step["step"].as_str().unwrap_or("?"), step["ok"])).collect()
}

fn failed(of: &Value) -> &Value {
    let mut steps = of["steps"].as_array().into_iter().flatten();
    steps.find(|step| step["ok"] == false).unwrap_or(&Value::Null)
}

fn zone<'a>(report: &'a Value, name: &str) -> &'a Value {
    let mut zones = report["zones"].as_array().into_iter().flatten();
    zones.find(|zone| zone["name"] == name).unwrap_or(&Value::Null)
}

/// Checks that the output contains no secret of these zones.
fn no_secret(site: &Site, output: &Output) {
    let printed = text(&output.stdout) + &text(&output.stderr);
    for zone in &site.zones {
        for secret in [&zone.secret_key, &zone.access_key] {
            assert!(!printed.contains(secret.as_str()), "{printed}");
        }
    }
    assert!(!printed.contains("hunter2"), "{printed}");
}

/// A site in which zone-a works, zone-b has a wrong key, zone-c is down, zone-d has no valid driver, zone-e
/// has an untrusted certificate, and zone-f is a folder.
struct Broken {
    site: Site,
    gateway: Gateway,
    folder: tempfile::TempDir,
    _dead: Port,
    _untrusted: Server,
}

impl Broken {
    fn new() -> Result<Self> {
        let zones = ["zone-a", "zone-b"].map(|name| (name, Duration::ZERO));
        let site = Site::with(&zones, Options::default())?;
        let folder = tempfile::tempdir()?;
        let dead = Port::free()?;
        let port = Port::free()?;
        let tls = Authority::generate()?.certificate(&[])?.server_config()?;
        let address = port.address();
        let service = service_fn(|_| async { anyhow::Ok(http::Response::new(body::full("?"))) });
        let untrusted = Server::start(port, Some(tls), service)?;
        let mut quay = site.quay.config();
        zone_of(&mut quay, "zone-b")[1]["secret_key"] = "hunter2-wrong".into();
        let mut down = zone_of(&mut quay, "zone-a").clone();
        down[1]["port"] = dead.address().port().into();
        let mut stranger = zone_of(&mut quay, "zone-a").clone();
        stranger[1]["port"] = address.port().into();
        stranger[1]["is_secure"] = true.into();
        *zone_of(&mut quay, "zone-c") = down;
        *zone_of(&mut quay, "zone-d") = json!(["S4Storage", {"secret_key": "hunter2"}]);
        *zone_of(&mut quay, "zone-e") = stranger;
        *zone_of(&mut quay, "zone-f") = json!(["LocalStorage", {"storage_path": folder.path()}]);
        let gateway = prepared(&site, &json!({}), &quay, &[])?;
        Ok(Self { site, gateway, folder, _dead: dead, _untrusted: untrusted })
    }
}

#[tokio::test]
async fn each_broken_zone_is_reported_as_json() -> Result<()> {
    let broken = Broken::new()?;
    let output = broken.gateway.command(&["check", "--output", "json"]).await?;
    let report = parsed(&output)?;
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    no_secret(&broken.site, &output);
    assert_eq!(
        steps(&report["registry"]),
        ["resolve:true", "connect:true", "challenge:true", "keys:true", "health:true"]
    );
    assert_eq!(report["registry"]["ok"], true);
    let order: Vec<_> = report["zones"].as_array().into_iter().flatten().map(|zone| &zone["name"]).collect();
    assert_eq!(order, ["zone-a", "zone-b", "zone-c", "zone-d", "zone-e", "zone-f"]);
    let good = zone(&report, "zone-a");
    let all = ["authenticate:true", "put:true", "head:true", "range:true", "read back:true"];
    assert_eq!(steps(good)[..2], ["resolve:true", "connect:true"]);
    assert_eq!(steps(good)[2..], all);
    assert_eq!((&good["ok"], &good["driver"]), (&json!(true), &json!("RadosGWStorage")));
    for step in good["steps"].as_array().into_iter().flatten() {
        assert!(step["ms"].as_f64().is_some_and(|ms| ms >= 0.0) && step["error"].is_null(), "{step}");
    }
    assert_eq!(steps(zone(&report, "zone-f")), all);
    for (name, step, cause) in [
        ("zone-b", "authenticate", "secret key is wrong"),
        ("zone-c", "connect", "nothing listens at this address"),
        ("zone-d", "configuration", "works without it"),
        ("zone-e", "tls", "the CA that signed the server's certificate is not trusted here"),
    ] {
        let found = zone(&report, name);
        assert_eq!(found["ok"], false, "{name}");
        let failed = failed(found);
        assert_eq!(failed["step"], step, "{found:#}");
        assert!(failed["cause"].as_str().is_some_and(|said| said.contains(cause)), "{failed:#}");
        assert!(failed["error"].is_string() && failed["fix"].is_string(), "{failed:#}");
        let last = found["steps"].as_array().and_then(|steps| steps.last()).context("steps")?;
        assert_eq!((&last["step"], &last["error"]), (&json!("read back"), &json!("not reached")), "{name}");
        assert!(last["ms"].is_null());
    }
    assert!(failed(zone(&report, "zone-d"))["error"].to_string().contains("did you mean `S3Storage`?"));
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("zone-f is LocalStorage"), "{warnings}");
    Ok(())
}

#[tokio::test]
async fn each_broken_zone_is_reported_as_text() -> Result<()> {
    let broken = Broken::new()?;
    let output = broken.gateway.command(&["check"]).await?;
    assert_eq!(output.status.code(), Some(1));
    // The output is not a terminal, so there are no progress bars and no colours.
    assert!(output.stderr.is_empty() && !output.stdout.contains(&0x1b), "{}", text(&output.stderr));
    no_secret(&broken.site, &output);
    let printed = text(&output.stdout);
    for wanted in [
        "unusable",
        "zone zone-b: authenticate failed: ",
        "    likely  the secret key is wrong",
        "    fix     correct `access_key` and `secret_key`",
        "registry passed, 2 of 6 zones passed",
        "warning: ",
    ] {
        assert!(printed.contains(wanted), "{wanted}\n{printed}");
    }
    // Quay's own marker is not changed.
    assert_eq!(std::fs::read(broken.folder.path().join("_verify"))?, b"testing 123");
    assert_eq!(broken.site.zone("zone-a").keys()?, ["datastorage/registry/_verify"]);
    assert!(broken.site.zone("zone-b").keys()?.is_empty());
    Ok(())
}

#[tokio::test]
async fn everything_passes_with_tls_and_two_names() -> Result<()> {
    let authority = Authority::generate()?;
    let tls = authority.certificate(&["quay.corp"])?.server_config()?;
    let options =
        Options { hostname: Some("quay.corp".into()), tls: Some(Arc::clone(&tls)), ..Options::default() };
    let site = Site::with(&["zone-a", "zone-b"].map(|name| (name, Duration::ZERO)), options)?;
    let gateway =
        prepared(&site, &json!({"ca": "ca.pem"}), &site.quay.config(), &[("ca.pem", &authority.pem())])?;
    let output = gateway.command(&["check", "--output", "json", "--timeout", "20s"]).await?;
    let report = parsed(&output)?;
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    // No blob is there yet, which is right for a new registry.
    let warned = report["warnings"].as_array().context("warnings")?;
    assert_eq!(warned.len(), 2, "{warned:?}");
    assert!(
        warned[0].as_str().is_some_and(|text| text.starts_with("zone zone-a: no blob lies below")),
        "{warned:?}"
    );
    assert_eq!(steps(&report["registry"])[2], "tls:true");
    let note = report["registry"]["steps"][3]["note"].as_str().context("a note")?;
    assert!(note.contains(&format!("https://{}/v2/auth instead of https://quay.corp", gateway.hostname())));
    let blob = backends::Digest::of(b"blob");
    for zone in &site.zones {
        zone.write(&blob, b"blob")?;
    }
    let output = gateway.command(&["check", "--output", "json", "--timeout", "20s"]).await?;
    assert_eq!(parsed(&output)?["warnings"], json!([]));
    // The configuration is of another Quay.
    let mut other = site.quay.config();
    other["SERVER_HOSTNAME"] = "quay.example.com".into();
    let over = json!({"ca": "ca.pem", "registry": {"server_name": "quay.corp"}});
    let gateway = prepared(&site, &over, &other, &[("ca.pem", &authority.pem())])?;
    let output = gateway.command(&["check", "--output", "json"]).await?;
    let report = parsed(&output)?;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(failed(&report["registry"])["step"], "challenge", "{report:#}");
    assert_eq!(zone(&report, "zone-a")["ok"], true);
    Ok(())
}

#[tokio::test]
async fn a_registry_whose_database_is_down_and_a_store_that_hangs() -> Result<()> {
    let site = Site::start()?;
    site.quay.set(|faults| faults.broken = true);
    site.zone("zone-b").proxy().set(|faults| faults.latency = Duration::from_secs(60));
    let gateway = prepared(&site, &json!({}), &site.quay.config(), &[])?;
    let output = gateway.command(&["check", "--output", "json", "--timeout", "1s"]).await?;
    let report = parsed(&output)?;
    assert_eq!(output.status.code(), Some(1));
    let registry = failed(&report["registry"]);
    assert!(registry["step"] == "keys" || registry["step"] == "health", "{report:#}");
    let slow = failed(zone(&report, "zone-b"));
    assert_eq!(slow["step"], "authenticate", "{report:#}");
    assert!(slow["ms"].as_f64().is_some_and(|ms| ms < 10_000.0), "{slow}");
    assert_eq!(zone(&report, "zone-c")["ok"], true);
    Ok(())
}

#[tokio::test]
async fn a_refused_configuration_has_its_own_status() -> Result<()> {
    let site = Site::start()?;
    let mut quay = site.quay.config();
    let zones: Vec<_> = site.zones.iter().map(|zone| zone.name.clone()).collect();
    for name in &zones {
        *zone_of(&mut quay, name) = json!(["S4Storage", {"secret_key": "hunter2"}]);
    }
    let gateway = prepared(&site, &json!({}), &quay, &[])?;
    for command in [&["check", "--output", "json"][..], &["check"], &["check-config"], &["run"]] {
        let output = gateway.command(command).await?;
        assert_eq!(output.status.code(), Some(78), "{command:?}");
        assert!(output.stdout.is_empty());
        let said = text(&output.stderr);
        assert!(said.contains("no zone can be used: zone zone-a: ") && !said.contains("hunter2"), "{said}");
    }
    Ok(())
}

/// Waits until a zone has every blob of the image.
async fn copied(site: &Site, zone: &str, image: &Image) -> Result<()> {
    for blob in image.blobs() {
        for attempt in 0.. {
            if site.zone(zone).has(&blob.digest) {
                break;
            }
            ensure!(attempt < 1200, "{} did not arrive in {zone}", blob.digest);
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_unusable_zone_stops_nothing_and_its_copies_are_queued() -> Result<()> {
    let site = Site::start()?;
    let wrong = json!(["RadosGWStorage", {"hostnam": "h", "secret_key": "hunter2"}]);
    let mut quay = site.quay.config();
    *zone_of(&mut quay, "zone-c") = wrong.clone();
    let mut gateway = prepared(&site, &json!({}), &quay, &[])?;
    let understood = gateway.command(&["check-config"]).await?;
    assert_eq!(understood.status.code(), Some(0));
    no_secret(&site, &understood);
    let said = text(&understood.stdout);
    assert!(said.contains("zone zone-c cannot be used: ") && said.contains("`hostname`?"), "{said}");
    gateway.spawn().await?;
    let image = Spec::layers(1, &[200_000]).build()?;
    gateway.client(LOGIN)?.push(REPOSITORY, "v1", &image).await?;
    copied(&site, "zone-b", &image).await?;
    gateway.client(LOGIN)?.pull(REPOSITORY, "v1").await?;
    let status = gateway.status().await?;
    assert!(status["unusable"]["zone-c"].as_str().is_some_and(|reason| reason.contains("`hostname`?")));
    let mut lanes = status["copies"].as_array().into_iter().flatten();
    let lane = lanes.find(|lane| lane["zone"] == "zone-c").context("a lane")?;
    assert_eq!((&lane["waiting"], &lane["failures"]), (&json!(2), &json!(0)), "{lane:#}");
    let url = format!("http://{}/metrics", gateway.admin_address());
    let metrics = harness::http_client()?.get(url).send().await?.text().await?;
    assert!(metrics.contains("quay_gateway_zone_usable{zone=\"zone-c\"} 0"), "{metrics}");
    assert!(metrics.contains("quay_gateway_zone_usable{zone=\"zone-b\"} 1"), "{metrics}");
    let log = gateway.log();
    assert_eq!(log.matches("zone zone-c cannot be used").count(), 1, "{log}");
    assert!(!log.contains("hunter2"));
    // zone-c is repaired, and now home is unusable: the next zone serves, and the pending copies are made.
    gateway.terminate().await?;
    let mut quay = site.quay.config();
    *zone_of(&mut quay, "zone-a") = wrong;
    std::fs::write(gateway.dir().join("quay.yaml"), quay.to_string())?;
    gateway.configure(&site.gateway_config(&json!({"cache": {"dir": "another"}})))?;
    gateway.spawn().await?;
    copied(&site, "zone-c", &image).await?;
    for pulled in gateway.client(LOGIN)?.pull(REPOSITORY, "v1").await? {
        let from = r#"quay-gateway; fwd=miss; stored; detail="zone=zone-b""#;
        assert_eq!(pulled.cache_status.as_deref(), Some(from));
    }
    Ok(())
}

/// A gateway in front of Quay a, which prefers zone-a, and of `b`, which is configured as zone-b's.
fn before_two(site: &Site, b: &Quay) -> Result<Gateway> {
    let instances = json!([
        {"url": b.url(), "zone": "zone-b"},
        {"url": site.quay.url(), "zone": "zone-a"},
    ]);
    prepared(site, &json!({"registry": {"url": null, "instances": instances}}), &site.quay.config(), &[])
}

#[tokio::test]
async fn every_instance_of_the_registry_is_checked() -> Result<()> {
    let site = Site::start()?;
    let b = site.instance("zone-b")?;
    let gateway = before_two(&site, &b)?;
    let names = |report: &Value| {
        let instances = report["registry"]["instances"].as_array().cloned().unwrap_or_default();
        instances.iter().map(|one| (one["name"].clone(), one["ok"].clone())).collect::<Vec<_>>()
    };
    let output = gateway.command(&["check", "--output", "json"]).await?;
    let report = parsed(&output)?;
    assert!(output.status.success(), "{report:#}");
    assert!(!report["warnings"].to_string().contains("database"), "{report:#}");
    assert_eq!(names(&report), [(json!("zone-b"), json!(true)), (json!("zone-a"), json!(true))]);
    site.quay.down().await;
    let output = gateway.command(&["check", "--output", "json"]).await?;
    let report = parsed(&output)?;
    assert_eq!((output.status.code(), &report["registry"]["ok"]), (Some(1), &json!(false)));
    assert_eq!(names(&report), [(json!("zone-b"), json!(true)), (json!("zone-a"), json!(false))]);
    let table = text(&gateway.command(&["check"]).await?.stdout);
    assert!(table.contains("registry zone-a: connect failed"), "{table}");
    assert!(table.contains("1 of 2 instances of the registry, 3 of 3 zones passed"), "{table}");
    Ok(())
}

#[tokio::test]
async fn instances_without_a_common_database_are_reported() -> Result<()> {
    let site = Site::start()?;
    let zones = site.zones.iter().map(|zone| zone.location().clone()).collect();
    let hostname = Some(site.quay.hostname().to_owned());
    let stranger = Quay::start(zones, Options { hostname, ..Options::default() })?;
    let report = parsed(&before_two(&site, &stranger)?.command(&["check", "--output", "json"]).await?)?;
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("instances zone-b and zone-a of the registry know none"), "{warnings}");
    Ok(())
}
