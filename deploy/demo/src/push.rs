//! Pushes an image and measures the time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use harness::image::Image;

use crate::fixture::{Fixture, Side};
use crate::image;
use crate::screen::Screen;

/// The result of a push.
pub(crate) struct Push {
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
    /// When the manifest was accepted.
    pub(crate) at: Instant,
}

/// Pushes an image: its blobs, then its manifest.
pub(crate) async fn push(
    fixture: &Fixture,
    side: Side,
    repository: &str,
    tag: &str,
    image: &Image,
    screen: &Screen,
) -> Result<Push> {
    let client = fixture.client(side)?;
    let label = match side {
        Side::Gateway => "pushing through the gateway",
        Side::QuayOnly => "pushing to Quay only",
    };
    let bar = screen.bar(label, image::size(image));
    let start = Instant::now();
    let pushing = client.push(repository, tag, image);
    bar.during(|| client.moved(), pushing).await.with_context(|| label.to_owned())?;
    Ok(Push { bytes: client.moved(), took: start.elapsed(), at: Instant::now() })
}
