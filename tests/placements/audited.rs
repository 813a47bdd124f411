//! What an audit finds if Quay's database and the zones disagree.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use backends::Digest;
use serde_json::{Value, json};

use super::fixture::{Fixture, LOCATIONS};

/// A blob in `zones`, with placements in `placed`.
async fn blob(fixture: &Fixture, text: &str, zones: &[&str], placed: Option<&[&str]>) -> Result<Digest> {
    let digest = Digest::of(text.as_bytes());
    for zone in zones {
        fixture.site.zone(zone).write(&digest, text.as_bytes())?;
    }
    if let Some(placed) = placed {
        let row = fixture.tables.add_blob(&digest, true).await?;
        fixture.tables.add_to_manifest(row).await?;
        for zone in placed {
            fixture
                .tables
                .run(&format!(
                    "INSERT INTO imagestorageplacement (storage_id, location_id)
                     SELECT {row}, id FROM imagestoragelocation WHERE name = '{zone}'"
                ))
                .await?;
        }
    }
    Ok(digest)
}

fn found(report: &Value) -> BTreeSet<[String; 3]> {
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let findings = report["findings"].as_array().into_iter().flatten();
    findings.map(|finding| ["kind", "zone", "digest"].map(|key| text(finding, key))).collect()
}

#[tokio::test]
async fn orphans_unplaced_copies_and_lost_blobs_are_found() -> Result<()> {
    let fixture = Fixture::start().await?;
    // Blobs of every first byte, so that the ends of ranges are also tested.
    let mut bytes = BTreeSet::new();
    for n in 0.. {
        let digest = blob(&fixture, &format!("fine {n}"), &LOCATIONS, Some(&LOCATIONS)).await?;
        bytes.insert(digest.hex()[..2].to_owned());
        if (bytes.contains("00") && bytes.contains("ff") && bytes.contains("9f") && bytes.contains("a0"))
            || n > 3000
        {
            break;
        }
    }
    ensure!(["00", "ff", "9f", "a0"].iter().all(|byte| bytes.contains(*byte)), "{bytes:?}");
    let orphan = blob(&fixture, "orphan", &LOCATIONS, None).await?;
    let unplaced = blob(&fixture, "unplaced", &LOCATIONS, Some(&["zone-a", "zone-b"])).await?;
    let lost = blob(&fixture, "lost", &["zone-a", "zone-b"], Some(&LOCATIONS)).await?;
    let gone = blob(&fixture, "gone", &[], Some(&["zone-b"])).await?;
    let gateway = fixture.prepared(&json!({}))?;
    let audit = async |more: &[&str]| {
        let arguments = [&["audit", "--output", "json", "--min-age", "0s"], more].concat();
        let output = gateway.command(&arguments).await?;
        let printed = String::from_utf8(output.stdout)?;
        ensure!(output.status.code() == Some(3), "{printed}{}", String::from_utf8_lossy(&output.stderr));
        Ok(found(&serde_json::from_str(&printed)?))
    };
    let of = |kind: &str, zone: &str, digest: &Digest| [kind.to_owned(), zone.to_owned(), digest.to_string()];
    let missing = of("missing", "zone-c", &lost);
    let mut wanted: BTreeSet<_> = LOCATIONS.iter().map(|zone| of("orphan", zone, &orphan)).collect();
    wanted.extend([
        of("unplaced", "zone-c", &unplaced),
        of("lost", "zone-c", &lost),
        missing.clone(),
        of("lost", "zone-b", &gone),
    ]);
    assert_eq!(audit(&[]).await?, wanted);
    assert_eq!(audit(&["--zones-alone"]).await?, [missing].into());
    Ok(())
}

/// A copy of a blob that Quay does not have would be an orphan. Heal and backfill ignore such blobs unless
/// asked.
#[tokio::test]
async fn blobs_unknown_to_quay_are_copied_only_on_request() -> Result<()> {
    let fixture = Fixture::start().await?;
    let orphan = blob(&fixture, "orphan", &["zone-a"], None).await?;
    let known = blob(&fixture, "known", &["zone-a"], Some(&["zone-a"])).await?;
    let mut gateway = fixture.prepared(&json!({}))?;
    gateway.spawn().await?;
    let command = async |arguments: &[&str]| {
        let output = gateway.command(&[arguments, &["--min-age", "0s"]].concat()).await?;
        anyhow::Ok((
            output.status.code(),
            String::from_utf8(output.stdout)?,
            String::from_utf8(output.stderr)?,
        ))
    };
    let arrives = async |zone: &str, digest: &Digest| {
        for _ in 0..2400 {
            if fixture.site.zone(zone).has(digest) {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        anyhow::bail!("no copy in {zone}")
    };
    let (_, printed, _) = command(&["audit", "--output", "json"]).await?;
    let report: Value = serde_json::from_str(&printed)?;
    for finding in report["findings"].as_array().into_iter().flatten() {
        ensure!(finding["known"] == (finding["digest"] == known.to_string()), "{finding:#}");
    }
    for arguments in [&["heal", "--findings"][..], &["heal"], &["backfill", "zone-b", "--go"]] {
        let (_, printed, said) = command(arguments).await?;
        ensure!(printed.contains("skipped: ") && printed.contains("--unknown"), "{printed}{said}");
    }
    for zone in ["zone-b", "zone-c"] {
        arrives(zone, &known).await?;
        ensure!(!fixture.site.zone(zone).has(&orphan), "an orphan was copied into {zone}");
    }
    // An inventory that did not read the database does not know which blobs Quay has.
    command(&["audit", "--zones-alone", "--output", "json"]).await?;
    let (status, _, said) = command(&["heal", "--findings"]).await?;
    ensure!(status == Some(1) && said.contains("did not read Quay's database"), "{said}");
    command(&["heal", "--findings", "--unknown"]).await?;
    for zone in ["zone-b", "zone-c"] {
        arrives(zone, &orphan).await?;
    }
    Ok(())
}

/// Objects of a healthy registry that belong to no image: the empty blob, which has a row but no object, and
/// blobs whose manifest was never pushed, in the zone to which they were uploaded.
#[tokio::test]
async fn a_healthy_registry_has_no_findings() -> Result<()> {
    let fixture = Fixture::start().await?;
    for n in 0..20 {
        blob(&fixture, &format!("fine {n}"), &LOCATIONS, Some(&LOCATIONS)).await?;
    }
    let place = async |row: i32| {
        let insert = format!(
            "INSERT INTO imagestorageplacement (storage_id, location_id)
             SELECT {row}, id FROM imagestoragelocation WHERE name = 'zone-a'"
        );
        fixture.tables.run(&insert).await
    };
    place(fixture.tables.add_blob(&Digest::EMPTY, true).await?).await?;
    let unfinished = Digest::of(b"unfinished");
    fixture.site.zone("zone-a").write(&unfinished, b"unfinished")?;
    place(fixture.tables.add_blob(&unfinished, true).await?).await?;
    let gateway = fixture.prepared(&json!({}))?;
    let audit = ["audit", "--output", "json", "--min-age", "0s"];
    let output = gateway.command(&audit).await?;
    let printed = String::from_utf8(output.stdout)?;
    ensure!(output.status.code() == Some(0), "{printed}");
    let kinds: Vec<_> = found(&serde_json::from_str(&printed)?).into_iter().map(|[kind, ..]| kind).collect();
    assert_eq!(kinds, ["unfinished", "unfinished"], "in each zone that lacks it: {printed}");
    // Without permission to read the manifests, each blob counts as part of a manifest.
    fixture.tables.run("DROP TABLE manifestblob").await?;
    let output = gateway.command(&audit).await?;
    ensure!(output.status.code() == Some(3), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}
