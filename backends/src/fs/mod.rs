//! A folder in the layout of Quay's `LocalStorage`.

mod config;
mod write;

use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

pub use config::FsConfig;
pub(crate) use config::PARAMS;

use crate::{Error, Key, Kind, Meta, Object, Result, Source, Store, Timeouts, key};

/// Bytes per read. Each read runs on a thread that may block.
const CHUNK: u64 = 256 * 1024;

/// The longest file name that Linux accepts, in bytes.
const MAX_NAME: usize = 255;

/// The suffix of unfinished files. Their names also start with a dot.
const PARTIAL: &str = ".partial";

/// A store in a folder.
#[derive(Debug)]
pub struct FsStore {
    root: PathBuf,
    timeouts: Timeouts,
}

impl FsStore {
    /// The store in the folder of `config`. `first_byte` and `stall` bound each step, because a network file
    /// system may hang.
    #[must_use]
    pub fn new(config: &FsConfig, timeouts: Timeouts) -> Self {
        Self { root: config.root.clone(), timeouts }
    }

    /// The path of an object. It is never outside the root.
    fn path(&self, key: &Key) -> Result<PathBuf> {
        let text = key.checked()?;
        if text.split('/').any(|name| name.is_empty() || name.len() > MAX_NAME) || is_partial(text) {
            return Err(Error::new(
                Kind::Invalid,
                "not a valid key: one of its names is empty, too long or reserved",
            ));
        }
        Ok(self.root.join(text))
    }
}

#[async_trait]
impl Store for FsStore {
    async fn head(&self, key: &Key) -> Result<Option<Meta>> {
        let (path, root, key) = (self.path(key)?, self.root.clone(), key.clone());
        step(format!("head {key}"), self.timeouts.first_byte, move || {
            existing_in(&root, std::fs::metadata(path).map(|found| meta(key, &found)))
        })
        .await
        .map(Option::flatten)
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Option<Object>> {
        let what = format!("get {key}");
        let (path, root, key) = (self.path(key)?, self.root.clone(), key.clone());
        let opened = step(what.clone(), self.timeouts.first_byte, move || {
            existing_in(&root, File::open(path).and_then(|file| Ok((meta(key, &file.metadata()?), file))))
        })
        .await?;
        let Some((Some(meta), file)) = opened else { return Ok(None) };
        let range = meta.part(range)?;
        let body = read(what, Arc::new(file), range.clone(), self.timeouts.stall);
        Ok(Some(Object { size: Some(meta.size), range, body, version: None }))
    }

    async fn put(&self, key: &Key, source: &Source) -> Result<()> {
        write::put(&format!("put {key}"), &self.root, &self.path(key)?, source, &self.timeouts).await
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<Meta>> {
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        if key::has_dot_segment(&folder) || folder.starts_with('/') {
            let error = Error::new(Kind::Invalid, format!("list {prefix}: not a valid prefix"));
            return stream::iter([Err(error)]).boxed();
        }
        let prefix = prefix.to_owned();
        // Depth first. Only one folder at a time is in memory.
        stream::try_unfold(vec![folder], move |mut folders| {
            let prefix = prefix.clone();
            async move {
                let Some(folder) = folders.pop() else { return Ok(None) };
                let what = format!("list {folder}");
                let root = self.root.clone();
                let entries = step(what, self.timeouts.first_byte + self.timeouts.stall, move || {
                    existing_in(&root, entries(&root, &folder))
                })
                .await?
                .unwrap_or_default();
                let mut found = Vec::new();
                for (name, is_folder, meta) in entries.into_iter().rev() {
                    if is_folder && (name.starts_with(&prefix) || prefix.starts_with(&format!("{name}/"))) {
                        folders.push(name);
                    } else if !is_folder && name.starts_with(&prefix) {
                        found.extend(meta.map(Ok));
                    }
                }
                found.reverse();
                Ok::<_, Error>(Some((stream::iter(found), folders)))
            }
        })
        .try_flatten()
        .boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let (path, root) = (self.path(key)?, self.root.clone());
        let removed = step(format!("delete {key}"), self.timeouts.first_byte, move || {
            match std::fs::remove_file(path) {
                // A folder is not an object, so there is nothing to delete.
                Err(error) if error.kind() == ErrorKind::IsADirectory => Ok(None),
                removed => existing_in(&root, removed),
            }
        });
        removed.await.map(drop)
    }

    async fn probe(&self) -> Result<()> {
        let root = self.root.clone();
        step("probe".to_owned(), self.timeouts.first_byte, move || {
            std::fs::read_dir(root)?.next().transpose().map(drop)
        })
        .await
    }
}

/// The bytes of `range`, chunk by chunk. If the file has become shorter, the stream ends in an error.
fn read(
    what: String,
    file: Arc<File>,
    range: Range<u64>,
    stall: Duration,
) -> BoxStream<'static, Result<Bytes>> {
    stream::try_unfold(range, move |range| {
        let (what, file) = (what.clone(), Arc::clone(&file));
        async move {
            if range.is_empty() {
                return Ok(None);
            }
            let next = range.end.min(range.start + CHUNK);
            let chunk = step(what, stall, move || {
                // At most `CHUNK`, which fits.
                let mut chunk = vec![0; (next - range.start) as usize];
                file.read_exact_at(&mut chunk, range.start)?;
                Ok(Bytes::from(chunk))
            });
            Ok(Some((chunk.await?, next..range.end)))
        }
    })
    .boxed()
}

type Entry = (String, bool, Option<Meta>);

/// The entries of a folder below the root, sorted by name, without unfinished files.
fn entries(root: &Path, folder: &str) -> io::Result<Vec<Entry>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root.join(folder))? {
        let entry = entry?;
        // Quay's own names are ASCII. A name that is not UTF-8 is not a key.
        let Ok(name) = entry.file_name().into_string() else { continue };
        if is_partial(&name) {
            continue;
        }
        let key = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        // The file may have been removed meanwhile.
        if let Some(metadata) = existing(std::fs::metadata(entry.path()))? {
            // A link to a folder might lead to a cycle.
            let is_folder = metadata.is_dir() && !entry.file_type()?.is_symlink();
            found.push((key.clone(), is_folder, meta(Key::new(key), &metadata)));
        }
    }
    found.sort_by(|left, right| left.0.cmp(&right.0));
    Ok(found)
}

fn is_partial(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with('.') && name.ends_with(PARTIAL)
}

/// The metadata of a file. `None` for a folder.
fn meta(key: Key, found: &std::fs::Metadata) -> Option<Meta> {
    found.is_file().then(|| Meta { key, size: found.len(), modified: found.modified().ok() })
}

/// A missing file is a result, not an error. The same holds for a key whose path leads through a file.
fn existing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Like [`existing`], below a root. A missing root is an error: its file system may not be mounted, so the
/// store does not count as empty.
fn existing_in<T>(root: &Path, result: io::Result<T>) -> io::Result<Option<T>> {
    let found = existing(result)?;
    if found.is_none() {
        std::fs::metadata(root)?;
    }
    Ok(found)
}

/// Runs an operation that may block on a blocking thread, with a timeout.
async fn step<T: Send + 'static>(
    what: String,
    bound: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    match timeout(bound, spawn_blocking(work)).await {
        Ok(Ok(done)) => done.map_err(|error| failed(&what, error)),
        Ok(Err(_)) => Err(Error::new(Kind::Unavailable, format!("{what}: the runtime is shutting down"))),
        Err(_) => Err(Error::new(Kind::Timeout, format!("{what}: no answer within {bound:?}"))),
    }
}

fn failed(what: &str, error: io::Error) -> Error {
    let kind = match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Kind::Denied,
        ErrorKind::IsADirectory | ErrorKind::NotADirectory | ErrorKind::InvalidFilename => Kind::Invalid,
        _ => Kind::Unavailable,
    };
    Error::new(kind, what).with_cause(error)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
