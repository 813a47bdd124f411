//! Tests of writes.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use futures_util::{StreamExt, TryStreamExt};
use tokio::time::{sleep, timeout};

use super::broken::{Break, broken};
use super::{CaseResult, Suite, ensure, fails, noise, same};
use crate::{Digest, Key, Kind, Result, Source};

/// How long a `put` runs before it is cancelled, so that bytes are in flight.
const UNTIL_GIVEN_UP: Duration = Duration::from_millis(300);

/// How long a store may take until a cancelled `put` has no more effect.
const UNTIL_FORGOTTEN: Duration = Duration::from_secs(1);

/// Concurrent puts of one key.
const AT_ONCE: u64 = 8;

pub(super) async fn overwriting(suite: &Suite) -> CaseResult {
    let key = suite.key("overwritten");
    for size in [1000, 10, 0, 100_000, 100_000] {
        let bytes = noise(fastrand::u64(..), size);
        suite.put(&key, &bytes).await?;
        suite.holds(&key, &bytes).await?;
    }
    suite.remove(&key).await
}

/// A reader of an object that is being overwritten gets the old bytes, the new bytes or an error, never a
/// mixture. If both versions have the same bytes, as blobs do, the reader never gets other bytes.
pub(super) async fn overwriting_while_read(suite: &Suite) -> CaseResult {
    let key = suite.key("read/meanwhile");
    let size = 9_000_000;
    let (old, new) = (noise(10, size), noise(11, size));
    for written in [&old, &new] {
        suite.put(&key, &old).await?;
        let object = suite.store.get(&key, None).await.map_err(|error| error.to_string())?;
        let mut body = object.ok_or("it is gone")?.body;
        let first = body.next().await.ok_or("no first piece")?.map_err(|error| error.to_string())?;
        suite.put(&key, written).await?;
        let rest: Result<Vec<Bytes>> = body.try_collect().await;
        if let Ok(rest) = rest {
            let read = Bytes::from([&[first], &rest[..]].concat().concat());
            ensure(read == old || read == *written, || "a mixture of old and new".to_owned())?;
        }
        suite.holds(&key, written).await?;
    }
    suite.remove(&key).await
}

/// Many concurrent writers write the same bytes, as happens with blobs, or different bytes. The result is
/// never a mixture.
pub(super) async fn concurrent_puts(suite: &Suite) -> CaseResult {
    let key = suite.key("contended");
    for size in suite.two_sizes() {
        let same_bytes = noise(7, size);
        for written in join_all((0..AT_ONCE).map(|_| contended_put(suite, &key, &same_bytes))).await {
            written?;
        }
        suite.holds(&key, &same_bytes).await?;
    }
    let various: Vec<Bytes> = (0..AT_ONCE).map(|seed| noise(seed, 200_000 + seed as usize)).collect();
    for written in join_all(various.iter().map(|bytes| contended_put(suite, &key, bytes))).await {
        written?;
    }
    let read = suite.read(&key, None).await.map_err(|error| error.to_string())?;
    ensure(read.is_some_and(|read| various.contains(&read)), || "a mixture of what was written".to_owned())?;
    suite.remove(&key).await
}

/// A put that may be displaced by other writers of the same key. A store may ask the loser to try again, as Swift does
/// with 202 if the other write is newer by its clocks. Each repetition is newer than all writes to which it lost, so
/// that [`AT_ONCE`] writers end.
async fn contended_put(suite: &Suite, key: &Key, bytes: &Bytes) -> CaseResult {
    let source = Source::bytes(bytes.clone());
    let mut repetitions = 0;
    loop {
        match suite.store.put(key, &source).await {
            Err(error) if matches!(error.kind(), Kind::Throttled { .. }) && repetitions < AT_ONCE => {
                repetitions += 1;
            }
            written => return written.map_err(|error| error.to_string()),
        }
    }
}

/// Bytes that do not match the digest are refused and never become visible, even if the key has an older
/// object.
pub(super) async fn wrong_bytes(suite: &Suite) -> CaseResult {
    for size in suite.two_sizes() {
        let bytes = noise(3, size);
        for at in [0, size / 2, size - 1] {
            let mut wrong = BytesMut::from(&bytes[..]);
            wrong[at] ^= 1;
            let source = Source::new(size as u64, Digest::of(&bytes), Arc::new(wrong.freeze()));
            refused(suite, &source, &[Kind::Corrupt])
                .await
                .map_err(|what| format!("byte {at} of {size}: {what}"))?;
        }
    }
    let empty = Source::new(0, Digest::of(b"x"), Arc::new(Bytes::new()));
    refused(suite, &empty, &[Kind::Corrupt]).await
}

/// The source cannot be opened, fails, ends early or has wrong bytes.
pub(super) async fn broken_sources(suite: &Suite) -> CaseResult {
    for size in suite.two_sizes() {
        let half = size as u64 / 2;
        for (how, kinds) in [
            (Break::Shut, &[Kind::Source][..]),
            (Break::Cut(half), &[Kind::Source]),
            (Break::Cut(size as u64 - 1), &[Kind::Source]),
            (Break::Short, &[Kind::Corrupt, Kind::Source]),
            (Break::Flip(half), &[Kind::Corrupt]),
        ] {
            let source = broken(size, how);
            refused(suite, &source, kinds).await.map_err(|what| format!("{how:?} of {size}: {what}"))?;
        }
    }
    Ok(())
}

async fn refused(suite: &Suite, source: &Source, kinds: &[Kind]) -> CaseResult {
    let fresh = suite.key("refused");
    fails("put", suite.store.put(&fresh, source).await, kinds)?;
    suite.is_absent(&fresh).await?;
    same("the listing", &suite.found("refused").await?, &vec![])?;
    let (older, bytes) = (suite.key("older"), noise(4, 4321));
    suite.put(&older, &bytes).await?;
    fails("put over an older object", suite.store.put(&older, source).await, kinds)?;
    suite.holds(&older, &bytes).await?;
    suite.remove(&older).await
}

/// A put that fails at its very end keeps the older object, even a large one.
pub(super) async fn failed_puts_over_another(suite: &Suite) -> CaseResult {
    let key = suite.key("kept");
    let older = noise(14, suite.two_sizes().into_iter().max().unwrap_or_default());
    suite.put(&key, &older).await?;
    for size in suite.two_sizes() {
        let last = size as u64 - 1;
        for how in [Break::Flip(last), Break::Stall(last)] {
            let put = timeout(UNTIL_GIVEN_UP, suite.store.put(&key, &broken(size, how))).await;
            ensure(!matches!(put, Ok(Ok(()))), || format!("{how:?} of {size}: it was written"))?;
        }
    }
    sleep(UNTIL_FORGOTTEN).await;
    suite.holds(&key, &older).await?;
    suite.remove(&key).await
}

/// A server-side copy is not verified, so it never overwrites an object.
pub(super) async fn copies_over(suite: &Suite) -> CaseResult {
    let (from, to) = (suite.key("copied/from"), suite.key("copied/to"));
    let Some(there) = suite.store.copy_source(&from) else { return Ok(()) };
    for size in suite.two_sizes() {
        let (bytes, older) = (noise(12, size), noise(13, 1234));
        suite.put(&from, &bytes).await?;
        for lies in [&older, &Bytes::new()] {
            suite.put(&to, lies).await?;
            let copied = suite.store.copy(&to, &there, size as u64).await;
            same("a copy over an object", &copied.map_err(|error| error.to_string())?, &false)?;
            suite.holds(&to, lies).await?;
        }
        suite.remove(&to).await?;
        let copied = suite.store.copy(&to, &there, size as u64).await.map_err(|error| error.to_string())?;
        if copied {
            suite.holds(&to, &bytes).await?;
        }
        suite.holds(&from, &bytes).await?;
        suite.remove(&to).await?;
        suite.remove(&from).await?;
    }
    Ok(())
}

/// A cancelled put leaves nothing visible.
pub(super) async fn cancelled_puts(suite: &Suite) -> CaseResult {
    for size in suite.two_sizes() {
        let key = suite.key("cancelled");
        for stall in [size as u64 / 2, size as u64 - 1] {
            let source = broken(size, Break::Stall(stall));
            let put = timeout(UNTIL_GIVEN_UP, suite.store.put(&key, &source)).await;
            ensure(put.is_err(), || format!("put ended without its source: {put:?}"))?;
            sleep(UNTIL_FORGOTTEN).await;
            suite.is_absent(&key).await?;
            same("the listing", &suite.found("").await?, &vec![])?;
        }
        let bytes = noise(5, size);
        suite.put(&key, &bytes).await?;
        suite.holds(&key, &bytes).await?;
        suite.remove(&key).await?;
    }
    Ok(())
}

pub(super) async fn deletion(suite: &Suite) -> CaseResult {
    for size in suite.two_sizes() {
        let (key, bytes) = (suite.key("deleted/by/name"), noise(6, size));
        suite.put(&key, &bytes).await?;
        suite.remove(&suite.key("deleted/by/nam")).await?;
        suite.holds(&key, &bytes).await?;
        suite.remove(&key).await?;
        suite.is_absent(&key).await?;
        suite.remove(&key).await?;
        // An object that was deleted has no effect on a later one.
        suite.put(&key, &bytes).await?;
        suite.holds(&key, &bytes).await?;
        suite.remove(&key).await?;
    }
    Ok(())
}
