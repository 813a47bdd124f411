//! Remembers files that must not be trusted, and that are still in their place. A restart removes them, because the bytes
//! of some of them are known to be wrong.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use atomic_file::PRIVATE;
use backends::Digest;

/// The most files that are remembered. If nothing can be removed, a cache takes in no blob that would evict more.
const MAX: usize = 4096;

/// The digests of these files, in memory and in a small file on the disk.
#[derive(Debug)]
pub(super) struct Unremoved {
    file: PathBuf,
    digests: HashSet<Digest>,
}

impl Unremoved {
    /// Reads the list of an earlier process.
    ///
    /// # Errors
    /// The file exists and cannot be read.
    pub(super) fn read(file: &Path) -> io::Result<Self> {
        let text = match fs::read_to_string(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => {
                read.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))?
            }
        };
        let digests = text.lines().filter_map(|line| line.parse().ok()).collect();
        Ok(Self { file: file.to_owned(), digests })
    }

    /// The digests of all these files.
    pub(super) fn digests(&self) -> &HashSet<Digest> {
        &self.digests
    }

    /// Records that a blob's file is in its place and must not be trusted. Returns `true` if that is new. Blocks on the
    /// disk.
    pub(super) fn add(&mut self, digest: Digest) -> bool {
        if self.digests.len() >= MAX || !self.digests.insert(digest) {
            return false;
        }
        self.write();
        true
    }

    /// Records that a blob's file is gone, or that another one is in its place. If the blob was in the list, blocks on
    /// the disk.
    pub(super) fn remove(&mut self, digest: &Digest) {
        if self.digests.remove(digest) {
            self.write();
        }
    }

    fn write(&self) {
        let lines: String = self.digests.iter().map(|digest| format!("{digest}\n")).collect();
        if let Err(error) = atomic_file::write(&self.file, lines.as_bytes(), PRIVATE) {
            let path = self.file.display();
            tracing::error!(%path, %error, "the list of cached files that cannot be removed cannot be written");
        }
    }
}
