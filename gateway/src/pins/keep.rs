//! Reads pinned images on their schedule.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use backends::Digest;
use config::{ImageName, Pin};
use futures_util::future::join_all;
use operations::images::{ImageWalk, MANIFESTS_MAX, UnknownContent};
use registry::LocalBlob;
use registry::service_account::Reader;

use super::blob::keep_blob;
use super::media_type::media_type;
use super::pace::Pace;
use super::schedule;
use super::sets::key;
use crate::Gateway;
use crate::offline;

/// The longest sleep. After it, the clock is read again, because it may have been set.
const SLEEP_MAX: Duration = Duration::from_secs(600);

/// Why an image is not complete.
enum Incomplete {
    /// The window has closed. The rest follows in the next one.
    Closed,
    Failed(String),
}

/// Keeps the images of all pins in the cache, for ever.
pub(crate) async fn keep_pins(gateway: Arc<Gateway>) {
    let (state, all) = (Arc::clone(&gateway.pins), gateway.settings.pins.clone());
    // What this configuration does not have any more is released.
    let followed = tokio::task::spawn_blocking(move || state.follow(&all)).await;
    let (Ok(()), Some(reader)) = (followed, gateway.reader.clone()) else { return };
    let pins = gateway.settings.pins.clone();
    join_all(pins.iter().map(|pin| keep(&gateway, &reader, pin))).await;
}

async fn keep(gateway: &Arc<Gateway>, reader: &Reader, pin: &Pin) {
    let pace = Pace::new(pin.rate);
    loop {
        let now = SystemTime::now();
        let wait = |image: &ImageName| {
            schedule::wait(now, gateway.pins.last(&key(pin, image)), pin.every, pin.window)
        };
        let Some((image, wait)) =
            pin.images.iter().map(|image| (image, wait(image))).min_by_key(|(_, wait)| *wait)
        else {
            return;
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait.min(SLEEP_MAX)).await;
            continue;
        }
        read(gateway, reader, pin, image, &pace).await;
    }
}

/// Reads an image, and records what became of it.
async fn read(gateway: &Arc<Gateway>, reader: &Reader, pin: &Pin, image: &ImageName, pace: &Pace) {
    let key = key(pin, image);
    let done = match keep_image(gateway, reader, pin, image, pace).await {
        Ok(()) => {
            let (pins, key) = (Arc::clone(&gateway.pins), key.clone());
            let complete = move || pins.complete(&key, SystemTime::now());
            let done = tokio::task::spawn_blocking(complete).await;
            done.unwrap_or_else(|error| Err(error.to_string())).map_err(Incomplete::Failed)
        }
        Err(why) => Err(why),
    };
    match done {
        Ok(()) => tracing::info!(%image, "a pinned image is complete"),
        Err(Incomplete::Closed) => {
            tracing::info!(%image, "the window of a pin has closed: the rest follows in the next one")
        }
        Err(Incomplete::Failed(error)) => {
            gateway.pins.failed(&key, SystemTime::now());
            tracing::warn!(%image, error, "a pinned image is not complete");
        }
    }
}

async fn keep_image(
    gateway: &Arc<Gateway>,
    reader: &Reader,
    pin: &Pin,
    image: &ImageName,
    pace: &Pace,
) -> Result<(), Incomplete> {
    let blobs = blobs(gateway, reader, pin, image).await.map_err(Incomplete::Failed)?;
    let digests: Vec<_> = blobs.iter().map(|blob| blob.digest).collect();
    let (pins, key) = (Arc::clone(&gateway.pins), key(pin, image));
    let begun = tokio::task::spawn_blocking(move || pins.begin(&key, &digests)).await;
    begun.unwrap_or_else(|error| Err(error.to_string())).map_err(Incomplete::Failed)?;
    for blob in &blobs {
        if pin.window.is_some_and(|window| !window.opens_in(SystemTime::now()).is_zero()) {
            return Err(Incomplete::Closed);
        }
        let kept = keep_blob(gateway, reader, &image.repository, blob, pace).await;
        kept.map_err(|why| Incomplete::Failed(format!("{}: {why}", blob.digest)))?;
    }
    Ok(())
}

/// The blobs of an image for the platforms of the pin. Each manifest that was read is remembered for the time while the registry is
/// away, which gives nobody a right to read the repository.
async fn blobs(
    gateway: &Gateway,
    reader: &Reader,
    pin: &Pin,
    image: &ImageName,
) -> Result<Vec<LocalBlob>, String> {
    let mut walk = ImageWalk::new(&image.reference, &pin.platforms);
    while let Some(reference) = walk.wanted() {
        let bytes =
            reader.manifest(&image.repository, &reference).await.map_err(|error| error.to_string())?;
        offline::learn_read(gateway, (&image.repository, &reference), &media_type(&bytes), &bytes);
        walk.take(&bytes).map_err(|unknown| match unknown {
            UnknownContent::Unparsed(error) => format!("its manifest cannot be parsed: {error}"),
            UnknownContent::NoPlatform => format!("its index has no manifest for {}", pin.platforms),
            UnknownContent::TooMany => format!("its index has more than {MANIFESTS_MAX} manifests"),
        })?;
    }
    let mut blobs = walk.blobs();
    blobs.retain(|blob| blob.digest != Digest::EMPTY);
    Ok(blobs)
}
