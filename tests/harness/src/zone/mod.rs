//! The object store of one zone: an S3 server over a temporary folder, behind a fault proxy.

mod location;

use std::io;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use backends::Digest;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tempfile::TempDir;

use crate::port::Port;
use crate::proxy::Proxy;
use crate::server::Server;

pub use location::Location;

/// An embedded zone. It verifies signatures. Dropping it removes its data.
#[derive(Debug)]
pub struct Zone {
    location: Location,
    proxy: Arc<Proxy>,
    _server: Arc<Server>,
    dir: Arc<TempDir>,
}

impl Zone {
    /// Starts a zone named `name` with an empty bucket and `latency` before each answer.
    ///
    /// # Errors
    /// A folder or a port cannot be created.
    pub fn start(name: &str, latency: Duration) -> Result<Self> {
        let dir = tempfile::tempdir().context("a folder for the zone")?;
        let location = Location::embedded(name);
        std::fs::create_dir(dir.path().join(&location.bucket))?;
        let files = s3s_fs::FileSystem::new(dir.path()).map_err(|error| anyhow!("S3 server: {error:?}"))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(location.access_key.as_str(), location.secret_key.as_str()));
        let server = Server::start(Port::free()?, None, builder.build())?;
        let proxy = Proxy::start(server.address())?;
        proxy.set(|faults| faults.latency = latency);
        let location = Location { address: proxy.address(), ..location };
        Ok(Self { location, proxy: Arc::new(proxy), _server: Arc::new(server), dir: Arc::new(dir) })
    }

    /// A zone named `name` in another bucket of the same server, with the same keys. The server can copy
    /// between the two buckets by itself.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub fn sibling(&self, name: &str) -> Result<Self> {
        let location =
            Location { name: name.to_owned(), bucket: format!("quay-{name}"), ..self.location.clone() };
        std::fs::create_dir(self.dir.path().join(&location.bucket))?;
        let (proxy, dir) = (Arc::clone(&self.proxy), Arc::clone(&self.dir));
        Ok(Self { location, proxy, _server: Arc::clone(&self._server), dir })
    }

    /// The fault proxy in front of the store.
    #[must_use]
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// The location and the keys.
    #[must_use]
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The path of the blob's file, whether the file exists or not.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.path().join(&self.location.bucket).join(self.location.key(digest))
    }

    /// Whether the store has the blob. Reads the file system, not the server.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// The stored bytes of the blob.
    ///
    /// # Errors
    /// The blob does not exist.
    pub fn read(&self, digest: &Digest) -> io::Result<Vec<u8>> {
        std::fs::read(self.path(digest))
    }

    /// Flips one bit of the stored blob permanently.
    ///
    /// # Errors
    /// The blob does not exist, or is too short.
    pub fn corrupt(&self, digest: &Digest, offset: usize) -> io::Result<()> {
        let mut bytes = self.read(digest)?;
        *bytes.get_mut(offset).ok_or(io::ErrorKind::UnexpectedEof)? ^= 1;
        std::fs::write(self.path(digest), bytes)
    }

    /// Truncates the stored blob to `length` bytes.
    ///
    /// # Errors
    /// The blob does not exist.
    pub fn truncate(&self, digest: &Digest, length: u64) -> io::Result<()> {
        std::fs::OpenOptions::new().write(true).open(self.path(digest))?.set_len(length)
    }

    /// Writes a blob to the folder, without the server.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(digest);
        std::fs::create_dir_all(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
        std::fs::write(path, bytes)
    }

    /// Removes the blob.
    ///
    /// # Errors
    /// The blob does not exist.
    pub fn delete(&self, digest: &Digest) -> io::Result<()> {
        std::fs::remove_file(self.path(digest))
    }

    /// Removes the whole bucket.
    ///
    /// # Errors
    /// The bucket does not exist.
    pub fn delete_bucket(&self) -> io::Result<()> {
        std::fs::remove_dir_all(self.dir.path().join(&self.location.bucket))
    }

    /// The number of files of multipart uploads that were started and neither completed nor aborted.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn unfinished_uploads(&self) -> io::Result<usize> {
        let names = std::fs::read_dir(self.dir.path())?.collect::<io::Result<Vec<_>>>()?;
        Ok(names.iter().filter(|entry| entry.file_name().to_string_lossy().contains("upload_id")).count())
    }

    /// The keys of all objects in the bucket, sorted.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn keys(&self) -> io::Result<Vec<String>> {
        let bucket = self.dir.path().join(&self.location.bucket);
        let mut found = Vec::new();
        let mut folders = vec![bucket.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(key) = path.strip_prefix(&bucket) {
                    found.push(key.to_string_lossy().into_owned());
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

impl Deref for Zone {
    type Target = Location;

    fn deref(&self) -> &Location {
        &self.location
    }
}
