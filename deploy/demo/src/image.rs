//! Generates images.

use std::path::Path;

use anyhow::{Context as _, Result};
use harness::image::{Blob, Image, Spec};

use crate::screen::Screen;

/// The sizes of the layers in bytes, lowest layer first: 200 MB together.
const LAYERS: [u64; 5] = [32_000_000, 96_000_000, 56_000_000, 12_000_000, 4_000_000];

/// Generates an image from random bytes in `folder`.
pub(crate) async fn make(folder: &Path, seed: u64, screen: &Screen) -> Result<Image> {
    std::fs::create_dir_all(folder)?;
    let bar = screen.bar("generating an image", LAYERS.iter().sum());
    let target = folder.to_owned();
    let building = tokio::task::spawn_blocking(move || Spec::layers(seed, &LAYERS).build_in(&target));
    bar.during(|| written(folder), building).await.context("generating an image")?
}

fn written(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}

/// The config and the layers, in the order in which container engines pull them.
pub(crate) fn blobs(image: &Image) -> Vec<&Blob> {
    std::iter::once(&image.config).chain(&image.layers).collect()
}

/// The size of the config and the layers together, in bytes.
pub(crate) fn size(image: &Image) -> u64 {
    blobs(image).iter().map(|blob| blob.size).sum()
}

/// The name of the blob at `index` of [`blobs`] in the output.
pub(crate) fn name(index: usize) -> String {
    if index == 0 { "config".into() } else { format!("layer {index}") }
}
