//! Writes files atomically and durably.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use tokio::time::timeout;

use super::{PARTIAL, step};
use crate::{Digest, Error, Hasher, Kind, Proof, Result, Source, Timeouts};

/// Writes `source` to a temporary file beside `path`, syncs it, and then renames it.
pub(super) async fn put(
    what: &str,
    root: &Path,
    path: &Path,
    source: &Source,
    timeouts: &Timeouts,
) -> Result<()> {
    if source.size() == 0 && source.digest() != Digest::EMPTY {
        return Err(Error::new(Kind::Corrupt, format!("{what}: the source is empty")));
    }
    let (root, target) = (root.to_owned(), path.to_owned());
    let mut partial =
        step(what.to_owned(), timeouts.first_byte, move || Partial::create(root, target)).await?;
    let mut proof = Proof::new(source.digest(), source.size(), Hasher::new());
    let no_progress = || Error::new(Kind::Source, format!("{what}: the source makes no progress"));
    if source.size() > 0 {
        let opened = timeout(timeouts.first_byte + timeouts.stall, source.open(0..source.size())).await;
        let mut pieces = opened.map_err(|_| no_progress())??;
        while !proof.is_complete()? {
            let next = timeout(timeouts.stall, pieces.next()).await.map_err(|_| no_progress())?;
            let Some(piece) = next.transpose()? else {
                let short = format!("{what}: the source ended {} bytes short", proof.missing());
                return Err(Error::new(Kind::Corrupt, short));
            };
            proof.admit(&piece)?;
            partial = step(what.to_owned(), timeouts.stall, move || {
                partial.file.write_all(&piece)?;
                Ok(partial)
            })
            .await?;
        }
    }
    step(what.to_owned(), timeouts.written(), move || partial.publish()).await
}

/// An unfinished file. It is removed unless it is published.
struct Partial {
    file: File,
    path: PathBuf,
    root: PathBuf,
    target: PathBuf,
    published: bool,
}

impl Partial {
    fn create(root: PathBuf, target: PathBuf) -> io::Result<Self> {
        let folder = folder(&target)?;
        create_below(&root, folder)?;
        let path = folder.join(format!(".{:016x}{PARTIAL}", fastrand::u64(..)));
        let file = File::create_new(&path)?;
        Ok(Self { file, path, root, target, published: false })
    }

    fn publish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        #[expect(clippy::disallowed_methods, reason = "the file and all folders are synced here")]
        std::fs::rename(&self.path, &self.target)?;
        self.published = true;
        // Sync every folder up to the root, because this object may have created some of them.
        for folder in self.target.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.root)) {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        let path = std::mem::take(&mut self.path);
        let remove = move || {
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(%error, path = %path.display(), "an unfinished file could not be removed");
            }
        };
        // A write may be cancelled anywhere, and its folder may be on a network file system.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

/// Creates a folder and its parents, up to the root. The root must exist: if it is missing, its disk is not
/// mounted, and the files would go to another disk.
fn create_below(root: &Path, folder: &Path) -> io::Result<()> {
    std::fs::metadata(root)?;
    let below: Vec<_> = folder.ancestors().take_while(|folder| *folder != root).collect();
    for folder in below.into_iter().rev() {
        match std::fs::create_dir(folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn folder(path: &Path) -> io::Result<&Path> {
    path.parent().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))
}
