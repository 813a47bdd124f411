//! Writes an OCI layout. A file that is there is never replaced, except the layout's own `index.json`.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use async_trait::async_trait;
use atomic_file::SHARED;
use backends::{Digest, Hasher};
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde_json::{Value, json};

use super::{INDEX, INDEX_MAX, LayoutFile, REF_NAME, VERSION};
use crate::images::Sink;

/// What is appended to the name of a blob that is not whole yet.
const PARTIAL: &str = ".quay-gateway-partial";

/// The bytes that are written at once.
const WRITTEN_AT_ONCE: usize = 4 << 20;

/// The bytes of one read for a hash.
const CHUNK: usize = 256 * 1024;

/// A layout in a folder.
#[derive(Debug, Clone)]
pub(super) struct LayoutWriter {
    dir: PathBuf,
}

/// A blob that is being written.
pub(super) struct BlobFile {
    file: Arc<Mutex<File>>,
    buffer: BytesMut,
}

impl LayoutWriter {
    /// Opens the layout in a folder, or begins one in a folder that is empty or not there.
    ///
    /// # Errors
    /// The folder has other files, or a layout of another version, or cannot be written.
    pub(super) fn open(dir: &Path) -> anyhow::Result<Self> {
        let shown = dir.display();
        fs::create_dir_all(dir).with_context(|| format!("{shown}: cannot be made"))?;
        let file = dir.join("oci-layout");
        match fs::read(&file) {
            Ok(text) => check_version(&text).with_context(|| file.display().to_string())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let empty =
                    fs::read_dir(dir).with_context(|| format!("{shown}: cannot be read"))?.next().is_none();
                ensure!(
                    empty,
                    "{shown}: has files, and is no OCI layout: name a folder that is empty or not there"
                );
                let text = serde_json::to_vec(&LayoutFile { image_layout_version: VERSION.to_owned() })?;
                atomic_file::create(&file, &text, SHARED).with_context(|| file.display().to_string())?;
            }
            Err(error) => return Err(error).with_context(|| file.display().to_string()),
        }
        let writer = Self { dir: dir.to_owned() };
        fs::create_dir_all(writer.blobs()).with_context(|| format!("{shown}: cannot be written"))?;
        Ok(writer)
    }

    fn blobs(&self) -> PathBuf {
        self.dir.join("blobs/sha256")
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    fn partial(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(format!("{}{PARTIAL}", digest.hex()))
    }

    /// Whether the layout has this blob, with the right bytes. Returns its size. Blocks on the disk.
    ///
    /// # Errors
    /// The file is there and has other bytes, or cannot be read.
    pub(super) fn has(&self, digest: &Digest) -> anyhow::Result<Option<u64>> {
        let path = self.blob(digest);
        let shown = path.display();
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.with_context(|| format!("{shown}: cannot be read"))?,
        };
        let (mut hasher, mut buffer) = (Hasher::new(), vec![0; CHUNK]);
        loop {
            match file.read(&mut buffer).with_context(|| format!("{shown}: cannot be read"))? {
                0 => break,
                count => hasher.update(&buffer[..count]),
            }
        }
        let size = hasher.bytes();
        ensure!(
            hasher.finish() == *digest,
            "{shown}: is there, and its bytes do not have its digest. It is not replaced: remove it, or name another folder"
        );
        Ok(Some(size))
    }

    /// Begins a blob.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(super) fn begin(&self, digest: &Digest) -> anyhow::Result<BlobFile> {
        let path = self.partial(digest);
        // One of an earlier run is removed. A link is never followed, because the disk may be another one's.
        let _ = std::fs::remove_file(&path);
        let file = File::options().write(true).create_new(true).open(&path);
        let file = file.with_context(|| format!("{}: cannot be made", path.display()))?;
        Ok(BlobFile { file: Arc::new(Mutex::new(file)), buffer: BytesMut::new() })
    }

    /// Gives a blob whose digest was verified its name. Blocks on the disk.
    ///
    /// # Errors
    /// The disk fails or is full.
    pub(super) fn end(&self, digest: &Digest, blob: BlobFile) -> anyhow::Result<()> {
        let (partial, path) = (self.partial(digest), self.blob(digest));
        let written = || format!("{}: cannot be written", path.display());
        let BlobFile { file, buffer } = blob;
        let mut file = file.lock();
        file.write_all(&buffer).with_context(written)?;
        file.sync_all().with_context(written)?;
        match place(&partial, &path) {
            // Another run was faster. Its file has the same name, so it is hashed.
            Err(Errno::EXIST) => {
                fs::remove_file(&partial).with_context(written)?;
                self.has(digest).map(drop)
            }
            placed => placed.with_context(written),
        }
    }

    /// Removes a blob that did not become whole.
    pub(super) fn abandon(&self, digest: &Digest) {
        // It has a name of its own, and the next run replaces it.
        let _ = fs::remove_file(self.partial(digest));
    }

    /// Writes a manifest. Blocks on the disk.
    ///
    /// # Errors
    /// The file is there with other bytes, or cannot be written.
    pub(super) fn manifest(&self, digest: &Digest, bytes: &Bytes) -> anyhow::Result<()> {
        if self.has(digest)?.is_some() {
            return Ok(());
        }
        let path = self.blob(digest);
        match atomic_file::create(&path, bytes, SHARED) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.has(digest).map(drop),
            written => written.with_context(|| format!("{}: cannot be written", path.display())),
        }
    }

    /// Names images in `index.json`: name, media type, digest and size of the manifest. Other images stay.
    ///
    /// # Errors
    /// The file is there and is no index, or cannot be written.
    pub(super) fn name(&self, images: &[(String, String, Digest, usize)]) -> anyhow::Result<()> {
        let path = self.dir.join("index.json");
        let place = || path.display().to_string();
        let mut index = match File::open(&path) {
            Ok(file) => {
                let mut text = Vec::new();
                file.take(INDEX_MAX + 1).read_to_end(&mut text).with_context(place)?;
                ensure!(text.len() as u64 <= INDEX_MAX, "{}: is larger than {INDEX_MAX} bytes", place());
                serde_json::from_slice(&text).with_context(place)?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []})
            }
            Err(error) => return Err(error).with_context(place),
        };
        let Some(manifests) = index.get_mut("manifests").and_then(Value::as_array_mut) else {
            bail!("{}: is no index of an OCI layout", place());
        };
        for (name, media_type, digest, size) in images {
            manifests.retain(|manifest| manifest["annotations"][REF_NAME] != **name);
            manifests.push(json!({
                "mediaType": media_type, "digest": digest.to_string(), "size": size, "annotations": {REF_NAME: name},
            }));
        }
        let text = serde_json::to_vec_pretty(&index)?;
        atomic_file::write(&path, &text, SHARED).with_context(place)
    }
}

/// Renames a file, unless the name is taken.
fn place(from: &Path, to: &Path) -> Result<(), Errno> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some file systems of disks that are carried do not know this flag.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match to.symlink_metadata() {
            Ok(_) => Err(Errno::EXIST),
            Err(_) => rustix::fs::renameat(CWD, from, CWD, to),
        },
        placed => placed,
    }
}

pub(super) fn check_version(text: &[u8]) -> anyhow::Result<()> {
    let layout: LayoutFile = serde_json::from_slice(text).context("it is not the file of an OCI layout")?;
    let version = layout.image_layout_version;
    ensure!(version == VERSION, "the layout has version {version:?}, and only {VERSION} is known");
    Ok(())
}

#[async_trait]
impl Sink for BlobFile {
    async fn begin(&mut self) -> anyhow::Result<()> {
        self.buffer.clear();
        let file = Arc::clone(&self.file);
        tokio::task::spawn_blocking(move || {
            let mut file = file.lock();
            file.set_len(0)?;
            io::Seek::rewind(&mut *file)
        })
        .await?
        .context("the file cannot be written")
    }

    async fn take(&mut self, bytes: &Bytes) -> anyhow::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < WRITTEN_AT_ONCE {
            return Ok(());
        }
        let (file, full) = (Arc::clone(&self.file), self.buffer.split());
        let written = tokio::task::spawn_blocking(move || file.lock().write_all(&full)).await?;
        written.context("the file cannot be written: is the disk full?")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_that_is_there_is_replaced() {
        let dir = tempfile::tempdir().expect("a folder");
        let (foreign, layout) = (dir.path().join("foreign"), dir.path().join("layout"));
        fs::create_dir(&foreign).expect("makes");
        fs::write(foreign.join("letter"), "dear").expect("writes");
        let error = LayoutWriter::open(&foreign).expect_err("not a layout").to_string();
        assert!(error.contains("is no OCI layout"), "{error}");
        let writer = LayoutWriter::open(&layout).expect("begins");
        let (digest, bytes) = (Digest::of(b"hello"), Bytes::from_static(b"hello"));
        assert_eq!(writer.has(&digest).expect("absent"), None);
        let mut blob = writer.begin(&digest).expect("begins");
        for _ in 0..2 {
            Sink::begin(&mut blob).await.expect("begins");
            blob.take(&bytes).await.expect("takes");
        }
        writer.end(&digest, blob).expect("ends");
        assert_eq!(writer.has(&digest).expect("there"), Some(5));
        let again = LayoutWriter::open(&layout).expect("opens");
        let mut blob = again.begin(&digest).expect("begins");
        blob.take(&bytes).await.expect("takes");
        again.end(&digest, blob).expect("is the same");
        let wrong = Digest::of(b"other");
        fs::write(layout.join("blobs/sha256").join(wrong.hex()), "wrong").expect("writes");
        let error =
            again.manifest(&wrong, &Bytes::from_static(b"other")).expect_err("other bytes").to_string();
        assert!(error.contains("is not replaced"), "{error}");
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion": "2.0.0"}"#).expect("writes");
        assert!(format!("{:#}", LayoutWriter::open(&layout).expect_err("another version")).contains("2.0.0"));
    }

    #[test]
    fn other_images_of_the_index_stay() {
        let dir = tempfile::tempdir().expect("a folder");
        let writer = LayoutWriter::open(dir.path()).expect("begins");
        let named =
            |name: &str, bytes: &[u8]| (name.to_owned(), "t".to_owned(), Digest::of(bytes), bytes.len());
        writer.name(&[named("a:1", b"1"), named("b:1", b"2")]).expect("names");
        writer.name(&[named("a:1", b"33")]).expect("names");
        let index: Value =
            serde_json::from_slice(&fs::read(dir.path().join("index.json")).expect("reads")).expect("JSON");
        let names: Vec<_> = index["manifests"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| {
                (
                    one["annotations"][REF_NAME].as_str().expect("a name"),
                    one["size"].as_u64().expect("a size"),
                )
            })
            .collect();
        assert_eq!(names, [("b:1", 1), ("a:1", 2)]);
    }
}
