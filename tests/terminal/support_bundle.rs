//! `quay-gateway support-bundle`: what it holds, and that no secret is in it.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use harness::gateway::Gateway;
use harness::site::{PASSWORD, Site, USER, ZONES};
use serde_json::{Value, json};

const DATABASE_PASSWORD: &str = "hunter2-of-the-database";
const REDIS_PASSWORD: &str = "hunter2-of-redis";
const ADMIN_TOKEN: &str = "hunter2-of-the-admin-side-0123456789";
const LOGGED: &str = "hunter2-in-the-log";

/// A gateway with a secret wherever its configuration has one, and those secrets.
fn prepared(site: &Site) -> Result<(Gateway, Vec<String>)> {
    let config = site.gateway_config(&json!({
        "registry": {"account": {"username": USER, "password_file": "password"}},
        "admin": {"token_file": "token"},
        "replication": {
            "placements": true,
            "database": format!("postgresql://quay:{DATABASE_PASSWORD}@127.0.0.1:1/quay"),
            "sweep": {"enabled": false},
        },
        "timeouts": {"drain": "7s"},
    }));
    let mut quay = site.quay.config();
    quay["USER_EVENTS_REDIS"] = json!({"host": "127.0.0.1", "port": 1, "password": REDIS_PASSWORD});
    let files = [("quay.yaml", &*quay.to_string()), ("password", PASSWORD), ("token", ADMIN_TOKEN)];
    let mut secrets = [DATABASE_PASSWORD, REDIS_PASSWORD, ADMIN_TOKEN, LOGGED].map(str::to_owned).to_vec();
    for (zone, _) in ZONES {
        let entry = site.zone(zone).quay_entry();
        secrets.push(entry[1]["secret_key"].as_str().context("a secret key")?.to_owned());
    }
    Ok((Gateway::prepare(&config, &files)?, secrets))
}

/// The files of a bundle.
fn files(archive: &[u8]) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        ensure!(entry.header().mode()? == 0o600, "{:?}", entry.path());
        let name = entry.path()?.strip_prefix("quay-gateway-support")?.display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text)?;
        files.insert(name, text);
    }
    Ok(files)
}

/// Makes a bundle, and checks that no byte of it is secret.
async fn bundle(gateway: &Gateway, secrets: &[String], log: &Path) -> Result<BTreeMap<String, String>> {
    let to = gateway.dir().join("bundle.tar");
    let (to, log) = (to.to_str().context("UTF-8")?, log.to_str().context("UTF-8")?);
    let arguments = ["support-bundle", "--log", log, "--to", to];
    let output = gateway.command(&arguments).await?;
    let said = String::from_utf8([output.stdout, output.stderr].concat())?;
    ensure!(output.status.success(), "{said}");
    let archive = std::fs::read(to)?;
    for secret in secrets {
        let is_in = |bytes: &[u8]| bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
        ensure!(!is_in(&archive) && !is_in(said.as_bytes()), "{secret} is in the bundle");
    }
    ensure!(std::fs::metadata(to)?.permissions().mode() & 0o777 == 0o600, "others may read {to}");
    let again = gateway.command(&arguments).await?;
    ensure!(again.status.code() == Some(1) && std::fs::read(to)? == archive, "the bundle was replaced");
    files(&archive)
}

#[tokio::test]
async fn a_bundle_has_everything_but_secrets() -> Result<()> {
    let site = Site::start()?;
    let (mut gateway, secrets) = prepared(&site)?;
    gateway.spawn().await?;
    let log = gateway.dir().join("log");
    let odd =
        format!("GET /x?X-Amz-Signature={LOGGED}\nAuthorization: Bearer {LOGGED}\nsecret_key={LOGGED}\n");
    std::fs::write(&log, gateway.log() + &odd)?;
    let files = bundle(&gateway, &secrets, &log).await?;
    let of = |name: &str| files.get(name).with_context(|| format!("no {name} in {:?}", files.keys()));
    for (name, text) in [
        ("MANIFEST.txt", "in 3 lines something that looks like a secret was removed"),
        ("MANIFEST.txt", "Read it before you send it"),
        ("version.txt", concat!("quay-gateway ", env!("CARGO_PKG_VERSION"))),
        ("config.txt", "registry.account        admin, password given"),
        ("config-keys.txt", "timeouts.drain: \"7s\""),
        ("config-keys.txt", "replication.database: (set, not shown)"),
        ("host.txt", "Max open files"),
        ("readyz.txt", "o"),
        ("status.json", "\"cache\""),
        ("metrics.txt", "quay_gateway_zone_at_risk_blobs"),
        ("log.txt", "GET /x?X-Amz-Signature=*removed*"),
    ] {
        ensure!(of(name)?.contains(text), "{text}: {}", of(name)?);
    }
    for (name, pointer) in
        [("zones.json", "/zones/2/name"), ("queue.json", "/zones"), ("sweep.json", "/enabled")]
    {
        let answer: Value = serde_json::from_str(of(name)?).with_context(|| name.to_owned())?;
        ensure!(answer.pointer(pointer).is_some(), "{name}: {answer:#}");
    }
    ensure!(of("log.txt")?.lines().count() > 3, "{}", of("log.txt")?);
    Ok(())
}

#[tokio::test]
async fn a_gateway_that_is_down_or_refuses_its_configuration_is_no_error() -> Result<()> {
    let site = Site::start()?;
    let (gateway, secrets) = prepared(&site)?;
    let log = gateway.dir().join("log");
    std::fs::write(&log, format!("postgresql://quay:{DATABASE_PASSWORD}@127.0.0.1:1/quay failed\n"))?;
    let down = bundle(&gateway, &secrets, &log).await?;
    ensure!(!down.contains_key("zones.json"), "{:?}", down.keys());
    ensure!(down["MANIFEST.txt"].contains("no gateway answers at"), "{}", down["MANIFEST.txt"]);
    std::fs::remove_file(gateway.dir().join("bundle.tar"))?;
    gateway.configure(&json!({"timeouts": {"drain": LOGGED}, LOGGED: LOGGED}))?;
    let refused = bundle(&gateway, &secrets, &log).await?;
    let manifest = &refused["MANIFEST.txt"];
    ensure!(
        manifest.contains("gateway.yaml") && manifest.contains("the configuration is refused"),
        "{manifest}"
    );
    ensure!(refused["config-keys.txt"].contains("timeouts.drain: (set, not shown)"), "{refused:#?}");
    Ok(())
}

#[tokio::test]
async fn a_bundle_can_go_to_standard_output_and_a_log_come_from_a_pipe() -> Result<()> {
    let site = Site::start()?;
    let (gateway, _) = prepared(&site)?;
    let output = gateway.command(&["support-bundle", "--quiet", "--log", "-", "--to", "-"]).await?;
    ensure!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    ensure!(files(&output.stdout)?["log.txt"].is_empty(), "the test gives no input");
    let missing = gateway.command(&["support-bundle", "--log", "/no/such/log", "--to", "-"]).await?;
    ensure!(missing.status.code() == Some(1) && missing.stdout.is_empty(), "{missing:?}");
    Ok(())
}
