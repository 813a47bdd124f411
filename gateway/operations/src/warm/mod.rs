//! Pulls images through a running gateway, so that its cache has them before their clients come.

mod cluster;
mod list;
mod progress;
mod report;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use async_trait::async_trait;
use backends::Digest;
use bytes::Bytes;
use config::Settings;
use futures_util::{StreamExt as _, stream};
use registry::service_account::Tokens;
use registry::{LocalBlob, RegistryClient};

pub use self::cluster::{ClusterImages, images_of_pods};
pub use self::list::{ListError, images_in_list};
pub use self::progress::WarmProgress;
pub(crate) use self::progress::{BlobBar, ShownProgress};
pub use self::report::{ImageState, WarmImage, WarmReport, table};
use crate::gateway_client;
use crate::images::{
    BlobRead, ImageContent, ImageName, Kept, LoggedIn, Logins, Platforms, Sink, read_blob, read_content,
};

/// The most images of one run.
pub const IMAGES_MAX: usize = 10_000;

/// The most blobs that are read at once.
pub const AT_ONCE_MAX: u32 = 64;

/// What is warmed, and how.
#[derive(Debug)]
pub struct WarmOptions {
    /// The images, 1 to [`IMAGES_MAX`]. A name may begin with that of the gateway or of the registry.
    pub images: Vec<ImageName>,
    /// The platforms of images that have several.
    pub platforms: Platforms,
    /// Who reads them.
    pub logins: Logins,
    /// The blobs that are read at once, 1 to [`AT_ONCE_MAX`].
    pub at_once: u32,
    /// The gateway's address, instead of its `listen`.
    pub gateway: Option<SocketAddr>,
}

/// An image whose manifests were read.
struct Resolved {
    name: ImageName,
    content: anyhow::Result<(ImageContent, Arc<Tokens>)>,
}

/// A blob, and the repositories that it can be read from.
struct WantedBlob {
    blob: LocalBlob,
    from: Vec<(String, Arc<Tokens>)>,
}

/// Reads the images through the gateway, each blob once. Images fail one by one, so a report tells of each.
///
/// # Errors
/// An option is out of its range, an image names another registry, or the gateway does not answer. The text says what to
/// do.
pub async fn run(
    settings: &Settings,
    options: &WarmOptions,
    progress: WarmProgress,
) -> anyhow::Result<WarmReport> {
    ensure!(!options.images.is_empty(), "there is no image to warm");
    ensure!(options.images.len() <= IMAGES_MAX, "at most {IMAGES_MAX} images can be warmed at once");
    ensure!((1..=AT_ONCE_MAX).contains(&options.at_once), "--at-once: must be 1 to {AT_ONCE_MAX}");
    certificates::install_provider();
    let began = Instant::now();
    let names = own_names(settings);
    let mut images: Vec<ImageName> = Vec::new();
    for image in &options.images {
        let image = image.at(&names)?;
        if !images.contains(&image) {
            images.push(image);
        }
    }
    let (_, client) = gateway_client::connect(settings, options.gateway).await?;
    let logged_in = options.logins.at(settings, &client)?;
    let shown = progress.begin();
    let manifest_max = usize::try_from(settings.limits.manifest.as_u64()).unwrap_or(usize::MAX);
    let at_once = options.at_once as usize;
    let resolving =
        stream::iter(images).map(|name| resolve(&client, &logged_in, name, &options.platforms, manifest_max));
    let resolved: Vec<_> = resolving.buffered(at_once).collect().await;
    let wanted = wanted(&resolved);
    shown.expect(wanted.len() as u64, wanted.iter().filter_map(|wanted| wanted.blob.size).sum());
    let reading = stream::iter(wanted).map(|wanted| read(&client, wanted, &shown));
    let read: HashMap<Digest, Result<BlobRead, String>> = reading.buffer_unordered(at_once).collect().await;
    shown.end();
    let images = resolved
        .into_iter()
        .map(|image| report::image(&image.name, image.content.map(|(content, _)| content), &read));
    let report = WarmReport::new(images.collect(), &read, began.elapsed());
    shown.images(&report);
    Ok(report)
}

/// The names by which an image of this gateway may be called.
#[must_use]
pub fn own_names(settings: &Settings) -> Vec<&str> {
    settings.hostnames().map(String::as_str).chain([settings.registry_hostname.as_str()]).collect()
}

async fn resolve(
    client: &RegistryClient,
    logged_in: &LoggedIn<'_>,
    name: ImageName,
    platforms: &Platforms,
    manifest_max: usize,
) -> Resolved {
    let content = match logged_in.tokens(&name) {
        Ok(tokens) => {
            let content = read_content(client, &tokens, &name, platforms, manifest_max).await;
            content.map(|content| (content, tokens))
        }
        Err(error) => Err(error),
    };
    Resolved { name, content }
}

/// Every blob once. The empty blob is skipped: it has no bytes, and every gateway has it.
fn wanted(resolved: &[Resolved]) -> Vec<WantedBlob> {
    let mut all: Vec<WantedBlob> = Vec::new();
    let mut places: HashMap<Digest, usize> = HashMap::new();
    for Resolved { name, content } in resolved {
        let Ok((content, tokens)) = content else { continue };
        for blob in content.blobs.iter().filter(|blob| blob.digest != Digest::EMPTY) {
            let from = (name.repository.clone(), Arc::clone(tokens));
            match places.get(&blob.digest) {
                Some(place) if all[*place].from.iter().all(|(known, _)| *known != name.repository) => {
                    all[*place].from.push(from);
                }
                Some(_) => {}
                None => {
                    places.insert(blob.digest, all.len());
                    all.push(WantedBlob { blob: blob.clone(), from: vec![from] });
                }
            }
        }
    }
    all
}

/// Reads a blob from the first repository that gives it.
async fn read(
    client: &RegistryClient,
    wanted: WantedBlob,
    shown: &ShownProgress,
) -> (Digest, Result<BlobRead, String>) {
    let WantedBlob { blob, from } = wanted;
    let mut bar = Discard(shown.blob(&blob));
    let mut failures = Vec::new();
    for (repository, tokens) in from {
        match read_blob(client, &tokens, &repository, &blob, &mut bar).await {
            Ok(read) => {
                bar.0.end(matches!(read.kept, Kept::Before));
                return (blob.digest, Ok(read));
            }
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    bar.0.end(false);
    (blob.digest, Err(failures.join("; ")))
}

/// Counts the bytes and drops them.
struct Discard(BlobBar);

#[async_trait]
impl Sink for Discard {
    async fn begin(&mut self) -> anyhow::Result<()> {
        self.0.begin();
        Ok(())
    }

    async fn take(&mut self, bytes: &Bytes) -> anyhow::Result<()> {
        self.0.more(bytes.len());
        Ok(())
    }
}
