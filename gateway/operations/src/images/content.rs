//! Which manifests and blobs belong to an image.

use std::collections::HashSet;

use anyhow::{Context as _, bail};
use backends::Digest;
use config::{DescribedPlatform, Platforms};
use registry::service_account::Tokens;
use registry::{LocalBlob, RegistryClient, local_blobs};
use serde::Deserialize;

use super::{ImageName, Manifest, read_manifest};

/// The most manifests of one image. Indexes may name indexes.
pub const MANIFESTS_MAX: usize = 1000;

/// What an image consists of.
#[derive(Debug, Clone)]
pub(crate) struct ImageContent {
    /// Its manifests. The first is the one that its tag or digest names.
    pub(crate) manifests: Vec<Manifest>,
    /// The blobs that the registry has for them, each once.
    pub(crate) blobs: Vec<LocalBlob>,
}

/// An index, of which only this matters here.
#[derive(Debug, Default, Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Option<Vec<Child>>,
}

#[derive(Debug, Deserialize)]
struct Child {
    digest: String,
    #[serde(default)]
    platform: Option<DescribedPlatform>,
}

/// The manifests and blobs of an image, as far as they are known. Its user reads the manifests. Pure.
#[derive(Debug)]
pub struct ImageWalk<'a> {
    platforms: &'a Platforms,
    left: Vec<String>,
    taken: usize,
    seen: HashSet<Digest>,
    seen_blobs: HashSet<Digest>,
    blobs: Vec<LocalBlob>,
}

/// Why an image is not known as a whole.
#[derive(Debug)]
pub enum UnknownContent {
    /// A manifest cannot be parsed.
    Unparsed(serde_json::Error),
    /// Its index has none of the platforms.
    NoPlatform,
    /// It has more than [`MANIFESTS_MAX`] manifests.
    TooMany,
}

impl<'a> ImageWalk<'a> {
    /// Begins with the tag or digest of an image.
    #[must_use]
    pub fn new(reference: &str, platforms: &'a Platforms) -> Self {
        Self {
            platforms,
            left: vec![reference.to_owned()],
            taken: 0,
            seen: HashSet::new(),
            seen_blobs: HashSet::new(),
            blobs: Vec::new(),
        }
    }

    /// The tag or digest of a manifest that is to be read. `None` if all were.
    pub fn wanted(&mut self) -> Option<String> {
        self.left.pop()
    }

    /// Takes a manifest that was wanted. One that is not an index is taken as it is, because it has no choice of platforms.
    ///
    /// # Errors
    /// It cannot be parsed, it is an index without any of the platforms, or the image has too many manifests.
    pub fn take(&mut self, manifest: &[u8]) -> Result<(), UnknownContent> {
        match wanted_children(manifest, self.platforms).map_err(UnknownContent::Unparsed)? {
            Some(children) if children.is_empty() => return Err(UnknownContent::NoPlatform),
            Some(children) => {
                let new = children.iter().filter(|child| self.seen.insert(**child));
                self.left.extend(new.map(ToString::to_string));
            }
            None => {
                let local = local_blobs(manifest).map_err(UnknownContent::Unparsed)?;
                self.blobs.extend(local.into_iter().filter(|blob| self.seen_blobs.insert(blob.digest)));
            }
        }
        self.taken += 1;
        match self.taken + self.left.len() > MANIFESTS_MAX {
            true => Err(UnknownContent::TooMany),
            false => Ok(()),
        }
    }

    /// The blobs that the registry has for the manifests, each once.
    #[must_use]
    pub fn blobs(self) -> Vec<LocalBlob> {
        self.blobs
    }
}

/// Reads the manifests of an image for these platforms, and lists their blobs.
///
/// # Errors
/// A manifest cannot be read or parsed, the index has none of the platforms, or it has more than 1000 manifests.
pub(crate) async fn read_content(
    client: &RegistryClient,
    tokens: &Tokens,
    image: &ImageName,
    platforms: &Platforms,
    manifest_max: usize,
) -> anyhow::Result<ImageContent> {
    let (mut walk, mut manifests) = (ImageWalk::new(&image.reference, platforms), Vec::new());
    while let Some(reference) = walk.wanted() {
        let manifest = read_manifest(client, tokens, image, &reference, manifest_max).await?;
        match walk.take(&manifest.bytes) {
            Ok(()) => manifests.push(manifest),
            Err(UnknownContent::Unparsed(error)) => {
                let what = format!("{image}: its manifest {} cannot be parsed", manifest.digest);
                return Err(error).context(what);
            }
            Err(UnknownContent::NoPlatform) => bail!(
                "{image}: its index has no manifest for {platforms}: see the platforms that it has, or take all"
            ),
            Err(UnknownContent::TooMany) => {
                bail!("{image}: its index has more than {MANIFESTS_MAX} manifests")
            }
        }
    }
    Ok(ImageContent { manifests, blobs: walk.blobs() })
}

/// The manifests that an index names for these platforms. `None` if the manifest is not an index.
///
/// # Errors
/// The bytes are not a JSON manifest.
fn wanted_children(manifest: &[u8], platforms: &Platforms) -> serde_json::Result<Option<Vec<Digest>>> {
    let index: Index = serde_json::from_slice(manifest)?;
    let Some(children) = index.manifests else { return Ok(None) };
    let wanted = children.iter().filter(|child| {
        // An index within an index may have no platform of its own.
        let none = DescribedPlatform::default();
        platforms.wants(child.platform.as_ref().unwrap_or(&none))
    });
    // The digest becomes a part of a path, so it must be valid.
    Ok(Some(wanted.filter_map(|child| child.digest.parse().ok()).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_names_the_manifests_of_the_platforms() {
        let (one, two, three) = (Digest::of(b"1"), Digest::of(b"2"), Digest::of(b"3"));
        let index = serde_json::json!({"manifests": [
            {"digest": one.to_string(), "platform": {"os": "linux", "architecture": "amd64"}},
            {"digest": two.to_string(), "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
            {"digest": three.to_string()},
            {"digest": "../../x", "platform": {"os": "linux", "architecture": "amd64"}},
        ]});
        let of = |text: &str| {
            let platforms = Platforms::parse(&[text]).expect("platforms");
            wanted_children(index.to_string().as_bytes(), &platforms).expect("parses")
        };
        assert_eq!(of("all"), Some(vec![one, two, three]));
        assert_eq!(of("linux/amd64"), Some(vec![one]));
        assert_eq!(of("linux/arm64"), Some(vec![two]));
        assert_eq!(of("linux/s390x"), Some(vec![]));
        let of = |manifest: &[u8]| wanted_children(manifest, &Platforms::All).expect("parses");
        assert_eq!(of(br#"{"layers": []}"#), None);
        assert_eq!(of(br#"{"manifests": null}"#), None);
        assert!(wanted_children(b"<html>", &Platforms::All).is_err());
    }
}
