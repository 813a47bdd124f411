//! Whether a blob is still wanted, and how it is fetched if only the registry has it.

use anyhow::{Result, ensure};
use backends::Digest;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use harness::image::{Image, Spec};
use harness::quay::{Delivery, Options};
use harness::site::{LOGIN, Site, ZONES};
use replication::{Placed, Wanted};
use serde_json::json;

use super::fixture::{Fixture, job};

/// A configuration without the database.
fn account_alone() -> serde_json::Value {
    json!({"replication": {"placements": false, "database": null}})
}

/// An image in the registry.
async fn pushed(site: &Site, repository: &str) -> Result<Image> {
    let image = Spec::layers(1, &[700_000]).build()?;
    harness::client::Client::new(&site.quay.url(), &[], LOGIN)?.push(repository, "v1", &image).await?;
    Ok(image)
}

#[tokio::test]
async fn the_registry_reports_the_repositories_of_a_blob() -> Result<()> {
    let fixture = Fixture::start().await?;
    let image = pushed(&fixture.site, "admin/one").await?;
    fixture.site.quay.add_repository("admin/two", false);
    fixture.site.quay.add_repository("others/private", false);
    let (authority, _files) = fixture.authority(&account_alone()).await?;
    let digest = image.layers[0].digest;
    let wanted = async |digest: Digest, repositories: &[&str]| {
        anyhow::Ok(authority.wanted(&job(digest, "zone-b", repositories).await?).await)
    };
    ensure!(wanted(digest, &["admin/one", "admin/two"]).await? == Wanted::Yes);
    ensure!(wanted(digest, &["admin/two"]).await? == Wanted::No);
    ensure!(wanted(Digest::of(b"nowhere"), &["admin/one", "admin/two"]).await? == Wanted::No);
    for unsaid in [&["others/private"][..], &["admin/two", "others/private"], &[]] {
        let said = wanted(digest, unsaid).await?;
        ensure!(matches!(&said, Wanted::Unknown(why) if !why.is_empty()), "{unsaid:?}: {said:?}");
    }
    fixture.site.quay.set(|faults| faults.broken = true);
    ensure!(matches!(wanted(digest, &["admin/one"]).await?, Wanted::Unknown(_)));
    // In this configuration the gateway finds the blob's key without placements.
    let (job, zone) = (job(digest, "zone-a", &["admin/one"]).await?, fixture.zone("zone-a")?);
    ensure!(!authority.must_prove(&job, &zone).await?);
    ensure!(authority.placed(&job, &zone).await? == Placed::Kept);
    Ok(())
}

#[tokio::test]
async fn the_database_alone_decides() -> Result<()> {
    let fixture = Fixture::start().await?;
    let (authority, _files) = fixture.authority(&json!({"registry": {"account": null}})).await?;
    let digest = Digest::of(b"row");
    let job = job(digest, "zone-b", &[]).await?;
    ensure!(authority.wanted(&job).await == Wanted::No);
    fixture.tables.add_blob(&digest, true).await?;
    ensure!(authority.wanted(&job).await == Wanted::Yes);
    // Nobody could fetch the blob.
    ensure!(authority.fetch(&job).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_blob_that_only_the_registry_has_is_fetched_and_verified() -> Result<()> {
    let mut fixture = Fixture::start().await?;
    for delivery in [Delivery::Redirect, Delivery::Stream, Delivery::StorageProxy] {
        fixture.site = Site::with(
            &ZONES.map(|(name, _)| (name, std::time::Duration::ZERO)),
            Options { delivery, ..Options::default() },
        )?;
        let image = pushed(&fixture.site, "admin/one").await?;
        let (authority, files) = fixture.authority(&account_alone()).await?;
        let blob = &image.layers[0];
        let job = job(blob.digest, "zone-b", &["admin/none", "admin/one"]).await?;
        fixture.site.quay.add_repository("admin/none", false);
        let source = authority.fetch(&job).await?.expect("a source");
        for range in [0..source.size(), 1..2, source.size() - 5..source.size()] {
            let parts: Vec<Bytes> = source.open(range.clone()).await?.try_collect().await?;
            let within = usize::try_from(range.start)?..usize::try_from(range.end)?;
            ensure!(parts.concat() == blob.bytes()?[within], "{delivery:?} {range:?}");
        }
        let left = || {
            anyhow::Ok(
                std::fs::read_dir(files.dir().join("state"))?
                    .filter_map(Result::ok)
                    .filter(|entry| entry.file_name().to_string_lossy().contains("fetched"))
                    .count(),
            )
        };
        ensure!(left()? == 0, "the file has no name");

        fixture.site.zone("zone-a").corrupt(&blob.digest, 1)?;
        let wrong = authority.fetch(&job).await?;
        ensure!(wrong.is_none(), "{delivery:?}: wrong bytes were accepted");
        fixture.site.quay.unlink("admin/one", &blob.digest);
        ensure!(authority.fetch(&job).await?.is_none(), "nobody has the blob");
    }
    Ok(())
}

#[tokio::test]
async fn a_blob_that_is_too_large_is_not_fetched() -> Result<()> {
    let fixture = Fixture::start().await?;
    let image = pushed(&fixture.site, "admin/one").await?;
    let mut over = account_alone();
    over["replication"]["fetch_max"] = "100KB".into();
    let (authority, _files) = fixture.authority(&over).await?;
    let job = job(image.layers[0].digest, "zone-b", &["admin/one"]).await?;
    ensure!(authority.fetch(&job).await?.is_none(), "the blob is too large");
    Ok(())
}
