//! The driver reads what Quay's own clients write, and the clients read what the driver writes, byte for
//! byte.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use backends::{Key, Source, Store};
use bytes::Bytes;
use real_servers::Program;
use serde_json::Value;

use crate::checks::{holds, noise, sha256};

const BOUND: Duration = Duration::from_secs(60);
/// Empty, small, and more than two of the parts that are used here.
const SIZES: [usize; 4] = [0, 1, 100_000, (11 << 20) + 7];

/// Runs `script` with the store of Quay's `entry`, and `store` with the same store, in both directions.
///
/// A script gets the entry in the variable `STORE`, and one of these commands:
/// - `write FOLDER PREFIX`: writes every file of the folder twice below the store's root, as
///   `PREFIX/whole/NAME` and `PREFIX/parts/NAME`;
/// - `read KEY...`: prints one line for each key: the size, the SHA-256 of the whole, and the SHA-256 of its
///   ranges joined together.
pub(crate) async fn both_ways(script: &str, entry: &Value, store: &dyn Store) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let made = SIZES.map(|size| (size.to_string(), noise(size as u64, size)));
    for (name, bytes) in &made {
        std::fs::write(folder.path().join(name), bytes)?;
    }
    let path = folder.path().to_str().context("a folder whose name is text")?;
    run(script, entry, &["write", path, "theirs"]).await?;
    for (name, bytes) in &made {
        for how in ["whole", "parts"] {
            let key = Key::new(format!("theirs/{how}/{name}"));
            holds(store, &key, bytes).await.context("written by another client")?;
            ranges_hold(store, &key, bytes).await.context("written by another client")?;
            store.delete(&key).await?;
        }
    }
    let mut command = vec!["read".to_owned()];
    let mut expected = String::new();
    for (name, bytes) in &made {
        let key = Key::new(format!("ours/{name}"));
        store.put(&key, &Source::bytes(bytes.clone())).await?;
        command.push(key.as_str().to_owned());
        expected += &format!("{} {hash} {hash}\n", bytes.len(), hash = sha256(bytes));
    }
    let command: Vec<_> = command.iter().map(String::as_str).collect();
    let read = run(script, entry, &command).await?;
    ensure!(read == expected, "read by another client:\n{read}instead of\n{expected}");
    for key in &command[1..] {
        store.delete(&Key::new(*key)).await?;
    }
    Ok(())
}

async fn ranges_hold(store: &dyn Store, key: &Key, bytes: &Bytes) -> Result<()> {
    let size = bytes.len() as u64;
    for range in [size / 3..size / 2, size / 2..size, 0..(size / 2 + 1).min(size)] {
        let cut = range.start as usize..range.end.min(size) as usize;
        let object = store.get(key, Some(range.clone())).await?.context("it is gone")?;
        let pieces: Vec<Bytes> = futures_util::TryStreamExt::try_collect(object.body).await?;
        ensure!(pieces.concat() == bytes[cut], "{key}: wrong bytes in {range:?}");
    }
    Ok(())
}

async fn run(script: &str, entry: &Value, arguments: &[&str]) -> Result<String> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("real-servers/interop");
    let program = Program::python("python")?.env("STORE", entry.to_string()).arg(scripts.join(script));
    program.args(arguments).run(BOUND).await
}
