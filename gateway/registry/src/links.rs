//! The blobs that a manifest proves to be in its repository. Pure.

use std::collections::HashSet;

use backends::Digest;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::object::Object;

/// The types of manifests whose blobs the registry has checked one by one when it took the manifest.
const TYPES: [&str; 2] =
    ["application/vnd.docker.distribution.manifest.v2+json", "application/vnd.oci.image.manifest.v1+json"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u64,
    #[serde(default)]
    media_type: Option<String>,
    config: Object<Descriptor>,
    layers: Vec<Object<Descriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    /// Whatever it is: with this key, the bytes may be elsewhere.
    #[serde(default)]
    urls: Option<IgnoredAny>,
}

impl Descriptor {
    /// The digest, if every registry looks for these bytes in its own store. Quay passes over docker's layers with
    /// `urls` and over OCI's layers of a nondistributable type (`local_blob_digests` in
    /// `image/docker/schema2/manifest.py` and `image/oci/manifest.py`). What either of them passes over is left out, so
    /// that no mixture of the two counts.
    fn linked(&self) -> Option<Digest> {
        let elsewhere = [".foreign.", ".nondistributable."].iter().any(|mark| self.media_type.contains(mark));
        if elsewhere || self.urls.is_some() { None } else { self.digest.parse().ok() }
    }
}

/// The blobs that belong to the repository of this manifest, because the registry served it under this content type:
/// the config and the local layers of an image. They are fewer than [`local_blobs`](crate::local_blobs): anything that a
/// registry may not have checked is left out, such as `urls`, `subject`, the manifests of an index, and schema 1, which
/// Quay makes up by conversion. `None` if the manifest proves nothing, or names more than `max` blobs.
#[must_use]
pub fn linked_blobs(content_type: &str, manifest: &[u8], max: usize) -> Option<Vec<Digest>> {
    let content_type = content_type.split(';').next()?.trim();
    if !TYPES.contains(&content_type) {
        return None;
    }
    // The parser does not look at the bytes of text that it skips.
    let manifest = std::str::from_utf8(manifest).ok()?;
    let Object(manifest): Object<Manifest> = serde_json::from_str(manifest).ok()?;
    let same_type = manifest.media_type.as_deref().is_none_or(|written| written == content_type);
    if manifest.schema_version != 2 || !same_type || manifest.layers.len() >= max {
        return None;
    }
    let mut seen = HashSet::new();
    let all = std::iter::once(&manifest.config).chain(&manifest.layers);
    Some(all.filter_map(|Object(blob)| blob.linked()).filter(|digest| seen.insert(*digest)).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const DOCKER: &str = TYPES[0];
    const OCI: &str = TYPES[1];
    const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

    fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    fn blob(media_type: &str, name: &str, more: &[(&str, Value)]) -> Value {
        let mut blob = json!({"mediaType": media_type, "digest": digest(name).to_string(), "size": 3});
        for (key, value) in more {
            blob[key] = value.clone();
        }
        blob
    }

    fn image(layers: &[Value]) -> Value {
        let config = blob("application/vnd.oci.image.config.v1+json", "config", &[]);
        json!({"schemaVersion": 2, "config": config, "layers": layers})
    }

    fn linked(content_type: &str, manifest: &Value) -> Option<Vec<Digest>> {
        linked_blobs(content_type, manifest.to_string().as_bytes(), 100)
    }

    #[test]
    fn the_config_and_local_layers_are_linked() {
        let layers =
            [blob(OCI_LAYER, "one", &[]), blob(DOCKER_LAYER, "two", &[]), blob(OCI_LAYER, "one", &[])];
        let expected = Some(vec![digest("config"), digest("one"), digest("two")]);
        assert_eq!(linked(OCI, &image(&layers)), expected);
        assert_eq!(linked(DOCKER, &image(&layers)), expected);
        assert_eq!(linked(&format!("{OCI}; charset=utf-8"), &image(&layers)), expected);
    }

    /// Whoever may push can name a stranger's digest there.
    #[test]
    fn what_a_registry_does_not_check_links_nothing() {
        let urls = json!(["https://example.com/layer"]);
        for layer in [
            blob(DOCKER_LAYER, "private", &[("urls", urls.clone())]),
            blob(OCI_LAYER, "private", &[("urls", urls.clone())]),
            blob(OCI_LAYER, "private", &[("urls", json!("x"))]),
            blob("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "private", &[("urls", urls)]),
            blob("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "private", &[]),
            blob("application/vnd.oci.image.layer.nondistributable.v1.tar", "private", &[]),
            blob("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", "private", &[]),
        ] {
            for content_type in TYPES {
                assert_eq!(
                    linked(content_type, &image(std::slice::from_ref(&layer))),
                    Some(vec![digest("config")]),
                    "{layer}"
                );
            }
        }
        let mut subject = image(&[]);
        subject["subject"] = blob(OCI, "private", &[]);
        subject["blobs"] = json!([blob(OCI_LAYER, "private", &[])]);
        subject["manifests"] = json!([blob(OCI, "private", &[])]);
        subject["fsLayers"] = json!([{"blobSum": digest("private").to_string()}]);
        assert_eq!(linked(OCI, &subject), Some(vec![digest("config")]));
    }

    #[test]
    fn other_manifests_prove_nothing() {
        let good = image(&[blob(OCI_LAYER, "one", &[])]);
        for content_type in [
            "",
            "application/json",
            "application/vnd.oci.image.index.v1+json",
            "application/vnd.docker.distribution.manifest.list.v2+json",
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            "application/vnd.oci.artifact.manifest.v1+json",
        ] {
            assert_eq!(linked(content_type, &good), None, "{content_type}");
        }
        let with = |key: &str, value: Value| {
            let mut manifest = good.clone();
            manifest[key] = value;
            manifest
        };
        for bad in [
            with("schemaVersion", json!(1)),
            with("schemaVersion", json!("2")),
            with("mediaType", json!(DOCKER)),
            with("layers", Value::Null),
            with("layers", json!([["application/x", digest("a").to_string()]])),
            with("config", Value::Null),
            json!([2, null, {}, []]),
        ] {
            assert_eq!(linked(OCI, &bad), None, "{bad}");
        }
        assert!(linked(OCI, &with("mediaType", json!(OCI))).is_some());
        let text = good.to_string();
        let twice = format!(r#"{{"layers":[],{}"#, &text[1..]);
        assert_eq!(linked_blobs(OCI, twice.as_bytes(), 100), None, "Python reads the last one");
        let digests = text.replace(r#""size":3"#, &format!(r#""size":3,"digest":"{}""#, digest("x")));
        assert_eq!(linked_blobs(OCI, digests.as_bytes(), 100), None);
        assert_eq!(linked_blobs(OCI, b"\x1f\x8b", 100), None);
    }

    #[test]
    fn blobs_are_bounded_and_have_plain_digests() {
        let many: Vec<_> = (0..100).map(|at| blob(OCI_LAYER, &at.to_string(), &[])).collect();
        assert_eq!(linked(OCI, &image(&many)), None);
        assert_eq!(linked(OCI, &image(&many[..99])).map(|all| all.len()), Some(100));
        for odd in ["sha512:aa", "sha256:AA", "../x", ""] {
            let layer = json!({"mediaType": OCI_LAYER, "digest": odd, "size": 3});
            assert_eq!(linked(OCI, &image(&[layer])), Some(vec![digest("config")]), "{odd}");
        }
    }
}
