//! The images that the real clients push and pull.

use std::path::Path;

use anyhow::Result;

use super::image_dir::{ImageDir, Packing, Part, Types};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// An image, and the repository for it.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The name, which is the last part of the repository's name.
    pub name: &'static str,
    /// The image.
    pub image: ImageDir,
}

/// One image of each kind: multi-arch indexes with OCI and Docker types over the same layers, forty small layers,
/// layers that two images share, empty and tiny blobs, and one layer of `large` bytes.
///
/// # Errors
/// The folder cannot be written.
pub fn shapes(folder: &Path, large: usize) -> Result<Vec<Shape>> {
    let at = |name: &str| folder.join(name);
    let gzip = |seed, size| Part { seed, size, packing: Packing::Gzip };
    let plain = |seed, size| Part { seed, size, packing: Packing::Plain };
    let here = [gzip(1, 3 * MIB), gzip(2, 10 * KIB)];
    let elsewhere = [gzip(3, 2 * MIB), gzip(2, 10 * KIB)];
    let forty: Vec<_> = (0..40).map(|layer| gzip(100 + layer, KIB + KIB * layer as usize)).collect();
    let base = gzip(200, 5 * MIB);
    let images = [
        ("multi", ImageDir::index(&at("multi"), Types::Oci, &here, &elsewhere)?),
        ("multi-docker", ImageDir::index(&at("multi-docker"), Types::Docker, &here, &elsewhere)?),
        ("forty", ImageDir::image(&at("forty"), Types::Docker, &forty)?),
        ("base", ImageDir::image(&at("base"), Types::Docker, &[base])?),
        ("derived", ImageDir::image(&at("derived"), Types::Docker, &[base, gzip(201, MIB), gzip(202, 0)])?),
        ("tiny", ImageDir::artifact(&at("tiny"), &[b"x", b"\0\n"])?),
        ("empty", ImageDir::artifact(&at("empty"), &[b"", b"y"])?),
        // The large layer is the last one, because vfs and native snapshots copy everything below a layer.
        ("large", ImageDir::image(&at("large"), Types::Oci, &[plain(300, 100 * KIB), plain(301, large)])?),
    ];
    Ok(images.into_iter().map(|(name, image)| Shape { name, image }).collect())
}
