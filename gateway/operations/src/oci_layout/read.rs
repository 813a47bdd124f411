//! Reads an OCI layout: its images, their manifests and the blobs that these name.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use backends::Digest;
use bytes::Bytes;
use registry::{children, local_blobs};
use serde::Deserialize;

use super::write::check_version;
use super::{INDEX_MAX, REF_NAME};
use crate::images::ImageName;

/// The most bytes of a manifest of the layout.
const MANIFEST_MAX: u64 = 8 << 20;

/// The most manifests of a layout.
const MANIFESTS_MAX: usize = 100_000;

/// The most bytes of all manifests of a layout.
const MANIFEST_BYTES_MAX: usize = 256 << 20;

/// A layout as it was read.
#[derive(Debug, Default)]
pub(super) struct ReadLayout {
    /// The manifests, each for every image that has it.
    pub(super) manifests: Vec<LayoutManifest>,
    /// The files of the blobs that the manifests name.
    pub(super) blobs: Vec<(Digest, PathBuf)>,
    /// Blobs that a manifest names and that are not in the layout.
    pub(super) missing: Vec<Digest>,
    /// Manifests with wrong bytes.
    pub(super) wrong: Vec<Digest>,
    /// Images of the index whose names say no repository.
    pub(super) unnamed: usize,
}

/// A manifest of the layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LayoutManifest {
    pub(super) repository: String,
    /// The tag or the digest.
    pub(super) reference: String,
    pub(super) media_type: String,
    pub(super) bytes: Bytes,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    annotations: HashMap<String, String>,
}

/// Reads the layout in a folder. Blocks on the disk.
///
/// # Errors
/// The folder is no OCI layout, or a file cannot be read. A blob that is missing is no error here: a layout need not have
/// all of them.
pub(super) fn read(dir: &Path, registries: &[&str]) -> anyhow::Result<ReadLayout> {
    let file = dir.join("oci-layout");
    let version =
        fs::read(&file).with_context(|| format!("{}: the folder is no OCI layout", file.display()))?;
    check_version(&version).with_context(|| file.display().to_string())?;
    let path = dir.join("index.json");
    let text = bounded(&path, INDEX_MAX)?;
    let index: Index = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
    let mut layout = ReadLayout::default();
    let (mut blobs, mut seen, mut bytes_read) = (HashSet::new(), HashSet::new(), 0);
    for descriptor in index.manifests {
        let name = descriptor.annotations.get(REF_NAME).and_then(|name| repository_of(name, registries));
        layout.unnamed += usize::from(name.is_none());
        let mut left = vec![(descriptor, name.as_ref().map(|name| name.reference.clone()), true)];
        while let Some((descriptor, reference, is_image)) = left.pop() {
            let Ok(digest) = descriptor.digest.parse::<Digest>() else { continue };
            ensure!(
                seen.len() < MANIFESTS_MAX,
                "{}: has more than {MANIFESTS_MAX} manifests",
                path.display()
            );
            let repository = name.as_ref().map(|name| name.repository.clone());
            if !seen.insert((repository.clone(), reference.clone(), digest)) {
                continue;
            }
            let Some(bytes) = manifest(dir, &digest, &mut layout)? else {
                // An index may name manifests of platforms that were left out.
                if is_image && !layout.wrong.contains(&digest) {
                    layout.missing.push(digest);
                }
                continue;
            };
            bytes_read += bytes.len();
            ensure!(
                bytes_read <= MANIFEST_BYTES_MAX,
                "{}: its manifests have more than {MANIFEST_BYTES_MAX} bytes",
                path.display()
            );
            left.extend(descriptors(&bytes).into_iter().map(|below| (below, None, false)));
            blobs.extend(local_blobs(&bytes).unwrap_or_default().into_iter().map(|blob| blob.digest));
            if let Some(repository) = repository {
                let reference = reference.unwrap_or_else(|| digest.to_string());
                layout.manifests.push(LayoutManifest {
                    repository,
                    reference,
                    media_type: descriptor.media_type,
                    bytes,
                });
            }
        }
    }
    let mut blobs: Vec<_> = blobs.into_iter().collect();
    blobs.sort_by_key(Digest::to_string);
    for digest in blobs {
        let path = blob(dir, &digest);
        match path.is_file() {
            true => layout.blobs.push((digest, path)),
            false => layout.missing.push(digest),
        }
    }
    Ok(layout)
}

/// The manifest with this digest, if it is there and right.
fn manifest(dir: &Path, digest: &Digest, layout: &mut ReadLayout) -> anyhow::Result<Option<Bytes>> {
    let path = blob(dir, digest);
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = bounded(&path, MANIFEST_MAX)?;
    if Digest::of(&bytes) != *digest {
        layout.wrong.push(*digest);
        return Ok(None);
    }
    Ok(Some(bytes.into()))
}

/// The manifests that an index names.
fn descriptors(manifest: &[u8]) -> Vec<Descriptor> {
    let known: HashSet<_> = children(manifest).unwrap_or_default().into_iter().collect();
    let index = serde_json::from_slice::<Index>(manifest).map(|index| index.manifests).unwrap_or_default();
    let is_known = |one: &Descriptor| one.digest.parse().is_ok_and(|digest: Digest| known.contains(&digest));
    index.into_iter().filter(is_known).collect()
}

/// The repository and the tag of a name such as `org/app:v1`. A mere tag names no repository.
fn repository_of(name: &str, registries: &[&str]) -> Option<ImageName> {
    let image: ImageName = name.parse().ok()?;
    image.at(registries).ok()
}

fn blob(dir: &Path, digest: &Digest) -> PathBuf {
    dir.join("blobs/sha256").join(digest.hex())
}

fn bounded(path: &Path, most: u64) -> anyhow::Result<Vec<u8>> {
    let place = || format!("{}: cannot be read", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(place)?;
    let read: io::Result<usize> = file.take(most + 1).read_to_end(&mut bytes);
    read.with_context(place)?;
    ensure!(bytes.len() as u64 <= most, "{}: is larger than {most} bytes", path.display());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(dir: &Path, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        fs::write(blob(dir, &digest), bytes).expect("writes");
        digest
    }

    #[test]
    fn a_layout_with_what_is_missing_and_what_is_wrong() {
        let dir = tempfile::tempdir().expect("a folder");
        let dir = dir.path();
        fs::create_dir_all(dir.join("blobs/sha256")).expect("makes");
        let error = read(dir, &[]).expect_err("no layout").to_string();
        assert!(error.contains("is no OCI layout"), "{error}");
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).expect("writes");
        let (layer, absent, elsewhere) =
            (put(dir, b"layer"), Digest::of(b"absent"), Digest::of(b"elsewhere"));
        let manifest =
            serde_json::json!({"layers": [{"digest": layer.to_string()}, {"digest": absent.to_string()}]});
        let manifest = put(dir, manifest.to_string().as_bytes());
        let index = serde_json::json!({"manifests": [{"digest": manifest.to_string(), "mediaType": "m"}, {"digest": elsewhere.to_string()}]});
        let index = put(dir, index.to_string().as_bytes());
        let (wrong, gone) = (put(dir, b"{}"), Digest::of(b"gone"));
        fs::write(blob(dir, &wrong), "{ }").expect("writes");
        let named = |digest: &Digest, name: &str| serde_json::json!({"digest": digest.to_string(), "mediaType": "i", "annotations": {REF_NAME: name}});
        let all = serde_json::json!({"manifests": [
            named(&index, "quay.corp/org/app:v1"), named(&manifest, "v1"), named(&wrong, "a:1"), named(&gone, "b:1"),
        ]});
        fs::write(dir.join("index.json"), all.to_string()).expect("writes");
        let layout = read(dir, &["quay.corp"]).expect("reads");
        let told: Vec<_> =
            layout.manifests.iter().map(|one| (&*one.repository, one.reference.clone())).collect();
        assert_eq!(told, [("org/app", "v1".to_owned()), ("org/app", manifest.to_string())]);
        assert_eq!((layout.blobs, layout.unnamed), (vec![(layer, blob(dir, &layer))], 1));
        assert_eq!((layout.missing, layout.wrong), (vec![gone, absent], vec![wrong]));
    }
}
