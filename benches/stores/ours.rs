//! Our side: the drivers, used as in the gateway.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use backends::{ByteStream, Hasher, Key, Store};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::task::spawn_blocking;

use crate::files::{Item, Set};

/// The number of available pieces that are written together, as in the gateway's cache.
const WRITE_PIECES_MAX: usize = 64;

/// The number of tries of one removal.
const REMOVALS_MAX: usize = 4;

/// The key of an item below `prefix`.
fn key(prefix: &str, item: &Item) -> Key {
    Key::new(format!("{prefix}/{}", item.name))
}

/// Writes a set below `prefix`.
pub(crate) async fn put(store: &dyn Store, prefix: &str, set: &Set, at_once: usize) -> Result<()> {
    let puts = set.items.iter().map(|item| async move {
        let key = key(prefix, item);
        store.put(&key, &set.source(item)).await.with_context(|| format!("put {key}"))
    });
    stream::iter(puts).buffer_unordered(at_once).try_collect().await
}

/// Reads a set below `prefix` into files of `folder`.
pub(crate) async fn get(
    store: &dyn Store,
    prefix: &str,
    set: &Set,
    folder: &Path,
    at_once: usize,
) -> Result<()> {
    let gets = set.items.iter().map(|item| async move {
        let key = key(prefix, item);
        let object = store.get(&key, None).await?.with_context(|| format!("{key} is not there"))?;
        receive(object.body, item, &folder.join(&item.name)).await.with_context(|| format!("get {key}"))
    });
    stream::iter(gets).buffer_unordered(at_once).try_collect().await
}

/// Hashes a body, writes it, and checks its digest.
async fn receive(body: ByteStream, item: &Item, path: &Path) -> Result<()> {
    let file = Arc::new(File::create(path)?);
    let mut hasher = Hasher::new();
    let mut body = body.ready_chunks(WRITE_PIECES_MAX);
    while let Some(pieces) = body.next().await {
        let pieces = pieces.into_iter().collect::<Result<Vec<Bytes>, _>>()?;
        let (at, file) = (hasher.bytes(), Arc::clone(&file));
        let written = pieces.clone();
        let written = spawn_blocking(move || write(&file, &written, at));
        pieces.iter().for_each(|piece| hasher.update(piece));
        written.await??;
    }
    ensure!(hasher.finish() == item.digest, "another digest");
    Ok(())
}

fn write(file: &File, pieces: &[Bytes], mut at: u64) -> std::io::Result<()> {
    for piece in pieces {
        file.write_all_at(piece, at)?;
        at += piece.len() as u64;
    }
    Ok(())
}

/// Removes a set below `prefix`.
pub(crate) async fn remove(store: &dyn Store, prefix: &str, set: &Set, at_once: usize) -> Result<()> {
    let removals = set.items.iter().map(|item| removed(store, key(prefix, item)));
    stream::iter(removals).buffer_unordered(at_once).try_collect().await
}

/// Removes an object, with retries: removals are not measured, and a server may be busy after a measurement.
async fn removed(store: &dyn Store, key: Key) -> Result<()> {
    for _ in 1..REMOVALS_MAX {
        match store.delete(&key).await {
            Err(error) if error.is_transient() => {}
            done => return Ok(done?),
        }
    }
    Ok(store.delete(&key).await?)
}
