//! An audit of three kinds of real stores, which differ in listings, pages and sizes.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use backends::{Digest, Key, Source, Store, StoreConfig};
use bytes::Bytes;
use harness::gateway::Gateway;
use harness::quay::{Options, Quay};
use real_servers::{Azurite, PATIENT, RadosGw, Swift, SwiftOptions, plain_transport};
use serde_json::{Value, json};

const ROOT: &str = "/datastorage/registry";
/// The number of blobs. Several pages in one step would need tens of thousands; these suffice to have every
/// kind of name.
const BLOBS: usize = 40;
/// The largest object that Swift accepts in one request here. Larger ones are segments with a manifest of
/// zero bytes, which listings show as empty.
const PIECE: u64 = 7 << 20;
const LARGE: usize = 10 << 20;

fn key(digest: &Digest) -> Key {
    let hex = digest.hex();
    Key::new(format!("sha256/{}/{hex}", &hex[..2]))
}

fn store(entry: &Value) -> Result<Arc<dyn Store>> {
    let config: StoreConfig = serde_json::from_value(entry.clone())?;
    Ok(config.build(&plain_transport(PATIENT))?)
}

async fn put(store: &Arc<dyn Store>, digest: &Digest, bytes: &Bytes) -> Result<()> {
    Ok(store.put(&key(digest), &Source::bytes(bytes.clone())).await?)
}

fn found(report: &Value) -> Vec<[String; 3]> {
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let name = |finding: &Value| text(finding, "digest") + &text(finding, "key");
    let findings = report["findings"].as_array().into_iter().flatten();
    let mut found: Vec<_> =
        findings.map(|finding| [text(finding, "kind"), text(finding, "zone"), name(finding)]).collect();
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_kinds_of_stores() -> Result<()> {
    let radosgw = RadosGw::start("blobs").await?;
    let swift =
        Swift::with_own_users("blobs", SwiftOptions { max_file_size: PIECE, ..SwiftOptions::default() })
            .await?;
    let azurite = Azurite::start("blobs").await?;
    let entries = [
        ("radosgw", radosgw.bucket.as_zone(radosgw.bucket.port, ROOT)),
        ("swift", swift.container.as_zone(ROOT)),
        ("azurite", azurite.as_zone(ROOT)),
    ];
    let stores = entries.iter().map(|(_, entry)| store(entry)).collect::<Result<Vec<_>>>()?;
    let mut digests = Vec::new();
    for n in 0..BLOBS {
        let bytes = Bytes::from(vec![n as u8; if n == 0 { LARGE } else { 100 + n }]);
        let digest = Digest::of(&bytes);
        for store in &stores {
            put(store, &digest, &bytes).await?;
        }
        digests.push(digest);
    }
    let hex = digests[0].hex();
    let manifest =
        swift.container.manifest(&format!("datastorage/registry/sha256/{}/{hex}", &hex[..2])).await?;
    ensure!(manifest.is_some(), "the large object has no manifest in Swift");
    // One blob is missing in one zone, and another one has a wrong size in another zone.
    stores[1].delete(&key(&digests[1])).await?;
    put(&stores[2], &digests[2], &Bytes::from_static(b"short")).await?;
    let stray = Key::new("sha256/00/stray");
    stores[0].put(&stray, &Source::bytes(Bytes::from_static(b"x"))).await?;

    let quay = Quay::start(Vec::new(), Options::default())?;
    let mut config = quay.config();
    let names: Vec<_> = entries.iter().map(|(name, _)| *name).collect();
    config["DISTRIBUTED_STORAGE_CONFIG"] =
        entries.iter().map(|(name, entry)| ((*name).to_owned(), entry.clone())).collect();
    config["DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS"] = json!(names);
    config["DISTRIBUTED_STORAGE_PREFERENCE"] = json!(names);
    let over = json!({"registry": {"kind": "quay", "url": quay.url(), "config": "quay.yaml"}});
    let gateway = Gateway::prepare(&over, &[("quay.yaml", &config.to_string())])?;
    let audit = async |more: &[&str]| {
        let arguments = [&["audit", "--output", "json", "--min-age", "0s"], more].concat();
        let output = gateway.command(&arguments).await?;
        let printed = String::from_utf8(output.stdout)?;
        ensure!(output.status.code() == Some(3), "{printed}{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str::<Value>(&printed).context(printed)
    };
    let text = |kind: &str, zone: &str, name: &str| [kind, zone, name].map(str::to_owned);
    let (missing, wrong) = (digests[1].to_string(), digests[2].to_string());

    let report = audit(&[]).await?;
    let mut wanted = vec![text("missing", "swift", &missing), text("stray", "radosgw", stray.as_str())];
    wanted.extend(names.iter().map(|zone| text("sizes-differ", zone, &wrong)));
    wanted.sort();
    assert_eq!(found(&report), wanted, "{report:#}");
    let blobs = |zone: usize| report["zones"][zone]["blobs"].clone();
    let whole: usize = LARGE + (1..BLOBS).map(|n| 100 + n).sum::<usize>();
    assert_eq!(blobs(0), json!({"objects": BLOBS, "bytes": whole}));
    assert_eq!(blobs(1), json!({"objects": BLOBS - 1, "bytes": whole - 101}), "real sizes of large objects");

    let report = audit(&["--deep", "100%", "--strays"]).await?;
    let mut wanted = vec![
        text("missing", "swift", &missing),
        text("stray", "radosgw", stray.as_str()),
        text("wrong-bytes", "azurite", &wrong),
    ];
    wanted.sort();
    assert_eq!(found(&report), wanted, "{report:#}");
    Ok(())
}
