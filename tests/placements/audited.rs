//! What an audit finds where Quay's database and the zones disagree.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use backends::Digest;
use serde_json::{Value, json};

use super::stage::{LOCATIONS, Stage};

/// A blob in these zones, with a placement for those.
async fn blob(stage: &Stage, text: &str, zones: &[&str], placed: Option<&[&str]>) -> Result<Digest> {
    let digest = Digest::of(text.as_bytes());
    for zone in zones {
        stage.site.zone(zone).write(&digest, text.as_bytes())?;
    }
    if let Some(placed) = placed {
        let row = stage.tables.add_blob(&digest, true).await?;
        stage.tables.add_to_manifest(row).await?;
        for zone in placed {
            stage
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
async fn orphans_what_is_not_placed_and_what_is_lost() -> Result<()> {
    let stage = Stage::start().await?;
    // Blobs of every first byte, so that the ends of ranges are seen too.
    let mut bytes = BTreeSet::new();
    for n in 0.. {
        let digest = blob(&stage, &format!("fine {n}"), &LOCATIONS, Some(&LOCATIONS)).await?;
        bytes.insert(digest.hex()[..2].to_owned());
        if (bytes.contains("00") && bytes.contains("ff") && bytes.contains("9f") && bytes.contains("a0"))
            || n > 3000
        {
            break;
        }
    }
    ensure!(["00", "ff", "9f", "a0"].iter().all(|byte| bytes.contains(*byte)), "{bytes:?}");
    let orphan = blob(&stage, "orphan", &LOCATIONS, None).await?;
    let unplaced = blob(&stage, "unplaced", &LOCATIONS, Some(&["zone-a", "zone-b"])).await?;
    let lost = blob(&stage, "lost", &["zone-a", "zone-b"], Some(&LOCATIONS)).await?;
    let gone = blob(&stage, "gone", &[], Some(&["zone-b"])).await?;
    let gateway = stage.prepared(&json!({}))?;
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

/// A copy of what Quay does not have would be nobody's: heal and backfill leave it alone unless asked.
#[tokio::test]
async fn what_quay_does_not_have_is_not_copied_unless_asked() -> Result<()> {
    let stage = Stage::start().await?;
    let orphan = blob(&stage, "orphan", &["zone-a"], None).await?;
    let known = blob(&stage, "known", &["zone-a"], Some(&["zone-a"])).await?;
    let mut gateway = stage.prepared(&json!({}))?;
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
            if stage.site.zone(zone).has(digest) {
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
        ensure!(!stage.site.zone(zone).has(&orphan), "an orphan was copied into {zone}");
    }
    // An inventory that did not ask the database does not say what Quay has.
    command(&["audit", "--zones-alone", "--output", "json"]).await?;
    let (status, _, said) = command(&["heal", "--findings"]).await?;
    ensure!(status == Some(1) && said.contains("did not read Quay's database"), "{said}");
    command(&["heal", "--findings", "--unknown"]).await?;
    for zone in ["zone-b", "zone-c"] {
        arrives(zone, &orphan).await?;
    }
    Ok(())
}

/// What a registry in order has beside its images: the empty blob, which is a row and no object, and blobs
/// whose manifest was never pushed, in the zone that took them.
#[tokio::test]
async fn a_registry_in_order_has_nothing_wrong() -> Result<()> {
    let stage = Stage::start().await?;
    for n in 0..20 {
        blob(&stage, &format!("fine {n}"), &LOCATIONS, Some(&LOCATIONS)).await?;
    }
    let place = async |row: i32| {
        let insert = format!(
            "INSERT INTO imagestorageplacement (storage_id, location_id)
             SELECT {row}, id FROM imagestoragelocation WHERE name = 'zone-a'"
        );
        stage.tables.run(&insert).await
    };
    place(stage.tables.add_blob(&Digest::EMPTY, true).await?).await?;
    let unfinished = Digest::of(b"unfinished");
    stage.site.zone("zone-a").write(&unfinished, b"unfinished")?;
    place(stage.tables.add_blob(&unfinished, true).await?).await?;
    let gateway = stage.prepared(&json!({}))?;
    let audit = ["audit", "--output", "json", "--min-age", "0s"];
    let output = gateway.command(&audit).await?;
    let printed = String::from_utf8(output.stdout)?;
    ensure!(output.status.code() == Some(0), "{printed}");
    let kinds: Vec<_> = found(&serde_json::from_str(&printed)?).into_iter().map(|[kind, ..]| kind).collect();
    assert_eq!(kinds, ["unfinished", "unfinished"], "in each zone that lacks it: {printed}");
    // Without the right to look at manifests each blob counts as one of theirs.
    stage.tables.run("DROP TABLE manifestblob").await?;
    let output = gateway.command(&audit).await?;
    ensure!(output.status.code() == Some(3), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}
