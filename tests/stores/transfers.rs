//! A server that is suspended or killed during a transfer.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use backends::{Key, Kind, Store, Timeouts};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use real_servers::{PATIENT, StoreProcess};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::build;
use crate::checks::{holds, noise, read};
use crate::gated::Gate;

/// More bytes than sockets and programs buffer, but less than the size above which objects have parts.
const SIZE: usize = 48 << 20;
/// The timeouts during which a server is suspended. A busy machine takes seconds to verify a token.
const STILL: Timeouts = Timeouts {
    connect: Duration::from_secs(10),
    first_byte: Duration::from_secs(15),
    stall: Duration::from_secs(5),
};
/// Longer than all timeouts above on a busy machine.
const BOUND: Duration = Duration::from_secs(300);
/// How long a server may take to drop a request that broke off.
const FORGOTTEN: Duration = Duration::from_secs(1);

/// How long a server that answers again may take until it works again.
const SERVES_AGAIN: Duration = Duration::from_secs(120);
/// How often it is checked whether it works.
const LOOK: Duration = Duration::from_millis(200);

/// Runs the faults during transfers, with the store of an entry in Quay's configuration.
pub(crate) async fn survives(entry: &Value, process: &mut StoreProcess) -> Result<()> {
    let there = write_object(entry).await?;
    survives_with(entry, process, &there).await
}

/// Writes the object that is read during the faults.
pub(crate) async fn write_object(entry: &Value) -> Result<Key> {
    let there = Key::new("transfers/there");
    build(entry.clone(), PATIENT)?.put(&there, &backends::Source::bytes(bytes())).await?;
    Ok(there)
}

fn bytes() -> Bytes {
    noise(20, SIZE)
}

/// Like [`survives`], with the object `there` that [`write_object`] has written. Removes it at the end.
pub(crate) async fn survives_with(entry: &Value, process: &mut StoreProcess, there: &Key) -> Result<()> {
    let store = build(entry.clone(), PATIENT)?;
    let (bytes, new) = (bytes(), Key::new("transfers/new"));
    process_dies_during_a_read(&*store, process, there, &bytes).await.context("restart in mid-read")?;
    process_dies_during_a_put(&*store, process, [there, &new], &bytes).await.context("restart in mid-put")?;
    let still = build(entry.clone(), STILL)?;
    let stores = [&*still, &*store];
    process_is_suspended_during_a_read(stores, process, there, &bytes).await.context("stall in mid-read")?;
    process_is_suspended_during_a_put(stores, process, &new, &bytes).await.context("stall in mid-put")?;
    store.delete(there).await?;
    Ok(())
}

async fn process_dies_during_a_read(
    store: &dyn Store,
    process: &mut StoreProcess,
    key: &Key,
    bytes: &Bytes,
) -> Result<()> {
    let mut body = store.get(key, None).await?.context("it is not there")?.body;
    body.next().await.context("no first piece")??;
    process.stop();
    let rest: backends::Result<Vec<Bytes>> = body.try_collect().await;
    let error = rest.err().context("the body went on without its server")?;
    ensure!(error.kind() == Kind::Unavailable, "{error}");
    let error = store.head(key).await.err().context("a head without a server")?;
    ensure!(error.kind() == Kind::Unavailable, "{error}");
    restarted(store, process, key).await?;
    holds(store, key, bytes).await
}

/// Restarts the server and waits until it returns its objects. It may answer before the servers behind it are
/// ready (SeaweedFS: before its volume server has registered).
async fn restarted(store: &dyn Store, process: &mut StoreProcess, there: &Key) -> Result<()> {
    process.restart().await?;
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

async fn process_dies_during_a_put(
    store: &dyn Store,
    process: &mut StoreProcess,
    [there, key]: [&Key; 2],
    bytes: &Bytes,
) -> Result<()> {
    let (source, mut gate) = Gate::source(bytes);
    let meanwhile = async {
        gate.reached().await;
        restarted(store, process, there).await?;
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

/// The second of the two stores is [`PATIENT`]: it looks at what is there afterwards.
async fn process_is_suspended_during_a_read(
    [store, patient]: [&dyn Store; 2],
    process: &StoreProcess,
    key: &Key,
    bytes: &Bytes,
) -> Result<()> {
    let mut body = store.get(key, None).await?.context("it is not there")?.body;
    body.next().await.context("no first piece")??;
    process.suspend()?;
    let rest: backends::Result<Vec<Bytes>> = timeout(BOUND, body.try_collect()).await?;
    let error = rest.err().context("the body went on without its server")?;
    ensure!(error.kind() == Kind::Timeout, "{error}");
    let error = timeout(BOUND, store.probe()).await?.err().context("a probe without a server")?;
    ensure!(error.kind() == Kind::Timeout, "{error}");
    process.resume()?;
    holds(patient, key, bytes).await
}

/// The second of the two stores is [`PATIENT`]: it looks at what is there afterwards.
async fn process_is_suspended_during_a_put(
    [store, patient]: [&dyn Store; 2],
    process: &StoreProcess,
    key: &Key,
    bytes: &Bytes,
) -> Result<()> {
    let (source, mut gate) = Gate::source(bytes);
    let meanwhile = async {
        gate.reached().await;
        process.suspend()?;
        gate.open();
        anyhow::Ok(())
    };
    let (put, meanwhile) = tokio::join!(timeout(BOUND, store.put(key, &source)), meanwhile);
    meanwhile?;
    let error = put?.err().context("a put without a server")?;
    process.resume()?;
    ensure!(error.kind() == Kind::Timeout, "{error}");
    left_nothing(patient, key, bytes, &error).await?;
    succeeds_now(patient, key, bytes).await
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
