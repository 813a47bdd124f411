//! `quay-gateway check` on real stores, some of them broken on purpose, all at once.

use anyhow::{Context as _, Result, ensure};
use harness::gateway::Gateway;
use harness::quay::{Options, Quay};
use real_servers::{Azurite, Keystone, RadosGw, SeaweedFs, Swift, SwiftOptions};
use serde_json::{Value, json};

const ROOT: &str = "/datastorage/registry";
/// The timeout of a step. Eight checks at once share the machine with five servers.
const EACH: &str = "30s";

/// What is wrong with a zone, and the expected message.
struct Broken {
    name: &'static str,
    entry: Value,
    /// The step that fails.
    step: &'static str,
    cause: &'static str,
    fix: &'static str,
}

/// Changes one parameter of `entry`. A name with a dot is a parameter within a map.
fn with(mut entry: Value, parameter: &str, value: Value) -> Value {
    let mut slot = &mut entry[1];
    for name in parameter.split('.') {
        slot = &mut slot[name];
    }
    *slot = value;
    entry
}

/// The same store with Quay's driver for Amazon S3.
fn as_amazons(entry: &Value) -> Value {
    let of = |name: &str| entry[1][name].clone();
    json!(["S3Storage", {
        "endpoint_url": format!("http://127.0.0.1:{}", of("port")),
        "s3_access_key": of("access_key"),
        "s3_secret_key": of("secret_key"),
        "s3_bucket": of("bucket_name"),
        "storage_path": "/another",
    }])
}

fn broken(radosgw: &Value, keystone: &Value, azurite: &Value) -> Vec<Broken> {
    let of = |name, entry, step, cause, fix| Broken { name, entry, step, cause, fix };
    vec![
        of(
            "wrong-key",
            with(radosgw.clone(), "secret_key", json!("hunter2")),
            "authenticate",
            "the secret key is wrong",
            "`access_key` and `secret_key`",
        ),
        of(
            "no-access-key",
            with(radosgw.clone(), "access_key", json!("hunter2")),
            "authenticate",
            "the store does not know this access key",
            "`access_key` and `secret_key`",
        ),
        of(
            "no-bucket",
            with(radosgw.clone(), "bucket_name", json!("missing")),
            "authenticate",
            "there is no bucket `missing` at this store",
            "create bucket `missing`",
        ),
        of(
            "encrypts-in-the-clear",
            as_amazons(radosgw),
            "put",
            "requests encryption at rest",
            "RadosGWStorage",
        ),
        of(
            "name-for-id",
            with(keystone.clone(), "os_options.project_name", json!("missing")),
            "authenticate",
            "Keystone does not know a user with this password, domain and project",
            "`tenant_name` or `tenant_id`",
        ),
        of(
            "no-container",
            with(keystone.clone(), "swift_container", json!("missing")),
            "authenticate",
            "there is no container `missing` at this store",
            "create container `missing`",
        ),
        of(
            "wrong-azure-key",
            with(azurite.clone(), "azure_account_key", json!("aHVudGVyMg==")),
            "authenticate",
            "the key is wrong",
            "`azure_account_key`",
        ),
        of(
            "no-azure-container",
            with(azurite.clone(), "azure_container", json!("missing")),
            "authenticate",
            "there is no container `missing` at this store",
            "create container `missing`",
        ),
    ]
}

/// Prints the table, for runs with `--no-capture`.
#[allow(clippy::print_stdout)]
fn show(table: &str) {
    println!("{table}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_zones_and_broken_ones() -> Result<()> {
    let radosgw = RadosGw::start("blobs").await?;
    let swift = Swift::with_keystone("blobs", SwiftOptions::default()).await?;
    let azurite = Azurite::start("blobs").await?;
    let seaweed = SeaweedFs::start("blobs").await?;
    let folder = tempfile::tempdir()?;
    let mut zones = serde_json::Map::new();
    let mut add = |name: &str, entry: Value| zones.insert(name.to_owned(), entry);
    let s3 = radosgw.bucket.as_zone(radosgw.bucket.port, ROOT);
    let (keystone, azure) = (swift.container.as_zone(ROOT), azurite.as_zone(ROOT));
    add("radosgw", s3.clone());
    add("radosgw-swift", radosgw.container("others").await?.as_zone(ROOT));
    add("swift-keystone", keystone.clone());
    add("azurite", azure.clone());
    add("seaweedfs", seaweed.bucket.as_zone(seaweed.bucket.port, ROOT));
    add("folder", json!(["LocalStorage", {"storage_path": folder.path()}]));
    let good: Vec<&str> =
        vec!["radosgw", "radosgw-swift", "swift-keystone", "azurite", "seaweedfs", "folder"];
    let broken = broken(&s3, &keystone, &azure);
    for zone in &broken {
        add(zone.name, zone.entry.clone());
    }
    let quay = Quay::start(Vec::new(), Options::default())?;
    let mut config = quay.config();
    config["DISTRIBUTED_STORAGE_CONFIG"] = zones.into();
    let over = json!({"registry": {"kind": "quay", "url": quay.url(), "config": "quay.yaml"}});
    let gateway = Gateway::prepare(&over, &[("quay.yaml", &config.to_string())])?;

    let output = gateway.command(&["check", "--output", "json", "--timeout", EACH]).await?;
    let printed = String::from_utf8(output.stdout)?;
    let report: Value = serde_json::from_str(&printed).context(printed.clone())?;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(report["registry"]["ok"], true);
    let zone = |name: &str| {
        let mut zones = report["zones"].as_array().into_iter().flatten();
        zones.find(|zone| zone["name"] == name).cloned().with_context(|| format!("no {name}"))
    };
    for name in good {
        ensure!(zone(name)?["ok"] == true, "{name}: {:#}", zone(name)?);
    }
    for Broken { name, step, cause, fix, .. } in &broken {
        let found = zone(name)?;
        let mut steps = found["steps"].as_array().into_iter().flatten();
        let failed = steps.find(|step| step["ok"] == false).with_context(|| format!("{name} passed"))?;
        let holds = |key: &str, wanted: &str| failed[key].as_str().is_some_and(|said| said.contains(wanted));
        ensure!(failed["step"] == *step && holds("cause", cause) && holds("fix", fix), "{name}: {failed:#}");
    }

    let output = gateway.command(&["check", "--timeout", EACH]).await?;
    let table = String::from_utf8(output.stdout)?;
    show(&table);
    assert!(table.contains("registry passed, 6 of 14 zones passed"), "{table}");
    for secret in ["hunter2", &radosgw.bucket.secret_key, Keystone::PASSWORD, "aHVudGVyMg"] {
        assert!(!table.contains(secret) && !printed.contains(secret), "a secret is printed");
    }
    assert_eq!(std::fs::read(folder.path().join("_verify"))?, b"testing 123");
    let marker = radosgw.bucket.read("datastorage/registry/_verify").await?;
    assert_eq!(marker.as_deref(), Some(&b"testing 123"[..]));
    Ok(())
}
