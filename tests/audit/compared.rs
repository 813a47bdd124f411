//! What an audit reports about zones that differ.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::gateway::Gateway;
use harness::quay::Options;
use harness::site::Site;
use serde_json::json;

use super::support::{NOW, audited, command, everywhere, found, wanted};

/// The gateway's commands on a site, without a running gateway.
pub(crate) fn prepared(site: &Site) -> Result<Gateway> {
    let quay = site.quay.config().to_string();
    Gateway::prepare(&site.gateway_config(&json!({})), &[("quay.yaml", &quay)])
}

#[tokio::test]
async fn equal_zones_are_in_order() -> Result<()> {
    let site = Site::start()?;
    for seed in 0..40 {
        everywhere(&site, seed, 100)?;
    }
    let gateway = prepared(&site)?;
    let report = audited(&gateway, &[], 0).await?;
    assert_eq!((&report["wrong"], found(&report).len()), (&json!(0), 0));
    assert_eq!(report["blobs"], json!({"objects": 40, "bytes": 4000}));
    assert_eq!(report["zones"][2]["blobs"], json!({"objects": 40, "bytes": 4000}));
    let shown = command(&gateway, &[&["audit"], &NOW]).await?;
    ensure!(shown.status == Some(0) && shown.stdout.contains("nothing is missing or wrong"), "{shown:?}");
    Ok(())
}

/// Stores without a blob may be those of a new registry, or the wrong stores.
#[tokio::test]
async fn zones_without_a_blob_are_noted() -> Result<()> {
    let site = Site::start()?;
    let shown = command(&prepared(&site)?, &[&["audit"], &NOW]).await?;
    ensure!(shown.status == Some(0) && shown.stdout.contains("no blob was found in any zone"), "{shown:?}");
    Ok(())
}

#[tokio::test]
async fn missing_wrong_and_stray_objects_are_found() -> Result<()> {
    let site = Site::start()?;
    let digests = (0..6).map(|seed| everywhere(&site, seed, 1000)).collect::<Result<Vec<_>>>()?;
    let [gone, short, empty, rotten, .., fine] = &digests[..] else { panic!("six") };
    let (a, b, c) = (site.zone("zone-a"), site.zone("zone-b"), site.zone("zone-c"));
    b.delete(gone)?;
    c.delete(gone)?;
    b.truncate(short, 900)?;
    c.truncate(empty, 0)?;
    c.corrupt(rotten, 500)?;
    let stray = format!("sha256/{}/{}.tmp", &fine.hex()[..2], fine.hex());
    for key in [stray.as_str(), "uploads/0f", "_verify", "left/behind"] {
        let file = a.path(fine).ancestors().nth(3).expect("the root").join(key);
        std::fs::create_dir_all(file.parent().expect("a folder"))?;
        std::fs::write(file, "x")?;
    }
    let gateway = prepared(&site)?;
    let report = audited(&gateway, &[], 3).await?;
    let plain = wanted(&[
        ("missing", "zone-b", gone),
        ("missing", "zone-c", gone),
        ("sizes-differ", "zone-a", short),
        ("sizes-differ", "zone-b", short),
        ("sizes-differ", "zone-c", short),
        ("empty", "zone-c", empty),
        ("stray", "zone-a", &stray),
    ]);
    assert_eq!(found(&report), plain, "{report:#}");
    assert_eq!(report["zones"][1]["found"]["missing"], json!({"objects": 1, "bytes": 1000}));

    // A deep audit reads the objects and finds which copy is wrong. Here one zone has the correct size.
    let report = audited(&gateway, &["--deep", "0%"], 3).await?;
    let deep = wanted(&[
        ("missing", "zone-b", gone),
        ("missing", "zone-c", gone),
        ("wrong-bytes", "zone-b", short),
        ("empty", "zone-c", empty),
        ("stray", "zone-a", &stray),
    ]);
    assert_eq!(found(&report), deep, "{report:#}");

    let report = audited(&gateway, &["--deep", "100%", "--strays"], 3).await?;
    let mut all = deep;
    all.extend(wanted(&[("wrong-bytes", "zone-c", rotten), ("stray", "zone-a", &"left/behind")]));
    all.sort();
    assert_eq!(found(&report), all, "{report:#}");
    // The two missing objects are neither read nor hashed.
    assert_eq!(report["zones"][1]["hashed"], json!({"objects": 5, "bytes": 4900}));

    let table = command(&gateway, &[&["audit", "--output", "csv"], &NOW]).await?;
    ensure!(table.status == Some(3), "{table:?}");
    let mut lines = table.stdout.lines();
    assert_eq!(lines.next(), Some("kind,zone,name,size,expected,has,known,told"));
    assert_eq!(lines.count(), plain.len());
    let line = format!("missing,zone-b,{gone},,1000,zone-a,");
    ensure!(table.stdout.contains(&line), "{line}\n{}", table.stdout);
    Ok(())
}

#[tokio::test]
async fn an_unusable_target_is_reported() -> Result<()> {
    let site = Site::start()?;
    everywhere(&site, 1, 10)?;
    let mut quay = site.quay.config();
    quay["DISTRIBUTED_STORAGE_CONFIG"]["zone-c"][0] = json!("NoSuchStorage");
    let gateway = Gateway::prepare(&site.gateway_config(&json!({})), &[("quay.yaml", &quay.to_string())])?;
    for output in ["table", "json", "csv"] {
        let ended = command(&gateway, &[&["audit", "--output", output], &NOW]).await?;
        ensure!(
            ended.status == Some(3) && ended.stderr.contains("note: zone zone-c cannot be used"),
            "{ended:?}"
        );
    }
    let without = command(&gateway, &[&["audit", "--without", "zone-c"], &NOW]).await?;
    ensure!(without.status == Some(0), "{without:?}");
    Ok(())
}

#[tokio::test]
async fn objects_that_were_just_written_are_ignored() -> Result<()> {
    let site = Site::start()?;
    let digest = everywhere(&site, 1, 10)?;
    site.zone("zone-b").delete(&digest)?;
    let gateway = prepared(&site)?;
    let output = command(&gateway, &[&["audit", "--output", "json"]]).await?;
    let report = output.json()?;
    assert_eq!((output.status, &report["recent"]), (Some(0), &json!(1)), "{report:#}");
    Ok(())
}

#[tokio::test]
async fn read_only_keys_suffice() -> Result<()> {
    let site = Site::start()?;
    let digest = everywhere(&site, 1, 10)?;
    let before: Vec<_> = site.zones.iter().map(|zone| zone.keys()).collect::<std::io::Result<_>>()?;
    site.zone("zone-c").delete(&digest)?;
    for zone in &site.zones {
        zone.proxy().set(|faults| faults.latency = Duration::from_millis(1));
    }
    let gateway = prepared(&site)?;
    audited(&gateway, &["--deep", "100%", "--strays"], 3).await?;
    let after: Vec<_> = site.zones.iter().map(|zone| zone.keys()).collect::<std::io::Result<_>>()?;
    assert_eq!(after[..2], before[..2], "nothing is written");
    assert_eq!(after[2], Vec::<String>::new());
    Ok(())
}

/// A zone that is not a target zone lacks nothing.
#[tokio::test]
async fn only_target_zones_lack_blobs() -> Result<()> {
    let zones = ["zone-a", "zone-b"].map(|name| (name, Duration::ZERO));
    let site = Site::with(&zones, Options::default())?;
    let digest = everywhere(&site, 1, 10)?;
    site.zone("zone-b").delete(&digest)?;
    let mut quay = site.quay.config();
    quay["DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS"] = json!(["zone-a"]);
    let config = site.gateway_config(&json!({}));
    let gateway = Gateway::prepare(&config, &[("quay.yaml", &quay.to_string())])?;
    assert_eq!(found(&audited(&gateway, &[], 0).await?), []);
    let plan = command(&gateway, &[&["backfill", "zone-b", "--rate", "5B"], &NOW]).await?;
    ensure!(
        plan.status == Some(0) && plan.stdout.contains("zone-b lacks 1 blobs, 10 B, 2 s at 5 B/s"),
        "{plan:?}"
    );
    ensure!(plan.stdout.contains("garbage collection would not reach"), "{plan:?}");
    let refused = command(&gateway, &[&["backfill", "zone-b", "--go"], &NOW]).await?;
    ensure!(
        refused.status == Some(1) && refused.stderr.contains("replication.accept_orphans"),
        "{refused:?}"
    );
    let unknown = command(&gateway, &[&["audit", "--without", "zone-x"]]).await?;
    ensure!(unknown.stderr.contains("there is no zone zone-x; zones are zone-a, zone-b"), "{unknown:?}");
    Ok(())
}
