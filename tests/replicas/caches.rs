//! Which replica caches what.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use backends::Digest;
use harness::client::Client;
use rustix::process::Signal;
use serde_json::json;

use crate::fixture::{Fixture, HIT, Kind, Trusted};

const TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

crate::behind_each_proxy! {
    each_digest_is_cached_by_one_replica_whatever_its_repository
    a_replica_that_dies_moves_only_its_own_digests
    a_replica_that_stops_gets_no_new_requests
}

async fn each_digest_is_cached_by_one_replica_whatever_its_repository(kind: Kind) -> Result<()> {
    let fixture = Fixture::start(kind).await?;
    let image = fixture.pushed(&["admin/one", "admin/two"]).await?;
    let client = fixture.client()?;
    let mut shares = [0; 3];
    for blob in image.blobs() {
        let first = client.pull_blob("admin/one", &blob.digest).await?;
        ensure!(first.cache_status.as_deref() != Some(HIT), "{} was cached before", blob.digest);
        for repository in ["admin/one", "admin/two"] {
            is_hit(&client, repository, &blob.digest).await?;
        }
        shares[fixture.holder(&blob.digest)?] += 1;
    }
    ensure!(shares.iter().all(|share| (5..=16).contains(share)), "{shares:?}");
    Ok(())
}

async fn a_replica_that_dies_moves_only_its_own_digests(kind: Kind) -> Result<()> {
    let mut fixture = Fixture::start(kind).await?;
    let image = fixture.pushed(&["admin/one"]).await?;
    let client = fixture.client()?;
    let mut held = HashMap::new();
    for blob in image.blobs() {
        client.pull_blob("admin/one", &blob.digest).await?;
        is_hit(&client, "admin/one", &blob.digest).await?;
        held.insert(blob.digest, fixture.holder(&blob.digest)?);
    }

    fixture.gateways[0].kill();
    let mut heirs = [0; 3];
    for (digest, holder) in &held {
        // The proxy may not know yet that the replica is gone.
        let pulled = client.pull_blob("admin/one", digest).await?;
        if *holder != 0 {
            ensure!(pulled.cache_status.as_deref() == Some(HIT), "{digest} moved from replica {holder}");
            ensure!(fixture.holder(digest)? == *holder);
            continue;
        }
        is_hit(&client, "admin/one", digest).await?;
        let holders = fixture.holders(digest);
        ensure!(holders.len() == 2 && holders[0] == 0, "{digest} is cached by {holders:?}");
        heirs[holders[1]] += 1;
    }
    ensure!(heirs[1] > 0 && heirs[2] > 0, "one replica inherited everything: {heirs:?}");

    fixture.gateways[0].spawn().await?;
    let (own, _) = held.iter().find(|(_, holder)| **holder == 0).context("replica 0 held nothing")?;
    let own = *own;
    let before = fixture.accesses(0, &[&own.to_string()]);
    let back = async {
        while fixture.accesses(0, &[&own.to_string()]) == before {
            tokio::time::sleep(POLL).await;
            client.pull_blob("admin/one", &own).await?;
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::time::timeout(TIMEOUT, back).await.context("its digests do not come back")??;
    for digest in held.keys() {
        is_hit(&client, "admin/one", digest).await?;
    }
    Ok(())
}

/// `/readyz` is 503 from SIGTERM on, while the replica still serves.
async fn a_replica_that_stops_gets_no_new_requests(kind: Kind) -> Result<()> {
    let over = json!({ "timeouts": { "lame_duck": "10m" } });
    let fixture = Fixture::with(kind, &over, Trusted::Common).await?;
    let image = fixture.pushed(&["admin/one"]).await?;
    let client = fixture.client()?;
    let blobs: Vec<Digest> = image.blobs().into_iter().map(|blob| blob.digest).collect();
    for digest in &blobs {
        client.pull_blob("admin/one", digest).await?;
        is_hit(&client, "admin/one", digest).await?;
    }
    let own =
        blobs.iter().find(|digest| fixture.holders(digest) == [0]).context("replica 0 holds nothing")?;

    fixture.gateways[0].signal(Signal::TERM)?;
    let moved = async {
        while fixture.holders(own).len() == 1 {
            client.pull_blob("admin/one", own).await?;
            tokio::time::sleep(POLL).await;
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::time::timeout(TIMEOUT, moved).await.context("the replica still gets requests")??;
    ensure!(fixture.gateways[0].metrics().await.is_ok(), "the replica has ended");
    for digest in blobs.iter().filter(|digest| fixture.holders(digest) == [0]) {
        client.pull_blob("admin/one", digest).await?;
        is_hit(&client, "admin/one", digest).await?;
        ensure!(fixture.holders(digest).len() == 2, "the replica still gets requests for {digest}");
    }
    Ok(())
}

/// Pulls a blob, which must be in a cache.
async fn is_hit(client: &Client, repository: &str, digest: &Digest) -> Result<()> {
    let status = client.pull_blob(repository, digest).await?.cache_status;
    ensure!(status.as_deref() == Some(HIT), "{repository}: {digest}: {status:?}");
    Ok(())
}
