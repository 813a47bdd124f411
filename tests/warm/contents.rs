//! `quay-gateway cache ls`, `verify` and `evict`.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use harness::gateway::Gateway;
use harness::site::LOGIN;
use serde_json::json;

use super::{REPOSITORY, parsed, text, with_index};

/// The file of a blob in the cache.
fn file(gateway: &Gateway, digest: &str) -> PathBuf {
    let hex = digest.trim_start_matches("sha256:");
    gateway.cache_dir().join("sha256").join(&hex[..2]).join(hex)
}

#[tokio::test]
async fn a_wrong_file_is_named_and_removed_and_unused_blobs_are_evicted() -> Result<()> {
    let (_site, gateway, images) = with_index(&json!({})).await?;
    assert!(gateway.command(&["warm", "admin/app:v1"]).await?.status.success());
    let all: Vec<_> =
        images.iter().flat_map(|image| image.blobs()).map(|blob| blob.digest.to_string()).collect();
    let listed = parsed(&gateway.command(&["cache", "ls", "--output", "json"]).await?)?;
    let mut digests: Vec<_> = listed
        .as_array()
        .into_iter()
        .flatten()
        .map(|blob| blob["digest"].as_str().unwrap_or_default().to_owned())
        .collect();
    let mut expected = all.clone();
    digests.sort();
    expected.sort();
    assert_eq!(digests, expected, "{listed:#}");
    assert!(listed[0]["proven"] == true && listed[0]["pinned"] == false, "{listed:#}");
    let right = gateway.command(&["cache", "verify"]).await?;
    assert!(
        right.status.success() && text(&right.stdout).contains("5 blobs are right, 0 are wrong"),
        "{}",
        text(&right.stdout)
    );
    let wrong = &all[1];
    let path = file(&gateway, wrong);
    let mut bytes = std::fs::read(&path)?;
    bytes[7] ^= 1;
    std::fs::write(&path, bytes)?;
    let output = gateway.command(&["cache", "verify", "--output", "json"]).await?;
    let report = parsed(&output)?;
    assert_eq!((output.status.code(), &report["right"]), (Some(3), &4.into()), "{report:#}");
    assert_eq!(report["findings"], json!([{ "digest": wrong, "verdict": "wrong", "error": null }]));
    gateway.logged("a cached blob is wrong: it is removed").await?;
    // Clients get it from a zone again.
    let pulled = gateway.client(LOGIN)?.pull(REPOSITORY, "amd64").await?;
    let again = pulled.iter().find(|blob| blob.digest.to_string() == *wrong).context("it was pulled")?;
    let status = again.cache_status.clone().unwrap_or_default();
    assert!(status.contains("fwd=miss; stored"), "{status}");
    let one = parsed(&gateway.command(&["cache", "evict", &all[0], &all[0], "--output", "json"]).await?)?;
    assert_eq!((&one["evicted"], &one["absent"]), (&1.into(), &1.into()));
    let old = parsed(&gateway.command(&["cache", "evict", "--older-than", "1h", "--output", "json"]).await?)?;
    assert_eq!(old["evicted"], 0);
    let rest = gateway.command(&["cache", "evict", "--all-unpinned"]).await?;
    assert!(text(&rest.stdout).starts_with("4 blobs with "), "{}", text(&rest.stdout));
    assert_eq!(parsed(&gateway.command(&["cache", "ls", "--output", "json"]).await?)?, json!([]));
    Ok(())
}
