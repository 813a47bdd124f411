//! `quay-gateway cache export` and `import`, and what skopeo makes of the layout.

use std::time::Duration;

use anyhow::Result;
use harness::site::{LOGIN, PASSWORD, Site, USER};
use real_servers::Program;
use serde_json::{Value, json};

use super::{REPOSITORY, account, parsed, text, with_index};

const BOUND: Duration = Duration::from_secs(60);

#[tokio::test]
async fn images_are_carried_to_another_site() -> Result<()> {
    let (_site, gateway, images) = with_index(&json!({})).await?;
    let folder = tempfile::tempdir()?;
    let layout = folder.path().join("layout");
    let to = layout.to_str().unwrap_or_default();
    let output =
        gateway.command(&["cache", "export", "admin/app:v1", "--to", to, "--output", "json"]).await?;
    let report = parsed(&output)?;
    assert_eq!((&report["manifests"], &report["blobs"]), (&3.into(), &5.into()), "{report:#}");
    let again = parsed(
        &gateway.command(&["cache", "export", "admin/app:v1", "--to", to, "--output", "json"]).await?,
    )?;
    assert_eq!(again["there_before"], 5, "{again:#}");
    // Real tools take it.
    let named = format!("oci:{to}:admin/app:v1");
    let skopeo = || Program::find("skopeo").map(|program| program.arg("--insecure-policy"));
    let raw = skopeo()?.args(["inspect", "--raw", &named]).run(BOUND).await?;
    let index: Value = serde_json::from_str(&raw)?;
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2));

    let there = Site::start()?;
    let edge = there.gateway_with(&account(), &[("password", PASSWORD)]).await?;
    let imported = edge.command(&["cache", "import", to, "--output", "json"]).await?;
    let report = parsed(&imported)?;
    assert!(imported.status.success(), "{report:#}\n{}", text(&imported.stderr));
    assert_eq!((&report["imported"], &report["manifests"]), (&5.into(), &3.into()), "{report:#}");
    let again = parsed(&edge.command(&["cache", "import", to, "--output", "json"]).await?)?;
    assert_eq!((&again["imported"], &again["there_before"]), (&0.into(), &5.into()), "{again:#}");
    // An import gives nobody a right to read.
    let layer = images[0].blobs()[1].digest;
    let client = edge.client(LOGIN)?;
    let refused =
        client.pull_blob(REPOSITORY, &layer).await.expect_err("the registry does not know it").to_string();
    assert!(refused.contains("GET blob: 4"), "{refused}");
    // Once the registry has the image, its blobs come from the cache.
    let trusted = folder.path().join("trusted");
    std::fs::create_dir(&trusted)?;
    std::fs::copy(edge.authority_file(), trusted.join("ca.crt"))?;
    let copy = skopeo()?.args(["copy", "--all", "--preserve-digests"]);
    let copy = copy.arg(format!("--dest-cert-dir={}", trusted.display()));
    let copy = copy.arg(format!("--dest-creds={USER}:{PASSWORD}"));
    copy.args([&named, &format!("docker://{}/admin/app:v1", edge.hostname())]).run(BOUND).await?;
    let pulled = edge.client(LOGIN)?.pull_blob(REPOSITORY, &layer).await?;
    assert_eq!(pulled.cache_status.as_deref(), Some("quay-gateway; hit"));
    Ok(())
}

#[tokio::test]
async fn nothing_unverified_enters_and_nothing_foreign_is_replaced() -> Result<()> {
    let (_site, gateway, images) = with_index(&json!({})).await?;
    let folder = tempfile::tempdir()?;
    let layout = folder.path().join("layout");
    let to = layout.to_str().unwrap_or_default();
    assert!(gateway.command(&["cache", "export", "admin/app:amd64", "--to", to]).await?.status.success());
    assert!(gateway.command(&["cache", "evict", "--all-unpinned"]).await?.status.success());
    let layer = |at: usize| layout.join("blobs/sha256").join(images[0].blobs()[at].digest.hex());
    let mut bytes = std::fs::read(layer(1))?;
    bytes[3] ^= 1;
    std::fs::write(layer(1), &bytes)?;
    std::fs::remove_file(layer(2))?;
    let output = gateway.command(&["cache", "import", to, "--output", "json"]).await?;
    let report = parsed(&output)?;
    assert_eq!((output.status.code(), &report["imported"]), (Some(3), &1.into()), "{report:#}");
    assert_eq!(report["missing"], json!([images[0].blobs()[2].digest.to_string()]));
    let failed = report["failed"][0].as_str().unwrap_or_default();
    assert!(
        failed.contains(&images[0].blobs()[1].digest.to_string()) && failed.contains("not taken"),
        "{failed}"
    );
    let held = parsed(&gateway.command(&["cache", "ls", "--output", "json"]).await?)?;
    assert_eq!(held.as_array().map(Vec::len), Some(1), "{held:#}");
    // The export does not replace the wrong file either.
    let again = gateway.command(&["cache", "export", "admin/app:amd64", "--to", to]).await?;
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("It is not replaced"), "{}", text(&again.stderr));
    assert_eq!(std::fs::read(layer(1))?, bytes);
    let foreign = gateway.dir().join("state");
    let foreign = gateway
        .command(&["cache", "export", "admin/app:amd64", "--to", foreign.to_str().unwrap_or_default()])
        .await?;
    assert!(text(&foreign.stderr).contains("is no OCI layout"), "{}", text(&foreign.stderr));
    Ok(())
}
