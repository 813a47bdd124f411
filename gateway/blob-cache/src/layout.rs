//! The files of cached blobs, and what a restart does with them.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use backends::Digest;

/// Only this user may read the blobs. The registry decides who may read them, not the file system.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The kernel's name for this boot (`random(4)`).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Names of files below the cache's folder.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: PathBuf,
}

/// A complete blob that a restart found.
pub(super) struct Found {
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// Whether its bytes can be trusted without reading them.
    pub(super) trusted: bool,
    /// When it was last written.
    pub(super) modified: SystemTime,
}

impl Layout {
    /// Makes the folders.
    pub(super) fn create(root: &Path) -> io::Result<Self> {
        let layout = Self { root: root.to_owned() };
        for folder in [layout.blobs(), layout.unproven_blobs(), layout.partials()] {
            folder_builder().create(folder)?;
        }
        Ok(layout)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("sha256")
    }

    fn unproven_blobs(&self) -> PathBuf {
        self.root.join("unproven")
    }

    fn partials(&self) -> PathBuf {
        self.root.join("partial")
    }

    /// The path of a proven blob.
    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        below(&self.blobs(), digest)
    }

    /// The path of a blob that must be hashed again before it is served.
    pub(super) fn unproven(&self, digest: &Digest) -> PathBuf {
        below(&self.unproven_blobs(), digest)
    }

    /// Creates a file for a blob that is being filled.
    pub(super) fn create_partial(&self, digest: &Digest, attempt: u64) -> io::Result<(PathBuf, File)> {
        let path = self.partials().join(format!("{}.{attempt}", digest.hex()));
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).mode(FILE_MODE).open(&path)?;
        Ok((path, file))
    }

    /// Moves a file whose digest is proven to its place.
    pub(super) fn publish(&self, file: &Path, digest: &Digest) -> io::Result<()> {
        move_to(file, &self.blob(digest))
    }

    /// Moves a blob's file aside, to be hashed again.
    pub(super) fn distrust(&self, digest: &Digest) -> io::Result<()> {
        move_to(&self.blob(digest), &self.unproven(digest))
    }

    /// Removes a blob, proven or not.
    pub(super) fn remove(&self, digest: &Digest) -> io::Result<()> {
        for path in [self.unproven(digest), self.blob(digest)] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// After a reboot, puts all blobs aside to be hashed again. What a process wrote survives its death, but
    /// files that were never synced may not survive a loss of power.
    pub(super) fn distrust_other_boots(&self) -> io::Result<()> {
        let record = self.root.join("boot_id");
        // Absent outside Linux proper: then every file is read before it is trusted.
        let now = fs::read(BOOT_ID).unwrap_or_default();
        if !now.is_empty() && fs::read(&record).is_ok_and(|then| then == now) {
            return Ok(());
        }
        for path in files_below(&self.blobs())? {
            if let Some(digest) = digest_of_name(&path) {
                self.distrust(&digest)?;
            }
        }
        // Last, so that a crash in between begins again.
        fs::write(&record, now)
    }

    /// Removes what an earlier process left half done, and files whose size alone shows that they are wrong.
    /// Lists what is whole, least recently written first, without those that could not be removed.
    pub(super) fn recover(&self, unremoved: &HashSet<Digest>) -> io::Result<Vec<Found>> {
        for entry in fs::read_dir(self.partials())? {
            let path = entry?.path();
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "a partial file cannot be removed");
            }
        }
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        for (folder, trusted) in [(self.blobs(), true), (self.unproven_blobs(), false)] {
            for path in files_below(&folder)? {
                let metadata = fs::metadata(&path)?;
                match digest_of_name(&path) {
                    Some(digest) if unremoved.contains(&digest) => {}
                    Some(digest) if !digest.may_have(metadata.len()) => {
                        tracing::warn!(%digest, bytes = metadata.len(), "a cached blob that cannot be right is removed");
                        fs::remove_file(&path)?;
                    }
                    Some(digest) if seen.insert(digest) => {
                        let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                        found.push(Found { digest, size: metadata.len(), trusted, modified });
                    }
                    Some(_) => fs::remove_file(&path)?,
                    None => {
                        tracing::warn!(path = %path.display(), "an unknown file in the cache's folder is ignored")
                    }
                }
            }
        }
        found.sort_by_key(|blob| blob.modified);
        Ok(found)
    }
}

fn folder_builder() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(FOLDER_MODE);
    builder
}

fn below(folder: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    folder.join(&hex[..2]).join(hex)
}

fn move_to(file: &Path, place: &Path) -> io::Result<()> {
    if let Some(folder) = place.parent() {
        folder_builder().create(folder)?;
    }
    #[expect(clippy::disallowed_methods, reason = "after a loss of power all files are hashed again")]
    fs::rename(file, place)
}

fn digest_of_name(path: &Path) -> Option<Digest> {
    format!("sha256:{}", path.file_name()?.to_str()?).parse().ok()
}

/// Files two levels down.
fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for inner in fs::read_dir(folder)? {
        let inner = inner?;
        if !inner.file_type()?.is_dir() {
            continue;
        }
        for entry in fs::read_dir(inner.path())? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_files_are_no_blobs() {
        let dir = tempfile::tempdir().expect("a folder");
        let layout = Layout::create(dir.path()).expect("creates");
        let (right, wrong) = (Digest::of(b"hello"), Digest::of(b"world"));
        let put = |path: PathBuf, bytes: &[u8]| {
            fs::create_dir_all(path.parent().expect("a parent")).expect("creates");
            fs::write(&path, bytes).expect("writes");
            path
        };
        put(layout.blob(&right), b"hello");
        put(layout.blob(&Digest::EMPTY), b"");
        let removed = [
            put(layout.blob(&wrong), b""),
            put(layout.unproven(&right), b""),
            put(layout.unproven(&wrong), b""),
        ];
        let found: HashSet<_> = layout
            .recover(&HashSet::new())
            .expect("recovers")
            .iter()
            .map(|blob| (blob.digest, blob.size))
            .collect();
        assert_eq!(found, HashSet::from([(right, 5), (Digest::EMPTY, 0)]));
        assert!(removed.iter().all(|path| !path.exists()));
    }
}
