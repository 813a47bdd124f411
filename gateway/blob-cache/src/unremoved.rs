//! Files that could not be removed. A restart trusts none of them, as a blob may be among them whose bytes are known to
//! be wrong.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use atomic_file::PRIVATE;
use backends::Digest;

/// The most of them that are known. Where nothing can be removed, a cache takes in nothing that would evict more.
const MAX: usize = 4096;

/// Whose files they are, also in a small file on the disk.
#[derive(Debug)]
pub(super) struct Unremoved {
    file: PathBuf,
    digests: HashSet<Digest>,
}

impl Unremoved {
    /// What an earlier process could not remove.
    ///
    /// # Errors
    /// The file is there and cannot be read.
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

    /// All of them.
    pub(super) fn digests(&self) -> &HashSet<Digest> {
        &self.digests
    }

    /// A blob's file cannot be removed. `true` if that is new. Blocks on the disk.
    pub(super) fn add(&mut self, digest: Digest) -> bool {
        if self.digests.len() >= MAX || !self.digests.insert(digest) {
            return false;
        }
        self.write();
        true
    }

    /// A blob's file is gone, or another one is in its place. Blocks on the disk if it was among them.
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
