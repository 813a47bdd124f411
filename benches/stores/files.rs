//! The files that are sent, and the folder for them and for the received files.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use backends::fs::{FsConfig, FsStore};
use backends::{Digest, Hasher, Key, Source, Store as _, Timeouts};
use tempfile::TempDir;

/// Bytes that are generated and written at a time.
const CHUNK: u64 = 1 << 20;

/// One file that is sent.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// The name within its set.
    pub(crate) name: String,
    /// The size, in bytes.
    pub(crate) size: u64,
    /// The digest of its bytes.
    pub(crate) digest: Digest,
}

/// The files of one folder, which are sent together.
#[derive(Debug, Clone)]
pub(crate) struct Set {
    /// The folder.
    pub(crate) folder: PathBuf,
    /// The files.
    pub(crate) items: Vec<Item>,
    store: Arc<FsStore>,
}

impl Set {
    /// Generates `count` different files of `size` bytes.
    pub(crate) fn make(folder: PathBuf, count: usize, size: u64) -> Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let items = (0..count).map(|index| Item::make(&folder, index, size)).collect::<Result<_>>()?;
        let store = FsStore::new(&FsConfig { root: folder.clone() }, Timeouts::default());
        Ok(Self { folder, items, store: Arc::new(store) })
    }

    /// An item as a driver's source, read by the folder driver.
    pub(crate) fn source(&self, item: &Item) -> Source {
        Source::object(Arc::clone(&self.store) as _, Key::new(item.name.as_str()), item.size, item.digest)
    }

    /// The size of all files together, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.items.iter().map(|item| item.size).sum()
    }

    /// Checks that the folder driver finds the files.
    pub(crate) async fn check(&self) -> Result<()> {
        let last = self.items.last().context("a set without files")?;
        self.store.head(&Key::new(last.name.as_str())).await?.context("a source is gone")?;
        Ok(())
    }
}

impl Item {
    fn make(folder: &Path, index: usize, size: u64) -> Result<Self> {
        let name = format!("{index:04}");
        let mut file = File::create(folder.join(&name))?;
        let mut hasher = Hasher::new();
        let mut noise = Noise(0x9e37_79b9_7f4a_7c15 ^ (index as u64 + 1).wrapping_mul(size | 1));
        while hasher.bytes() < size {
            let chunk = noise.chunk((size - hasher.bytes()).min(CHUNK));
            hasher.update(&chunk);
            file.write_all(&chunk)?;
        }
        Ok(Self { name, size, digest: hasher.finish() })
    }
}

/// Incompressible bytes that are the same in each run (xorshift).
struct Noise(u64);

impl Noise {
    fn chunk(&mut self, size: u64) -> Vec<u8> {
        let words = size.div_ceil(8);
        let mut bytes: Vec<u8> = (0..words).flat_map(|_| self.next()).collect();
        bytes.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        bytes
    }

    fn next(&mut self) -> [u8; 8] {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.to_le_bytes()
    }
}

/// The folder of a run.
#[derive(Debug)]
pub(crate) struct Folder(TempDir);

impl Folder {
    /// Creates the folder.
    pub(crate) fn make(within: &Path) -> Result<Self> {
        let made = tempfile::Builder::new().prefix("bench-stores-").tempdir_in(within);
        Ok(Self(made.with_context(|| format!("cannot make a folder in {}", within.display()))?))
    }

    /// The folder of a set.
    pub(crate) fn sources(&self, name: &str) -> PathBuf {
        self.0.path().join("sources").join(name)
    }

    /// An empty folder for received files.
    pub(crate) fn target(&self) -> Result<PathBuf> {
        let target = self.0.path().join("target");
        if target.exists() {
            std::fs::remove_dir_all(&target)?;
        }
        std::fs::create_dir(&target)?;
        Ok(target)
    }
}
