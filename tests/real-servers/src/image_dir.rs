//! Generates images of many forms, deterministic by seed, in skopeo's `dir:` layout.
//!
//! That layout has one file per blob, named by its hex digest, beside `manifest.json`. It keeps Docker's
//! media types, which an OCI layout cannot contain, and is easy to compare.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const CHUNK: usize = 1 << 20;
const TAR_BLOCK: usize = 512;

/// The family of media types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Types {
    /// `application/vnd.oci.image.…`.
    Oci,
    /// `application/vnd.docker.…`.
    Docker,
}

/// The packing of a layer's tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not packed.
    Plain,
    /// Packed with gzip.
    Gzip,
}

/// The content of one layer. The same parts give the same digest.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// The seed of the random bytes.
    pub seed: u64,
    /// The size of the one file in the layer, in bytes.
    pub size: usize,
    /// The packing.
    pub packing: Packing,
}

/// An image, index or artifact in a folder.
#[derive(Debug, Clone)]
pub struct ImageDir {
    /// The folder.
    pub path: PathBuf,
    /// The digest of the manifest or index, `sha256:…`.
    pub digest: String,
    /// The hex digests of all blobs (not manifests), with their lengths in bytes.
    pub blobs: BTreeMap<String, u64>,
    /// The hex digests of all manifests, including the index.
    pub manifests: Vec<String>,
    /// The digest of the config for this machine's platform, `sha256:…`.
    pub config: String,
    /// The digests of the unpacked layers for this machine's platform.
    pub diff_ids: Vec<String>,
    /// Whether the image can be unpacked and run. Other images can only be stored.
    pub runnable: bool,
}

/// This machine's architecture, as written in image indexes.
fn machine() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl ImageDir {
    /// An image for this machine's platform.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn image(path: &Path, types: Types, parts: &[Part]) -> Result<Self> {
        let mut dir = Self::create(path)?;
        let manifest = dir.platform(types, machine(), parts)?;
        dir.finish(manifest.to_string().as_bytes())
    }

    /// An index for two platforms, this machine's and another one.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn index(path: &Path, types: Types, here: &[Part], elsewhere: &[Part]) -> Result<Self> {
        let mut dir = Self::create(path)?;
        let mut children = Vec::new();
        for (architecture, parts) in [("s390x", elsewhere), (machine(), here)] {
            let manifest = dir.platform(types, architecture, parts)?.to_string();
            let hex = hex_digest(manifest.as_bytes());
            std::fs::write(path.join(format!("{hex}.manifest.json")), &manifest)?;
            children.push(json!({
                "mediaType": types.manifest(), "digest": format!("sha256:{hex}"), "size": manifest.len(),
                "platform": { "os": "linux", "architecture": architecture },
            }));
            dir.manifests.push(hex);
        }
        let index = json!({ "schemaVersion": 2, "mediaType": types.index(), "manifests": children });
        dir.finish(index.to_string().as_bytes())
    }

    /// An OCI artifact whose layers are exactly these bytes.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn artifact(path: &Path, layers: &[&[u8]]) -> Result<Self> {
        let mut dir = Self::create(path)?;
        dir.runnable = false;
        let config = dir.blob(b"{}")?;
        let mut described = Vec::new();
        for bytes in layers {
            let digest = dir.blob(bytes)?;
            described.push(
                json!({ "mediaType": "application/octet-stream", "digest": digest, "size": bytes.len() }),
            );
        }
        let manifest = json!({
            "schemaVersion": 2, "mediaType": Types::Oci.manifest(),
            "config": { "mediaType": "application/vnd.test.config.v1+json", "digest": config, "size": 2 },
            "layers": described,
        });
        dir.finish(manifest.to_string().as_bytes())
    }

    /// Compares all files with a pulled copy, byte for byte.
    ///
    /// # Errors
    /// A file is missing or differs.
    pub fn same_as(&self, copy: &Path) -> Result<()> {
        for entry in std::fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            same_bytes(&self.path.join(&name), &copy.join(&name))?;
        }
        Ok(())
    }

    /// Whether one of its blobs is empty. containerd refuses to fetch empty blobs.
    #[must_use]
    pub fn has_empty_blob(&self) -> bool {
        self.blobs.values().any(|size| *size == 0)
    }

    /// The file of a blob or manifest, by its hex digest.
    #[must_use]
    pub fn file(&self, hex: &str) -> PathBuf {
        let child = self.path.join(format!("{hex}.manifest.json"));
        match () {
            () if self.digest.ends_with(hex) => self.path.join("manifest.json"),
            () if child.exists() => child,
            () => self.path.join(hex),
        }
    }

    fn create(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path)?;
        std::fs::write(path.join("version"), "Directory Transport Version: 1.1\n")?;
        Ok(Self {
            path: path.to_owned(),
            digest: String::new(),
            blobs: BTreeMap::new(),
            manifests: Vec::new(),
            config: String::new(),
            diff_ids: Vec::new(),
            runnable: true,
        })
    }

    fn finish(mut self, manifest: &[u8]) -> Result<Self> {
        let hex = hex_digest(manifest);
        std::fs::write(self.path.join("manifest.json"), manifest)?;
        self.digest = format!("sha256:{hex}");
        self.manifests.push(hex);
        Ok(self)
    }

    /// Writes the layers, config and manifest of one platform. `config` and `diff_ids` then belong to this
    /// platform.
    fn platform(&mut self, types: Types, architecture: &str, parts: &[Part]) -> Result<Value> {
        let mut layers = Vec::new();
        self.diff_ids.clear();
        for part in parts {
            let (digest, size, diff_id) = self.layer(part)?;
            layers.push(json!({ "mediaType": types.layer(part.packing), "digest": digest, "size": size }));
            self.diff_ids.push(diff_id);
        }
        let config = json!({
            "architecture": architecture, "os": "linux", "created": "1970-01-01T00:00:00Z",
            "config": { "Cmd": ["/bin/true"] },
            "rootfs": { "type": "layers", "diff_ids": self.diff_ids },
        })
        .to_string();
        self.config = self.blob(config.as_bytes())?;
        Ok(json!({
            "schemaVersion": 2, "mediaType": types.manifest(),
            "config": { "mediaType": types.config(), "digest": self.config, "size": config.len() },
            "layers": layers,
        }))
    }

    fn blob(&mut self, bytes: &[u8]) -> Result<String> {
        let hex = hex_digest(bytes);
        std::fs::write(self.path.join(&hex), bytes)?;
        self.blobs.insert(hex.clone(), bytes.len() as u64);
        Ok(format!("sha256:{hex}"))
    }

    /// Writes one layer. Returns its digest, its size, and the digest of its unpacked form.
    fn layer(&mut self, part: &Part) -> Result<(String, u64, String)> {
        let plain = self.path.join("layer.tar");
        write_tar(&plain, part)?;
        let unpacked = file_digest(&plain)?;
        let (file, hex) = match part.packing {
            Packing::Plain => (plain.clone(), unpacked.clone()),
            Packing::Gzip => {
                let packed = self.path.join("layer.tar.gz");
                gzip(&plain, &packed)?;
                std::fs::remove_file(&plain)?;
                let hex = file_digest(&packed)?;
                (packed, hex)
            }
        };
        let size = file.metadata()?.len();
        #[expect(clippy::disallowed_methods, reason = "a file of one test")]
        std::fs::rename(&file, self.path.join(&hex))?;
        self.blobs.insert(hex.clone(), size);
        Ok((format!("sha256:{hex}"), size, format!("sha256:{unpacked}")))
    }
}

impl Types {
    fn manifest(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.manifest.v1+json",
            Self::Docker => "application/vnd.docker.distribution.manifest.v2+json",
        }
    }

    fn index(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.index.v1+json",
            Self::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
        }
    }

    fn config(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.config.v1+json",
            Self::Docker => "application/vnd.docker.container.image.v1+json",
        }
    }

    fn layer(self, packing: Packing) -> &'static str {
        match (self, packing) {
            (Self::Oci, Packing::Plain) => "application/vnd.oci.image.layer.v1.tar",
            (Self::Oci, Packing::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (Self::Docker, Packing::Plain) => "application/vnd.docker.image.rootfs.diff.tar",
            (Self::Docker, Packing::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        }
    }
}

/// Writes a tar with one file of random bytes.
fn write_tar(path: &Path, part: &Part) -> Result<()> {
    let mut file = BufWriter::with_capacity(CHUNK, File::create(path)?);
    file.write_all(&tar_header(&format!("layer-{}.bin", part.seed), part.size))?;
    let mut random = fastrand::Rng::with_seed(part.seed);
    let mut chunk = vec![0; CHUNK.min(part.size)];
    let mut left = part.size;
    while left > 0 {
        let now = left.min(chunk.len());
        random.fill(&mut chunk[..now]);
        file.write_all(&chunk[..now])?;
        left -= now;
    }
    let padding = part.size.next_multiple_of(TAR_BLOCK) - part.size;
    file.write_all(&vec![0; padding + 2 * TAR_BLOCK])?;
    file.flush()?;
    Ok(())
}

/// The POSIX.1-1988 `ustar` format, as described in pax(1).
fn tar_header(name: &str, size: usize) -> [u8; TAR_BLOCK] {
    let mut header = [0; TAR_BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

fn gzip(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("gzip")
        .args(["--no-name", "-1", "--stdout"])
        .stdin(File::open(from)?)
        .stdout(File::create(to)?)
        .stderr(Stdio::inherit())
        .status()
        .context("cannot run gzip")?;
    ensure!(status.success(), "gzip: {status}");
    Ok(())
}

fn hex_digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn file_digest(path: &Path) -> Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let got = file.read(&mut chunk)?;
        if got == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(&chunk[..got]);
    }
}

/// Compares two files.
pub(super) fn same_bytes(one: &Path, other: &Path) -> Result<()> {
    let mut left = File::open(one).with_context(|| format!("cannot open {}", one.display()))?;
    let mut right = File::open(other).with_context(|| format!("cannot open {}", other.display()))?;
    let differ = || format!("{} and {} differ", one.display(), other.display());
    ensure!(left.metadata()?.len() == right.metadata()?.len(), "{} in length", differ());
    let (mut a, mut b) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let got = left.read(&mut a)?;
        if got == 0 {
            return Ok(());
        }
        right.read_exact(&mut b[..got])?;
        ensure!(a[..got] == b[..got], differ());
    }
}
