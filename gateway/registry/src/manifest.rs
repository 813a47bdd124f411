//! The blobs and manifests that a manifest names.

use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;

use backends::Digest;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::object::Object;

/// A blob that the registry itself stores for a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalBlob {
    /// The digest.
    pub digest: Digest,
    /// The size in bytes that the manifest claims, if a blob with this digest can have that size. Schema 1
    /// claims none.
    pub size: Option<u64>,
}

/// The artifact manifest of OCI's image specification 1.1 up to its second release candidate (`artifact.md`).
/// Its blobs are under the key `blobs`. Quay refuses it (415), other registries accept it.
const ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";

/// The parts of a manifest that are kept while it is read. They take at most twice the bytes of the manifest, whatever
/// it contains: a descriptor has at least 14 bytes and would take a hundred in memory, so only blobs with a digest are
/// kept, and each of those has at least 85 bytes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<Object<Descriptor>>,
    #[serde(default, deserialize_with = "listed::<Descriptor, _>")]
    layers: Vec<LocalBlob>,
    #[serde(default, rename = "fsLayers", deserialize_with = "listed::<Schema1Layer, _>")]
    schema1_layers: Vec<LocalBlob>,
    #[serde(default, deserialize_with = "listed::<Descriptor, _>")]
    blobs: Vec<LocalBlob>,
}

#[derive(Deserialize)]
struct Schema1Layer {
    #[serde(rename = "blobSum")]
    digest: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    size: Size,
    #[serde(default, deserialize_with = "null_as_empty")]
    urls: Vec<Text>,
}

/// Any value. If it is a size, the size is kept. Quay accepts any number (`image/docker/schema2/manifest.py`). A number
/// that cannot be a size counts as none.
#[derive(Default)]
struct Size(Option<u64>);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnySize)
    }
}

struct AnySize;

impl<'de> Visitor<'de> for AnySize {
    type Value = Size;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a value")
    }

    fn visit_u64<E>(self, size: u64) -> Result<Size, E> {
        Ok(Size(Some(size)))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Size, E> {
        Ok(Size(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Size, E> {
        Ok(Size(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Size, E> {
        Ok(Size(None))
    }

    fn visit_str<E>(self, _: &str) -> Result<Size, E> {
        Ok(Size(None))
    }

    fn visit_unit<E>(self) -> Result<Size, E> {
        Ok(Size(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Size, A::Error> {
        while values.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Size(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut values: A) -> Result<Size, A::Error> {
        while values.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Size(None))
    }
}

/// A text that is not kept. A list of such texts takes no memory.
struct Text;

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(AnyText)
    }
}

struct AnyText;

impl Visitor<'_> for AnyText {
    type Value = Text;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a string")
    }

    fn visit_str<E>(self, _: &str) -> Result<Text, E> {
        Ok(Text)
    }
}

/// An entry of a list, from which a value is kept or nothing.
trait Listed {
    type Kept;

    fn kept(self) -> Option<Self::Kept>;
}

impl Listed for Descriptor {
    type Kept = LocalBlob;

    fn kept(self) -> Option<LocalBlob> {
        is_local(&self).then(|| self.blob()).flatten()
    }
}

impl Listed for Schema1Layer {
    type Kept = LocalBlob;

    fn kept(self) -> Option<LocalBlob> {
        Some(LocalBlob { digest: self.digest.parse().ok()?, size: None })
    }
}

impl Descriptor {
    fn blob(&self) -> Option<LocalBlob> {
        let digest: Digest = self.digest.parse().ok()?;
        Some(LocalBlob { digest, size: self.size.0.filter(|size| digest.may_have(*size)) })
    }
}

/// Reads a list entry by entry, and keeps the values. Go writes an empty list as `null`.
fn listed<'de, T: Listed + Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T::Kept>, D::Error> {
    deserializer.deserialize_any(List(PhantomData::<T>))
}

struct List<T>(PhantomData<T>);

impl<'de, T: Listed + Deserialize<'de>> Visitor<'de> for List<T> {
    type Value = Vec<T::Kept>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a list")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Object(entry)) = entries.next_element::<Object<T>>()? {
            all.extend(entry.kept());
        }
        Ok(all)
    }
}

fn read(manifest: &[u8]) -> Result<Manifest, serde_json::Error> {
    serde_json::from_slice(manifest).map(|Object(manifest)| manifest)
}

/// The config and the local layers of an image manifest (OCI, docker schema 2 or schema 1), or the blobs of
/// an artifact manifest.
///
/// These are left out, as in Quay (`image/docker/schema2/manifest.py:local_blob_digests`,
/// `image/oci/manifest.py:_generate_filesystem_layers`): layers of a foreign or nondistributable type, docker
/// layers with `urls`, the manifests of an index, `subject`, and digests other than SHA-256, which Quay
/// refuses.
///
/// The result is what the registry stores, and what must be copied. It does not prove who may read.
///
/// # Errors
/// The bytes are not a JSON manifest.
pub fn local_blobs(manifest: &[u8]) -> Result<Vec<LocalBlob>, serde_json::Error> {
    let manifest = read(manifest)?;
    let mut blobs = manifest.layers;
    // In a manifest of another type the key has no meaning, and the registry has not checked it.
    if manifest.media_type.as_deref() == Some(ARTIFACT) {
        blobs.extend(manifest.blobs);
    }
    blobs.extend(manifest.schema1_layers);
    if let Some(config) = manifest.config.and_then(|Object(config)| config.blob()) {
        blobs.insert(0, config);
    }
    let mut seen = HashSet::new();
    blobs.retain(|blob| seen.insert(blob.digest));
    Ok(blobs)
}

/// The manifests that an index names, each once. Empty if the manifest is not an index. Manifests with a
/// digest other than SHA-256 are left out.
///
/// # Errors
/// The bytes are not a JSON manifest.
pub fn children(manifest: &[u8]) -> Result<Vec<Digest>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Index {
        #[serde(default, deserialize_with = "listed::<Child, _>")]
        manifests: Vec<Digest>,
    }
    #[derive(Deserialize)]
    struct Child {
        digest: String,
    }
    impl Listed for Child {
        type Kept = Digest;

        fn kept(self) -> Option<Digest> {
            self.digest.parse().ok()
        }
    }
    let Object(Index { mut manifests }) = serde_json::from_slice(manifest)?;
    let mut seen = HashSet::new();
    manifests.retain(|digest| seen.insert(*digest));
    Ok(manifests)
}

/// Whether the registry stores a layer. For OCI types, the type decides; for docker's types, the URLs count
/// too.
fn is_local(layer: &Descriptor) -> bool {
    let named_elsewhere =
        [".foreign.", ".nondistributable."].iter().any(|mark| layer.media_type.contains(mark));
    let oci = layer.media_type.starts_with("application/vnd.oci.");
    !named_elsewhere && (oci || layer.urls.is_empty())
}

/// Reads `null` as an empty value, like [`listed`].
fn null_as_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn layer(media_type: &str, name: &str, urls: &[&str]) -> serde_json::Value {
        serde_json::json!({"mediaType": media_type, "digest": digest(name).to_string(), "size": 3, "urls": urls})
    }

    fn found(manifest: &serde_json::Value) -> Vec<Digest> {
        local_blobs(manifest.to_string().as_bytes())
            .expect("parses")
            .into_iter()
            .map(|blob| blob.digest)
            .collect()
    }

    #[test]
    fn config_and_local_layers_only() {
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "config": layer("application/vnd.oci.image.config.v1+json", "config", &[]),
            "layers": [
                layer("application/vnd.oci.image.layer.v1.tar+gzip", "one", &[]),
                layer("application/vnd.oci.image.layer.v1.tar+gzip", "one", &[]),
                layer("application/vnd.oci.image.layer.v1.tar+gzip", "also-elsewhere", &["https://example.com/"]),
                layer("application/vnd.docker.image.rootfs.diff.tar.gzip", "elsewhere", &["https://example.com/"]),
                layer("application/vnd.oci.image.layer.nondistributable.v1.tar", "private", &[]),
                layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "foreign", &[]),
            ],
            "subject": layer("application/vnd.oci.image.manifest.v1+json", "subject", &[]),
        });
        assert_eq!(found(&manifest), [digest("config"), digest("one"), digest("also-elsewhere")]);
    }

    #[test]
    fn an_artifact_s_blobs_are_its_layers() {
        let artifact = |media_type: &str| {
            serde_json::json!({
                "mediaType": media_type,
                "artifactType": "application/example",
                "blobs": [layer("application/tar", "one", &[]), layer("application/octet-stream", "two", &[])],
                "subject": layer("application/vnd.oci.image.manifest.v1+json", "subject", &[]),
            })
        };
        assert_eq!(found(&artifact(ARTIFACT)), [digest("one"), digest("two")]);
        assert!(found(&artifact("application/vnd.oci.image.manifest.v1+json")).is_empty());
        assert!(found(&serde_json::json!({"mediaType": ARTIFACT, "blobs": null})).is_empty());
    }

    #[test]
    fn schema_1_names_layers_only() {
        let manifest =
            serde_json::json!({"schemaVersion": 1, "fsLayers": [{"blobSum": digest("one").to_string()}]});
        assert_eq!(found(&manifest), [digest("one")]);
    }

    #[test]
    fn manifests_of_an_index_are_not_blobs() {
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [layer("application/vnd.oci.image.manifest.v1+json", "child", &[])]});
        assert!(found(&index).is_empty());
        assert!(found(&serde_json::json!({"schemaVersion": 2, "layers": null, "config": null})).is_empty());
        let of = |manifest: serde_json::Value| children(manifest.to_string().as_bytes()).expect("parses");
        let twice = serde_json::json!({"manifests": [layer("t", "a", &[]), layer("t", "b", &[]), layer("t", "a", &[]), {"digest": "../x"}]});
        assert_eq!(of(twice), [digest("a"), digest("b")]);
        assert!(of(serde_json::json!({"manifests": null, "layers": [layer("t", "a", &[])]})).is_empty());
    }

    /// Clients write manifests. A size that the blob cannot have is ignored.
    #[test]
    fn sizes_that_a_blob_cannot_have_are_ignored() {
        for (size, expected) in [
            ("7", Some(7)),
            ("0", None),
            ("-1", None),
            ("1.0", None),
            ("1e3", None),
            ("\"7\"", None),
            ("null", None),
            ("18446744073709551616", None),
        ] {
            let manifest = format!(
                r#"{{"layers": [{{"digest": "{}", "size": {size}, "mediaType": "t"}}]}}"#,
                digest("a")
            );
            let blobs = local_blobs(manifest.as_bytes()).expect("parses");
            assert_eq!(blobs, [LocalBlob { digest: digest("a"), size: expected }], "{size}");
        }
    }

    fn taken(bytes: &[u8]) -> usize {
        let manifest = read(bytes).expect("a manifest");
        let lists = [&manifest.layers, &manifest.blobs, &manifest.schema1_layers];
        let blobs: usize = lists.iter().map(|list| list.capacity() * size_of::<LocalBlob>()).sum();
        let seen: HashSet<Digest> =
            lists.iter().flat_map(|list| list.iter().map(|blob| blob.digest)).collect();
        // A table is an eighth larger than its capacity, and has one more byte for each place.
        blobs + seen.capacity() * 8 / 7 * (size_of::<Digest>() + 1)
    }

    /// To read a manifest takes at most twice its bytes, which is the memory that is reserved for it.
    #[test]
    fn nothing_is_understood_as_more_than_twice_its_bytes() {
        let distinct: Vec<_> =
            (0..1000).map(|at| format!(r#"{{"digest":"{}"}}"#, digest(&at.to_string()))).collect();
        let many = |one: &str| vec![one; 100_000].join(",");
        for manifest in [
            format!(r#"{{"layers":[{}]}}"#, many(r#"{"digest":""}"#)),
            format!(r#"{{"blobs":[{}]}}"#, many(r#"{"digest":""}"#)),
            format!(r#"{{"fsLayers":[{}]}}"#, many(r#"{"blobSum":""}"#)),
            format!(r#"{{"layers":[{{"digest":"","size":[{}]}}]}}"#, many("0")),
            format!(r#"{{"layers":[{{"digest":"","urls":[{}]}}]}}"#, many(r#""""#)),
            format!(r#"{{"layers":[{}]}}"#, distinct.join(",")),
            format!(r#"{{"layers":[{}]}}"#, distinct[..513].join(",")),
        ] {
            let (taken, bytes) = (taken(manifest.as_bytes()), manifest.len());
            assert!(taken <= 2 * bytes, "{}: {taken} of {bytes}", &manifest[..40]);
        }
    }

    #[test]
    fn garbage_is_an_error() {
        for garbage in
            [&b"\x1f\x8b not json"[..], b"[]", br#"{"config":["t","d"]}"#, br#"{"layers":[["t","d"]]}"#]
        {
            assert!(local_blobs(garbage).is_err(), "{garbage:?}");
        }
    }
}
