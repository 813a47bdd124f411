//! The blobs and manifests that a manifest names.

use std::collections::HashSet;

use backends::Digest;
use serde::{Deserialize, Deserializer};

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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default, deserialize_with = "null_as_empty")]
    layers: Vec<Descriptor>,
    #[serde(default, rename = "fsLayers", deserialize_with = "null_as_empty")]
    schema1_layers: Vec<Schema1Layer>,
    #[serde(default, deserialize_with = "null_as_empty")]
    blobs: Vec<Descriptor>,
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
    /// Quay accepts any number (`image/docker/schema2/manifest.py`). A number that cannot be a size is
    /// ignored.
    #[serde(default)]
    size: Option<serde_json::Value>,
    #[serde(default, deserialize_with = "null_as_empty")]
    urls: Vec<String>,
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
    let manifest: Manifest = serde_json::from_slice(manifest)?;
    // In a manifest of another type the key has no meaning, and the registry did not check it.
    let is_artifact = manifest.media_type.as_deref() == Some(ARTIFACT);
    let blobs = manifest.blobs.iter().filter(|_| is_artifact);
    let layers = manifest.layers.iter().chain(blobs).filter(|layer| is_local(layer));
    let size = |blob: &Descriptor| blob.size.as_ref().and_then(serde_json::Value::as_u64);
    let described = manifest.config.iter().chain(layers).map(|blob| (&blob.digest, size(blob)));
    let schema1 = manifest.schema1_layers.iter().map(|layer| (&layer.digest, None));
    let mut seen = HashSet::new();
    let mut blobs = Vec::new();
    for (digest, size) in described.chain(schema1) {
        if let Ok(digest) = digest.parse::<Digest>()
            && seen.insert(digest)
        {
            blobs.push(LocalBlob { digest, size: size.filter(|size| digest.may_have(*size)) });
        }
    }
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
        #[serde(default, deserialize_with = "null_as_empty")]
        manifests: Vec<Child>,
    }
    #[derive(Deserialize)]
    struct Child {
        digest: String,
    }
    let index: Index = serde_json::from_slice(manifest)?;
    let mut seen = HashSet::new();
    let digests = index.manifests.iter().filter_map(|child| child.digest.parse().ok());
    Ok(digests.filter(|digest| seen.insert(*digest)).collect())
}

/// Whether the registry stores a layer. For OCI types, the type decides; for docker's types, the URLs count
/// too.
fn is_local(layer: &Descriptor) -> bool {
    let named_elsewhere =
        [".foreign.", ".nondistributable."].iter().any(|mark| layer.media_type.contains(mark));
    let oci = layer.media_type.starts_with("application/vnd.oci.");
    !named_elsewhere && (oci || layer.urls.is_empty())
}

/// Go writes an empty list as `null`.
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

    #[test]
    fn garbage_is_an_error() {
        assert!(local_blobs(b"\x1f\x8b not json").is_err());
    }
}
