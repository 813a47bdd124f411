//! Exports images through the gateway into an OCI layout.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::ensure;
use async_trait::async_trait;
use backends::Digest;
use bytes::Bytes;
use bytesize::ByteSize;
use config::Settings;
use futures_util::{StreamExt as _, stream};
use registry::service_account::Tokens;
use registry::{LocalBlob, RegistryClient};
use serde::Serialize;

use super::write::{BlobFile, LayoutWriter};
use crate::gateway_client;
use crate::images::{ImageContent, ImageName, Logins, Platforms, Sink, read_blob, read_content};
use crate::warm::{BlobBar, ShownProgress, WarmProgress, own_names};

/// The blobs that are read at once.
const AT_ONCE: usize = 4;

/// What is exported.
#[derive(Debug)]
pub struct ExportOptions {
    /// The images.
    pub images: Vec<ImageName>,
    /// The platforms of images that have several. The manifests of others are left out.
    pub platforms: Platforms,
    /// Who reads them.
    pub logins: Logins,
    /// The gateway's address, instead of its `listen`.
    pub gateway: Option<SocketAddr>,
    /// The folder of the layout.
    pub to: PathBuf,
}

/// What was exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportReport {
    /// The names of the images in the layout.
    pub images: Vec<String>,
    /// Manifests of the images.
    pub manifests: usize,
    /// Blobs of the images, each once.
    pub blobs: usize,
    /// Bytes of these blobs.
    pub bytes: u64,
    /// Blobs that the layout had before.
    pub there_before: usize,
}

/// Reads images through the gateway and adds them to the layout. The images are named in it last, when all of their parts
/// are there. What an interrupted run has written is used by the next one.
///
/// # Errors
/// An image cannot be read, or the folder has foreign files, has wrong bytes or cannot be written. The text says what to
/// do.
pub async fn export(
    settings: &Settings,
    options: &ExportOptions,
    progress: WarmProgress,
) -> anyhow::Result<ExportReport> {
    ensure!(!options.images.is_empty(), "there is no image to export");
    certificates::install_provider();
    let names = own_names(settings);
    let images = options.images.iter().map(|image| image.at(&names)).collect::<Result<Vec<_>, _>>()?;
    let to = options.to.clone();
    let writer = tokio::task::spawn_blocking(move || LayoutWriter::open(&to)).await??;
    let (_, client) = gateway_client::connect(settings, options.gateway).await?;
    let logged_in = options.logins.at(settings, &client)?;
    let manifest_max = usize::try_from(settings.limits.manifest.as_u64()).unwrap_or(usize::MAX);
    let shown = progress.begin();
    let mut wanted: HashMap<Digest, (LocalBlob, String, Arc<Tokens>)> = HashMap::new();
    let (mut named, mut manifests) = (Vec::new(), 0);
    for image in &images {
        let tokens = logged_in.tokens(image)?;
        let content = read_content(&client, &tokens, image, &options.platforms, manifest_max).await?;
        manifests += content.manifests.len();
        for blob in &content.blobs {
            let from = || (blob.clone(), image.repository.clone(), Arc::clone(&tokens));
            wanted.entry(blob.digest).or_insert_with(from);
        }
        if let Some(root) = content.manifests.first() {
            named.push((image.to_string(), root.media_type.clone(), root.digest, root.bytes.len()));
        }
        write_manifests(&writer, content).await?;
    }
    shown.expect(wanted.len() as u64, wanted.values().filter_map(|(blob, ..)| blob.size).sum());
    let mut reading = stream::iter(wanted.into_values())
        .map(|(blob, repository, tokens)| written(&client, &writer, blob, repository, tokens, &shown))
        .buffer_unordered(AT_ONCE);
    let images = named.iter().map(|(name, ..)| name.clone()).collect();
    let mut report = ExportReport { images, manifests, blobs: 0, bytes: 0, there_before: 0 };
    while let Some(done) = reading.next().await {
        let (size, was_there) = done?;
        report.blobs += 1;
        report.bytes += size;
        report.there_before += usize::from(was_there);
    }
    drop(reading);
    shown.end();
    tokio::task::spawn_blocking(move || writer.name(&named)).await??;
    Ok(report)
}

async fn write_manifests(writer: &LayoutWriter, content: ImageContent) -> anyhow::Result<()> {
    let writer = writer.clone();
    let write = move || {
        content.manifests.iter().try_for_each(|manifest| writer.manifest(&manifest.digest, &manifest.bytes))
    };
    tokio::task::spawn_blocking(write).await?
}

/// Writes a blob, unless it is there. Returns its size, and whether it was there.
async fn written(
    client: &RegistryClient,
    writer: &LayoutWriter,
    blob: LocalBlob,
    repository: String,
    tokens: Arc<Tokens>,
    shown: &ShownProgress,
) -> anyhow::Result<(u64, bool)> {
    let digest = blob.digest;
    let there = {
        let writer = writer.clone();
        tokio::task::spawn_blocking(move || writer.has(&digest)).await??
    };
    let bar = shown.blob(&blob);
    if let Some(size) = there {
        bar.end(true);
        return Ok((size, true));
    }
    let mut sink = Watched { file: writer.begin(&digest)?, bar };
    let read = match digest == Digest::EMPTY {
        true => Ok(0),
        false => read_blob(client, &tokens, &repository, &blob, &mut sink).await.map(|read| read.size),
    };
    sink.bar.end(false);
    let writer = writer.clone();
    tokio::task::spawn_blocking(move || match read {
        Ok(size) => writer.end(&digest, sink.file).map(|()| (size, false)),
        Err(error) => {
            writer.abandon(&digest);
            Err(error)
        }
    })
    .await?
}

/// A file, and the bar that shows its progress.
struct Watched {
    file: BlobFile,
    bar: BlobBar,
}

#[async_trait]
impl Sink for Watched {
    async fn begin(&mut self) -> anyhow::Result<()> {
        self.bar.begin();
        self.file.begin().await
    }

    async fn take(&mut self, bytes: &Bytes) -> anyhow::Result<()> {
        self.bar.more(bytes.len());
        self.file.take(bytes).await
    }
}

/// The report for people.
#[must_use]
pub fn export_table(report: &ExportReport) -> String {
    let ExportReport { images, manifests, blobs, bytes, there_before } = report;
    format!(
        "{} images are in the layout: {manifests} manifests, {blobs} blobs with {}, of which {there_before} were there \
         before\n",
        images.len(),
        ByteSize(*bytes)
    )
}
