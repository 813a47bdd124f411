//! The result of a run.

use std::collections::HashMap;
use std::time::Duration;

use backends::Digest;
use bytesize::ByteSize;
use serde::Serialize;

use crate::images::{BlobRead, ImageContent, ImageName, Kept};
use crate::table::with_headers;

/// The failures that are told of one image.
const FAILURES_SHOWN: usize = 3;

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WarmReport {
    /// Whether every image is warm.
    pub complete: bool,
    /// Blobs of all images, each counted once.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Of these, the bytes that the cache did not have before.
    pub fetched_bytes: u64,
    /// The time that it took, in seconds.
    pub seconds: f64,
    /// The images.
    pub images: Vec<WarmImage>,
}

/// The result for one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WarmImage {
    /// Its name.
    pub image: String,
    /// What became of it.
    pub state: ImageState,
    /// The manifests that were read.
    pub manifests: usize,
    /// The blobs of the image.
    pub blobs: usize,
    /// The bytes of those that were read.
    pub bytes: u64,
    /// The blobs that the cache had before.
    pub cached: usize,
    /// The blobs that the cache has now, and had not before.
    pub fetched: usize,
    /// The blobs that came, and that the cache does not keep.
    pub not_kept: usize,
    /// The blobs that did not come.
    pub failed: usize,
    /// Why the image is not warm.
    pub error: Option<String>,
}

/// What became of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageState {
    /// The cache has every blob of it.
    Warm,
    /// The cache lacks some of its blobs.
    Partial,
    /// Its manifests could not be read.
    Failed,
}

impl ImageState {
    /// The word for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Partial => "partial",
            Self::Failed => "failed",
        }
    }
}

impl WarmReport {
    pub(super) fn new(
        images: Vec<WarmImage>,
        read: &HashMap<Digest, Result<BlobRead, String>>,
        took: Duration,
    ) -> Self {
        let all = || read.values().flatten();
        Self {
            complete: images.iter().all(|image| image.state == ImageState::Warm),
            blobs: read.len(),
            bytes: all().map(|blob| blob.size).sum(),
            fetched_bytes: all().filter(|blob| blob.kept != Kept::Before).map(|blob| blob.size).sum(),
            seconds: took.as_secs_f64(),
            images,
        }
    }
}

/// What became of an image, whose manifests and blobs were read with these results.
pub(super) fn image(
    name: &ImageName,
    content: anyhow::Result<ImageContent>,
    read: &HashMap<Digest, Result<BlobRead, String>>,
) -> WarmImage {
    let mut image = WarmImage {
        image: name.to_string(),
        state: ImageState::Failed,
        manifests: 0,
        blobs: 0,
        bytes: 0,
        cached: 0,
        fetched: 0,
        not_kept: 0,
        failed: 0,
        error: None,
    };
    let content = match content {
        Ok(content) => content,
        Err(error) => return WarmImage { error: Some(format!("{error:#}")), ..image },
    };
    image.manifests = content.manifests.len();
    let mut failures = Vec::new();
    // The empty blob is in no cache, and is not needed there.
    for blob in content.blobs.iter().filter(|blob| blob.digest != Digest::EMPTY) {
        image.blobs += 1;
        match read.get(&blob.digest) {
            Some(Ok(BlobRead { size, kept })) => {
                image.bytes += size;
                match kept {
                    Kept::Before => image.cached += 1,
                    Kept::Now => image.fetched += 1,
                    Kept::No(why) => {
                        image.not_kept += 1;
                        failures.push(format!("the cache does not keep {}: {}", blob.digest, explained(why)));
                    }
                }
            }
            Some(Err(why)) => {
                image.failed += 1;
                failures.push(why.clone());
            }
            None => {
                image.failed += 1;
                failures.push(format!("{} was not read", blob.digest));
            }
        }
    }
    image.state = if failures.is_empty() { ImageState::Warm } else { ImageState::Partial };
    let more = failures.len().saturating_sub(FAILURES_SHOWN);
    failures.truncate(FAILURES_SHOWN);
    let mut error = failures.join("; ");
    if more > 0 {
        error.push_str(&format!("; and {more} more"));
    }
    image.error = (image.state != ImageState::Warm).then_some(error);
    image
}

/// What to do about a reason of `Cache-Status`.
fn explained(why: &str) -> String {
    let fix = match why {
        "too-large" => "it is larger than the cache: raise cache.size",
        "disk" => "its disk is full or fails: see the gateway's log and cache.reserve",
        "busy" => "the gateway has too many fills: run it again, or with a smaller --at-once",
        "asked-once" => "the cache is full of what others use: raise cache.size, or run it again",
        "unknown-size" => "nobody says how long it is",
        _ => return why.to_owned(),
    };
    format!("{why} ({fix})")
}

/// The report as a table for people.
#[must_use]
pub fn table(report: &WarmReport) -> String {
    let mut table = with_headers(["image", "state", "blobs", "size", "there before", "new"]);
    for image in &report.images {
        table.add_row([
            image.image.clone(),
            image.state.as_str().to_owned(),
            image.blobs.to_string(),
            ByteSize(image.bytes).to_string(),
            image.cached.to_string(),
            image.fetched.to_string(),
        ]);
    }
    let mut text = format!("{table}\n");
    for image in report.images.iter().filter(|image| image.error.is_some()) {
        text.push_str(&format!("{}: {}\n", image.image, image.error.as_deref().unwrap_or_default()));
    }
    let (all, fetched) = (ByteSize(report.bytes), ByteSize(report.fetched_bytes));
    let warm = report.images.iter().filter(|image| image.state == ImageState::Warm).count();
    let images = report.images.len();
    text.push_str(&format!(
        "{warm} of {images} images are warm: {} blobs with {all}, of which {fetched} were new, in {:.1} s\n",
        report.blobs, report.seconds
    ));
    text
}

#[cfg(test)]
mod tests {
    use registry::LocalBlob;

    use super::*;

    #[test]
    fn an_image_is_warm_if_the_cache_has_all_of_it() {
        let digests = [b"a", b"b", b"c", b"d", b"e"].map(|bytes| Digest::of(bytes));
        let content = |count: usize| ImageContent {
            manifests: Vec::new(),
            blobs: digests[..count]
                .iter()
                .chain([&Digest::EMPTY])
                .map(|digest| LocalBlob { digest: *digest, size: None })
                .collect(),
        };
        let of = |kept: Kept| Ok(BlobRead { size: 10, kept });
        let read = HashMap::from([
            (digests[0], of(Kept::Before)),
            (digests[1], of(Kept::Now)),
            (digests[2], of(Kept::No("disk".into()))),
            (digests[3], Err("no".to_owned())),
        ]);
        let name: ImageName = "org/app:v1".parse().expect("a name");
        let warm = image(&name, Ok(content(2)), &read);
        assert_eq!((warm.state, warm.blobs, warm.cached, warm.fetched), (ImageState::Warm, 2, 1, 1));
        assert_eq!((warm.bytes, &warm.error), (20, &None));
        let partial = image(&name, Ok(content(5)), &read);
        assert_eq!((partial.state, partial.not_kept, partial.failed), (ImageState::Partial, 1, 2));
        let error = partial.error.clone().expect("why");
        assert!(error.contains("cache.reserve") && error.contains("; no; "), "{error}");
        let failed = image(&name, Err(anyhow::anyhow!("no such image")), &read);
        assert_eq!((failed.state, failed.error.as_deref()), (ImageState::Failed, Some("no such image")));
        let report = WarmReport::new(vec![warm, partial, failed], &read, Duration::from_secs(2));
        assert_eq!((report.complete, report.bytes, report.fetched_bytes), (false, 30, 20));
        let text = table(&report);
        assert!(
            text.contains("1 of 3 images are warm") && text.contains("org/app:v1: no such image"),
            "{text}"
        );
    }
}
