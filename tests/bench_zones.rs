//! `quay-gateway bench zones`: the read paths compared, and the messages if one of them fails.

use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::fault::BodyFault;
use harness::gateway::Gateway;
use harness::image::{Image, Manifest, Spec};
use harness::port::Port;
use harness::quay::Options;
use harness::site::{LOGIN, PASSWORD, Site, USER, ZONES};
use http::Method;
use serde_json::Value;

const REPOSITORY: &str = "admin/app";
const IMAGE: &str = "admin/app:v1";
/// The sizes of a small and a medium layer. The config is a third blob.
const LAYERS: &[u64] = &[20_000, 2_000_000];

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn parsed(output: &Output) -> Result<Value> {
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{}\n{}", text(&output.stdout), text(&output.stderr)))
}

/// A site with an image in every zone, and a running gateway.
async fn with_image(zones: &[(&str, Duration)]) -> Result<(Site, Gateway, Image)> {
    let site = Site::with(zones, Options::default())?;
    let gateway = site.gateway(&serde_json::json!({})).await?;
    let image = Spec::layers(1, LAYERS).build()?;
    gateway.client(LOGIN)?.push(REPOSITORY, "v1", &image).await?;
    site.quay.record().clear();
    for blob in image.blobs() {
        for zone in &site.zones {
            zone.write(&blob.digest, &blob.bytes()?)?;
        }
    }
    std::fs::write(gateway.dir().join("password"), format!("{PASSWORD}\n"))?;
    Ok((site, gateway, image))
}

/// Waits until no copy is pending.
async fn settled(gateway: &Gateway) -> Result<()> {
    for _ in 0..1200 {
        let status = gateway.status().await?;
        let lanes = status["copies"].as_array().cloned().unwrap_or_default();
        if !lanes.is_empty() && lanes.iter().all(|lane| lane["waiting"] == 0) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    anyhow::bail!("copies are still owed")
}

/// Runs the command as the user who may read.
async fn bench(gateway: &Gateway, more: &[&str]) -> Result<Output> {
    let password = gateway.dir().join("password");
    let password = password.to_str().context("a path")?;
    let mut arguments = vec!["bench", "zones", "--username", USER, "--password-file", password];
    arguments.extend_from_slice(more);
    gateway.command(&arguments).await
}

fn rows<'a>(report: &'a Value, path: &str, zone: Option<&str>) -> Vec<&'a Value> {
    let rows = report["rows"].as_array().into_iter().flatten();
    rows.filter(|row| row["path"] == path && row["zone"].as_str() == zone).collect()
}

/// Checks that this many reads of each class were correct, and that their times are in order.
fn all_right(rows: &[&Value], reads: u64) -> Result<()> {
    let classes: Vec<_> = rows.iter().map(|row| row["class"].as_str().unwrap_or_default()).collect();
    ensure!(classes == ["small", "medium"], "{classes:?}");
    for row in rows {
        ensure!(row["right"] == reads && row["reads"] == reads, "{row:#}");
        let first = &row["first_byte_ms"];
        let at: Vec<_> =
            ["min", "p50", "p95", "max"].map(|at| first[at].as_f64()).into_iter().flatten().collect();
        ensure!(at.len() == 4 && at.is_sorted() && at[0] > 0.0, "{row:#}");
        ensure!(row["whole_ms"]["max"].as_f64() >= Some(at[3]), "{row:#}");
        ensure!(row["mb_per_s"].as_f64().is_some_and(|rate| rate > 0.0), "{row:#}");
    }
    Ok(())
}

#[tokio::test]
async fn every_read_path_has_rows_and_a_report() -> Result<()> {
    let (site, gateway, image) = with_image(&ZONES).await?;
    settled(&gateway).await?;
    let keys = || site.zones.iter().map(|zone| zone.keys()).collect::<Result<Vec<_>, _>>();
    let before = keys()?;
    let folder = gateway.dir().join("report");
    let to = folder.to_str().context("a path")?;
    let arguments = ["--image", IMAGE, "--reads", "6", "--at-once", "2", "--output", "json", "--report", to];
    let output = bench(&gateway, &arguments).await?;
    let report = parsed(&output)?;
    assert!(output.status.success() && output.stderr.is_empty(), "{report:#}\n{}", text(&output.stderr));
    for (name, _) in ZONES {
        all_right(&rows(&report, "zone", Some(name)), 6)?;
    }
    all_right(&rows(&report, "registry", None), 6)?;
    // There are two small blobs, so of six reads four are first reads.
    let (first, later) = (rows(&report, "gateway-first", None), rows(&report, "gateway-later", None));
    let counts = |rows: &[&Value]| rows.iter().map(|row| row["right"].clone()).collect::<Vec<_>>();
    assert_eq!((counts(&first), counts(&later)), (vec![4.into(), 2.into()], vec![2.into(), 4.into()]));
    for row in &later {
        assert_eq!(row["cache_hits"], row["right"], "{row:#}");
        assert!(row["first_byte_ratio"].is_f64() && row["mb_per_s_ratio"].is_f64(), "{row:#}");
    }
    assert_eq!(report["blobs"].as_array().map(Vec::len), Some(image.blobs().len()));
    assert_eq!((&report["passed"], &report["failures"]), (&true.into(), &serde_json::json!([])));
    assert!(report["notes"].to_string().contains("is large (over 16 MiB)"), "{}", report["notes"]);
    // One token was used for all reads, and nothing was written to a zone.
    assert_eq!(site.quay.record().count(&Method::GET, "/v2/auth"), 1);
    assert_eq!(keys()?, before);
    let written: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("report.json"))?)?;
    assert_eq!(written, report);
    let lines =
        |name: &str| Ok::<_, std::io::Error>(std::fs::read_to_string(folder.join(name))?.lines().count());
    assert_eq!((lines("results.csv")?, lines("summary.csv")?), (1 + 5 * 2 * 6, 1 + 6 * 2));
    let results = std::fs::read_to_string(folder.join("results.csv"))?;
    assert!(results.contains("quay-gateway; hit") && !results.contains("Signature"), "{results}");
    Ok(())
}

#[tokio::test]
async fn a_dead_and_a_lying_zone_are_errors_and_the_others_are_measured() -> Result<()> {
    let (site, gateway, image) = with_image(&ZONES.map(|(name, _)| (name, Duration::ZERO))).await?;
    site.zone("zone-b").proxy().down().await;
    site.zone("zone-c").proxy().set(|faults| faults.body = Some(BodyFault::FlipAt(7)));
    site.zone("zone-a").delete(&image.layers[1].digest)?;
    let output = bench(&gateway, &["--image", IMAGE, "--reads", "8", "--output", "json"]).await?;
    let report = parsed(&output)?;
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    let dead = rows(&report, "zone", Some("zone-b"));
    assert!(dead.iter().all(|row| row["right"] == 0 && row["whole_ms"].is_null()), "{dead:#?}");
    assert!(dead.iter().any(|row| row["failed"].as_u64() >= Some(1)), "{dead:#?}");
    assert!(
        report["notes"].to_string().contains("zone-b was not used any more after 5 failures"),
        "{report:#}"
    );
    for row in rows(&report, "zone", Some("zone-c")) {
        assert_eq!(
            (&row["wrong_bytes"], &row["right"], &row["mb_per_s"]),
            (&8.into(), &0.into(), &Value::Null)
        );
    }
    let home = rows(&report, "zone", Some("zone-a"));
    assert_eq!((&home[0]["right"], &home[1]["absent"], &home[1]["right"]), (&8.into(), &8.into(), &0.into()));
    let failed: Vec<_> =
        report["failures"].as_array().into_iter().flatten().map(|one| &one["zone"]).collect();
    assert!(failed.contains(&&"zone-b".into()) && failed.contains(&&"zone-c".into()), "{report:#}");
    // Quay knows only the copy at home, which is deleted. The gateway's cache has the rest.
    assert_eq!(rows(&report, "registry", None)[0]["right"], 8);
    let again = bench(&gateway, &["--image", IMAGE, "--reads", "2"]).await?;
    let printed = text(&again.stdout);
    for wanted in ["\nzone-b: ", "wrong bytes", "absent", "gateway, first", "of Quay"] {
        assert!(printed.contains(wanted), "{wanted}\n{printed}");
    }
    assert!(again.stderr.is_empty() && !again.stdout.contains(&0x1b), "{}", text(&again.stderr));
    Ok(())
}

/// Checks that the command failed with these words in one line, and measured nothing.
fn said(output: &Output, wanted: &[&str]) {
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{said}");
    for wanted in wanted {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn a_failed_measurement_names_the_cause() -> Result<()> {
    let (site, mut gateway, image) = with_image(&[("zone-a", Duration::ZERO)]).await?;
    said(
        &bench(&gateway, &["--image", "admin/app:v2"]).await?,
        &["there is no image admin/app:v2", "check its tags"],
    );
    let nobody = gateway.command(&["bench", "zones", "--image", IMAGE]).await?;
    said(&nobody, &["nobody (no account is given) may not read admin/app", "--username"]);
    let other = bench(&gateway, &["--image", "other.corp:5000/admin/app:v1"]).await?;
    said(&other, &["names a registry that is not the configured one"]);
    // An image whose blobs are not in the registry.
    let foreign =
        r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    let empty = Manifest::new("application/vnd.oci.image.index.v1+json", foreign);
    gateway.client(LOGIN)?.push_manifest(REPOSITORY, "empty", &empty).await?;
    said(
        &bench(&gateway, &["--image", "admin/app:empty"]).await?,
        &["the registry stores no blob of these images itself"],
    );
    // The index of an image works like the image.
    gateway.client(LOGIN)?.push_manifest(REPOSITORY, "index", &Manifest::index(&[image])).await?;
    let named = format!("{}/{REPOSITORY}:index", gateway.hostname());
    let output = bench(&gateway, &["--image", &named, "--reads", "1"]).await?;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let nowhere = Port::free()?;
    let address = nowhere.address().to_string();
    let away = bench(&gateway, &["--image", IMAGE, "--gateway", &address]).await?;
    said(&away, &["the gateway does not answer at", &address, "start it with `quay-gateway run`"]);
    gateway.kill();
    said(
        &bench(&gateway, &["--image", IMAGE]).await?,
        &["the gateway does not answer at", "Connection refused"],
    );
    // A wrong password is sent once, however many requests need it.
    std::fs::write(gateway.dir().join("password"), "hunter2")?;
    let before = site.quay.record().count(&Method::GET, "/v2/auth");
    let wrong = bench(&gateway, &["--image", IMAGE, "--image", "admin/other:v1"]).await?;
    said(&wrong, &["no token for admin", "the password is wrong; it is not tried again"]);
    assert_eq!(site.quay.record().count(&Method::GET, "/v2/auth"), before + 1);
    site.quay.down().await;
    said(&bench(&gateway, &["--image", IMAGE]).await?, &["the registry does not answer at registry.url"]);
    Ok(())
}
