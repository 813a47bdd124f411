//! Generates images with real tar layers of any size. The same seed gives the same image.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use backends::{Digest, Hasher};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::gzip;

/// Bytes of a tar block.
const BLOCK: u64 = 512;
/// Bytes that are generated at a time.
const PIECE: usize = 64 * 1024;

/// The description of an image.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Equal seeds give equal bytes.
    pub seed: u64,
    /// The layers, lowest first.
    pub layers: Vec<Layer>,
    /// Whether to use Docker's media types instead of OCI's.
    pub docker: bool,
    /// The architecture in the config, such as `amd64`.
    pub architecture: String,
}

/// The description of a layer.
#[derive(Debug, Clone)]
pub enum Layer {
    /// A gzipped tar with one file of this many random bytes.
    Tar(u64),
    /// These bytes, which need not be a tar and may be empty.
    Raw(Vec<u8>),
    /// Only a descriptor, with this digest and size, whose bytes are at these URLs.
    Foreign(Digest, u64, Vec<String>),
    /// Only a descriptor of an OCI nondistributable type, without URLs.
    Nondistributable(Digest, u64),
}

/// A descriptor and its bytes.
#[derive(Debug, Clone)]
pub struct Blob {
    /// The digest.
    pub digest: Digest,
    /// The size, in bytes.
    pub size: u64,
    /// The media type.
    pub media_type: String,
    /// The bytes. `None` if the blob is only described.
    pub content: Option<Content>,
    urls: Vec<String>,
}

/// The bytes of a blob.
#[derive(Debug, Clone)]
pub enum Content {
    /// In memory.
    Memory(Bytes),
    /// In a file.
    File(PathBuf),
}

/// An image that can be pushed.
#[derive(Debug, Clone)]
pub struct Image {
    /// The config.
    pub config: Blob,
    /// The layers, lowest first.
    pub layers: Vec<Blob>,
    /// The manifest.
    pub manifest: Manifest,
    architecture: String,
}

/// A manifest or an index.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The bytes.
    pub bytes: Bytes,
    /// The digest of the bytes.
    pub digest: Digest,
    /// The media type.
    pub media_type: String,
}

impl Spec {
    /// An OCI image for amd64 with tar layers of these sizes.
    #[must_use]
    pub fn layers(seed: u64, sizes: &[u64]) -> Self {
        let layers = sizes.iter().map(|size| Layer::Tar(*size)).collect();
        Self { seed, layers, docker: false, architecture: "amd64".into() }
    }

    /// The same image with Docker's media types.
    #[must_use]
    pub fn docker(self) -> Self {
        Self { docker: true, ..self }
    }

    /// Generates the image in memory.
    ///
    /// # Errors
    /// Writing to memory fails, which does not happen.
    pub fn build(&self) -> Result<Image> {
        self.make(None)
    }

    /// Generates the image, with its layers as files in `folder`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn build_in(&self, folder: &Path) -> Result<Image> {
        self.make(Some(folder))
    }

    fn media_type(&self, oci: &str, docker: &str) -> String {
        let (vendor, kind) = if self.docker { ("docker", docker) } else { ("oci", oci) };
        format!("application/vnd.{vendor}.{kind}")
    }

    fn make(&self, folder: Option<&Path>) -> Result<Image> {
        let mut layers = Vec::new();
        let mut diffs = Vec::new();
        for (number, layer) in self.layers.iter().enumerate() {
            let (blob, diff) = self.layer(number, layer, folder)?;
            layers.push(blob);
            diffs.push(diff.to_string());
        }
        let history: Vec<Value> = diffs
            .iter()
            .map(|_| json!({"created": "2026-01-01T00:00:00Z", "created_by": "harness"}))
            .collect();
        let config = json!({
            "architecture": self.architecture, "os": "linux", "created": "2026-01-01T00:00:00Z",
            "config": {"Labels": {"harness.seed": self.seed.to_string()}},
            "rootfs": {"type": "layers", "diff_ids": diffs}, "history": history,
        });
        let config = Blob::in_memory(
            &self.media_type("image.config.v1+json", "container.image.v1+json"),
            config.to_string(),
        );
        let media_type = self.media_type("image.manifest.v1+json", "distribution.manifest.v2+json");
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type, "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        let manifest = Manifest::new(&media_type, manifest.to_string());
        Ok(Image { config, layers, manifest, architecture: self.architecture.clone() })
    }

    /// A layer, and the digest of its uncompressed content.
    fn layer(&self, number: usize, layer: &Layer, folder: Option<&Path>) -> Result<(Blob, Digest)> {
        let gzipped = self.media_type("image.layer.v1.tar+gzip", "image.rootfs.diff.tar.gzip");
        let described = |media_type: &str, digest: &Digest, size: u64, urls: &[String]| {
            let blob = Blob {
                digest: *digest,
                size,
                media_type: media_type.to_owned(),
                content: None,
                urls: urls.to_vec(),
            };
            Ok((blob, *digest))
        };
        match layer {
            Layer::Raw(bytes) => Ok((Blob::in_memory(&gzipped, bytes.clone()), Digest::of(bytes))),
            Layer::Foreign(digest, size, urls) => {
                let foreign =
                    self.media_type("image.layer.v1.tar+gzip", "image.rootfs.foreign.diff.tar.gzip");
                described(&foreign, digest, *size, urls)
            }
            Layer::Nondistributable(digest, size) => {
                let kind = "image.layer.nondistributable.v1.tar+gzip";
                described(&self.media_type(kind, "image.rootfs.foreign.diff.tar.gzip"), digest, *size, &[])
            }
            Layer::Tar(size) => {
                let seed = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number as u64;
                let Some(folder) = folder else {
                    let mut out = Hashing::new(Vec::new());
                    let diff = tar(seed, *size, &mut out)?;
                    return Ok((Blob::in_memory(&gzipped, out.inner), diff));
                };
                let path = folder.join(format!("layer-{:x}-{number}", self.seed));
                let file = std::fs::File::create(&path).with_context(|| path.display().to_string())?;
                let mut out = Hashing::new(io::BufWriter::new(file));
                let diff = tar(seed, *size, &mut out)?;
                out.flush()?;
                let size = out.hasher.bytes();
                let content = Some(Content::File(path));
                Ok((
                    Blob {
                        digest: out.hasher.finish(),
                        size,
                        media_type: gzipped,
                        content,
                        urls: Vec::new(),
                    },
                    diff,
                ))
            }
        }
    }
}

impl Blob {
    /// A blob of these bytes.
    pub fn in_memory(media_type: &str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        Self {
            digest,
            size,
            media_type: media_type.to_owned(),
            content: Some(Content::Memory(bytes)),
            urls: Vec::new(),
        }
    }

    /// All bytes of the blob.
    ///
    /// # Errors
    /// The file cannot be read, or the blob is only described.
    pub fn bytes(&self) -> Result<Bytes> {
        match &self.content {
            None => anyhow::bail!("{} is only described", self.digest),
            Some(Content::Memory(bytes)) => Ok(bytes.clone()),
            Some(Content::File(path)) => {
                Ok(std::fs::read(path).with_context(|| path.display().to_string())?.into())
            }
        }
    }

    fn descriptor(&self) -> Value {
        let mut descriptor =
            json!({"mediaType": self.media_type, "digest": self.digest.to_string(), "size": self.size});
        if !self.urls.is_empty() {
            descriptor["urls"] = self.urls.clone().into();
        }
        descriptor
    }
}

impl Manifest {
    /// A manifest of these bytes.
    pub fn new(media_type: &str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { digest: Digest::of(&bytes), bytes, media_type: media_type.to_owned() }
    }

    /// An OCI index of `images`.
    #[must_use]
    pub fn index(images: &[Image]) -> Self {
        let children: Vec<Value> = images
            .iter()
            .map(|image| {
                json!({
                    "mediaType": image.manifest.media_type, "digest": image.manifest.digest.to_string(),
                    "size": image.manifest.bytes.len(), "platform": {"os": "linux", "architecture": image.architecture},
                })
            })
            .collect();
        let media_type = "application/vnd.oci.image.index.v1+json";
        Self::new(
            media_type,
            json!({"schemaVersion": 2, "mediaType": media_type, "manifests": children}).to_string(),
        )
    }
}

impl Image {
    /// The config and the layers that have bytes, each digest once.
    #[must_use]
    pub fn blobs(&self) -> Vec<&Blob> {
        let mut blobs: Vec<&Blob> =
            self.layers.iter().chain([&self.config]).filter(|blob| blob.content.is_some()).collect();
        let mut seen = std::collections::HashSet::new();
        blobs.retain(|blob| seen.insert(blob.digest));
        blobs
    }

    /// Writes an OCI layout that `skopeo copy oci:<folder>:<tag>` can read.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write_layout(&self, folder: &Path, tag: &str) -> Result<()> {
        let blobs = folder.join("blobs/sha256");
        std::fs::create_dir_all(&blobs)?;
        for blob in self.blobs() {
            let path = blobs.join(blob.digest.hex());
            match &blob.content {
                Some(Content::Memory(bytes)) => std::fs::write(path, bytes)?,
                Some(Content::File(file)) => std::fs::copy(file, path).map(|_| ())?,
                None => {}
            }
        }
        std::fs::write(blobs.join(self.manifest.digest.hex()), &self.manifest.bytes)?;
        std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let index = json!({"schemaVersion": 2, "manifests": [{
            "mediaType": self.manifest.media_type, "digest": self.manifest.digest.to_string(), "size": self.manifest.bytes.len(),
            "annotations": {"org.opencontainers.image.ref.name": tag},
        }]});
        Ok(std::fs::write(folder.join("index.json"), index.to_string())?)
    }
}

/// A writer that hashes the bytes that pass.
struct Hashing<W> {
    inner: W,
    hasher: Hasher,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::new() }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Writes a gzipped tar with one file of `size` random bytes. Returns the digest of the tar.
fn tar(seed: u64, size: u64, out: impl Write) -> io::Result<Digest> {
    let mut tar = Hashing::new(gzip::Writer::new(out));
    tar.write_all(&header(&format!("data-{seed:016x}"), size))?;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut piece = vec![0; PIECE];
    let mut left = size;
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        random.fill(&mut piece[..length]);
        tar.write_all(&piece[..length])?;
        left -= length as u64;
    }
    // The file is padded to a whole block, and two empty blocks end the archive.
    let filling = (BLOCK - size % BLOCK) % BLOCK + 2 * BLOCK;
    tar.write_all(&vec![0; usize::try_from(filling).unwrap_or(0)])?;
    tar.inner.finish()?;
    Ok(tar.hasher.finish())
}

/// A ustar header (POSIX.1-1988) of a plain file.
fn header(name: &str, size: u64) -> [u8; 512] {
    let mut block = [0; 512];
    let mut field = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    field(0, name);
    field(100, "0000644\0");
    field(108, "0000000\0");
    field(116, "0000000\0");
    field(124, &format!("{size:011o}\0"));
    field(136, "00000000000\0");
    field(148, "        ");
    field(156, "0");
    field(257, "ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_images() {
        let build = |seed| Spec::layers(seed, &[0, 1, 100_000]).build().expect("an image").manifest.digest;
        assert_eq!(build(7), build(7));
        assert_ne!(build(7), build(8));
    }

    #[test]
    fn images_in_a_folder_and_in_memory_are_equal() {
        let folder = tempfile::tempdir().expect("a folder");
        let spec = Spec::layers(1, &[70_000]).docker();
        let (file, memory) = (spec.build_in(folder.path()).expect("files"), spec.build().expect("memory"));
        assert_eq!(file.manifest.digest, memory.manifest.digest);
        assert_eq!(Digest::of(&file.layers[0].bytes().expect("bytes")), file.layers[0].digest);
    }
}
