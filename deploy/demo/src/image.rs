//! Images made on the spot.

use std::path::Path;

use anyhow::{Context as _, Result};
use tests::image::{Blob, Image, Spec};

use crate::screen::Screen;

/// Layers in bytes, lowest first: 200 MB in all.
const LAYERS: [u64; 5] = [32_000_000, 96_000_000, 56_000_000, 12_000_000, 4_000_000];

/// Makes one in `folder` from random bytes.
pub(crate) async fn make(folder: &Path, seed: u64, screen: &Screen) -> Result<Image> {
    std::fs::create_dir_all(folder)?;
    let bar = screen.bar("making an image", LAYERS.iter().sum());
    let target = folder.to_owned();
    let building = tokio::task::spawn_blocking(move || Spec::layers(seed, &LAYERS).build_in(&target));
    bar.during(|| written(folder), building).await.context("making an image")?
}

fn written(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}

/// Config and layers in the order in which an engine asks for them.
pub(crate) fn blobs(image: &Image) -> Vec<&Blob> {
    std::iter::once(&image.config).chain(&image.layers).collect()
}

/// Bytes of config and layers.
pub(crate) fn size(image: &Image) -> u64 {
    blobs(image).iter().map(|blob| blob.size).sum()
}

/// What the blob at `index` of [`blobs`] is called.
pub(crate) fn name(index: usize) -> String {
    if index == 0 { "config".into() } else { format!("layer {index}") }
}
