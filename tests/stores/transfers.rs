//! A server that stands still or goes away in the middle of a transfer.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use backends::{Key, Kind, Store, Timeouts};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;
use tests::real::Front;
use tokio::time::{Instant, sleep, timeout};

use crate::build;
use crate::checks::{holds, noise, read};
use crate::gated::Gate;

/// More than sockets and programs hold on the way, less than what is cut into parts.
const SIZE: usize = 48 << 20;
/// A server that stands still is given up after 2 s in mid-body, and 5 s before (a busy machine takes
/// 2 s to have a token proven); 30 s if it has the whole of a body.
const STILL: Timeouts = Timeouts {
    connect: Duration::from_secs(2),
    first_byte: Duration::from_secs(5),
    stall: Duration::from_secs(2),
};
/// Longer than any of the bounds above, with what a busy machine adds.
const BOUND: Duration = Duration::from_secs(60);
/// A source waits while a server starts again.
const PATIENT: Timeouts = Timeouts {
    connect: Duration::from_secs(2),
    first_byte: Duration::from_secs(10),
    stall: Duration::from_secs(30),
};
/// How long a server may take to forget a request that broke off.
const FORGOTTEN: Duration = Duration::from_secs(1);

/// How long a server that answers again may want until it serves again.
const SERVES_AGAIN: Duration = Duration::from_secs(20);
/// Between two looks whether it does.
const LOOK: Duration = Duration::from_millis(200);

/// Faults in mid-transfer, at the store that Quay's file describes.
pub(crate) async fn survives(entry: &Value, front: &mut Front) -> Result<()> {
    let there = brought(entry).await?;
    survives_with(entry, front, &there).await
}

/// Writes what is read while the server is disturbed.
pub(crate) async fn brought(entry: &Value) -> Result<Key> {
    let there = Key::new("transfers/there");
    build(entry.clone(), PATIENT)?.put(&there, &backends::Source::bytes(bytes())).await?;
    Ok(there)
}

fn bytes() -> Bytes {
    noise(20, SIZE)
}

/// As [`survives`], where `there` was [`brought`] already; removes it.
pub(crate) async fn survives_with(entry: &Value, front: &mut Front, there: &Key) -> Result<()> {
    let store = build(entry.clone(), PATIENT)?;
    let (bytes, new) = (bytes(), Key::new("transfers/new"));
    goes_away_in_mid_read(&*store, front, there, &bytes).await.context("restart in mid-read")?;
    goes_away_in_mid_put(&*store, front, [there, &new], &bytes).await.context("restart in mid-put")?;
    let store = build(entry.clone(), STILL)?;
    stands_still_in_mid_read(&*store, front, there, &bytes).await.context("stall in mid-read")?;
    stands_still_in_mid_put(&*store, front, &new, &bytes).await.context("stall in mid-put")?;
    store.delete(there).await?;
    Ok(())
}

async fn goes_away_in_mid_read(store: &dyn Store, front: &mut Front, key: &Key, bytes: &Bytes) -> Result<()> {
    let mut body = store.get(key, None).await?.context("it is not there")?.body;
    body.next().await.context("no first piece")??;
    front.stop();
    let rest: backends::Result<Vec<Bytes>> = body.try_collect().await;
    let error = rest.err().context("the body went on without its server")?;
    ensure!(error.kind() == Kind::Unavailable, "{error}");
    let error = store.head(key).await.err().context("a head without a server")?;
    ensure!(error.kind() == Kind::Unavailable, "{error}");
    restarted(store, front, key).await?;
    holds(store, key, bytes).await
}

/// Restarts it, and waits until it gives what it had: it may answer before all that stands behind it is
/// there again (SeaweedFS: before its volume server has registered).
async fn restarted(store: &dyn Store, front: &mut Front, there: &Key) -> Result<()> {
    front.restart().await?;
    let end = Instant::now() + SERVES_AGAIN;
    loop {
        match read(store, there).await {
            Err(error) if Instant::now() < end && is_unavailable(&error) => sleep(LOOK).await,
            read => return read.map(drop),
        }
    }
}

fn is_unavailable(error: &anyhow::Error) -> bool {
    error.downcast_ref::<backends::Error>().is_some_and(|error| error.kind() == Kind::Unavailable)
}

async fn goes_away_in_mid_put(
    store: &dyn Store,
    front: &mut Front,
    [there, key]: [&Key; 2],
    bytes: &Bytes,
) -> Result<()> {
    let (source, mut gate) = Gate::source(bytes);
    let meanwhile = async {
        gate.reached().await;
        restarted(store, front, there).await?;
        gate.open();
        anyhow::Ok(())
    };
    let (put, meanwhile) = tokio::join!(store.put(key, &source), meanwhile);
    meanwhile?;
    match put {
        Ok(()) => holds(store, key, bytes).await?,
        Err(error) => {
            ensure!(error.kind() == Kind::Unavailable, "{error}");
            left_nothing(store, key, bytes, &error).await?;
        }
    }
    succeeds_now(store, key, bytes).await
}

async fn stands_still_in_mid_read(store: &dyn Store, front: &Front, key: &Key, bytes: &Bytes) -> Result<()> {
    let mut body = store.get(key, None).await?.context("it is not there")?.body;
    body.next().await.context("no first piece")??;
    front.suspend()?;
    let rest: backends::Result<Vec<Bytes>> = timeout(BOUND, body.try_collect()).await?;
    let error = rest.err().context("the body went on without its server")?;
    ensure!(error.kind() == Kind::Timeout, "{error}");
    let error = timeout(BOUND, store.probe()).await?.err().context("a probe without a server")?;
    ensure!(error.kind() == Kind::Timeout, "{error}");
    front.resume()?;
    holds(store, key, bytes).await
}

async fn stands_still_in_mid_put(store: &dyn Store, front: &Front, key: &Key, bytes: &Bytes) -> Result<()> {
    let (source, mut gate) = Gate::source(bytes);
    let meanwhile = async {
        gate.reached().await;
        front.suspend()?;
        gate.open();
        anyhow::Ok(())
    };
    let (put, meanwhile) = tokio::join!(timeout(BOUND, store.put(key, &source)), meanwhile);
    meanwhile?;
    let error = put?.err().context("a put without a server")?;
    front.resume()?;
    ensure!(error.kind() == Kind::Timeout, "{error}");
    left_nothing(store, key, bytes, &error).await?;
    succeeds_now(store, key, bytes).await
}

/// Nothing of a put that failed with `error` can be seen, neither at once nor after the server has noticed that its
/// client is gone. If the error says that the outcome is unknown, the whole object may be there.
async fn left_nothing(store: &dyn Store, key: &Key, bytes: &Bytes, error: &backends::Error) -> Result<()> {
    for pause in [Duration::ZERO, FORGOTTEN] {
        sleep(pause).await;
        let seen = read(store, key).await?;
        if error.has_unknown_outcome() && seen.as_ref() == Some(bytes) {
            continue;
        }
        let seen = seen.map(|bytes| bytes.len());
        ensure!(seen.is_none(), "{key}: {seen:?} bytes are visible of a put that failed: {error:?}");
        let listed: Vec<_> = store.list(key.as_str()).try_collect().await?;
        ensure!(listed.is_empty(), "{listed:?} are listed after a put that failed: {error:?}");
    }
    Ok(())
}

async fn succeeds_now(store: &dyn Store, key: &Key, bytes: &Bytes) -> Result<()> {
    store.put(key, &backends::Source::bytes(bytes.clone())).await?;
    holds(store, key, bytes).await?;
    Ok(store.delete(key).await?)
}
