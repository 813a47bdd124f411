//! The one place where a manifest is learned that did not come for a client.

use bytes::Bytes;
use serde::Deserialize;

use crate::Gateway;
use crate::offline;

/// Remembers a manifest that the gateway read for a pin, for the time while the registry is away. It gives nobody a right to
/// read the repository.
pub(crate) fn learn(gateway: &Gateway, repository: &str, reference: &str, media_type: &str, bytes: &Bytes) {
    tracing::debug!(repository, reference, media_type, bytes = bytes.len(), "a manifest is learned");
    offline::learn_read(gateway, (repository, reference), media_type, bytes);
}

/// The media type of a manifest: the one that it names, or else that of OCI.
pub(super) fn media_type(manifest: &[u8]) -> String {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Named {
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    let Named { media_type, manifests } = serde_json::from_slice(manifest).unwrap_or_default();
    let usual = match manifests {
        Some(_) => "application/vnd.oci.image.index.v1+json",
        None => "application/vnd.oci.image.manifest.v1+json",
    };
    media_type.unwrap_or_else(|| usual.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_of_a_manifest() {
        for (manifest, expected) in [
            (r#"{"mediaType": "a/b", "manifests": []}"#, "a/b"),
            (r#"{"manifests": []}"#, "application/vnd.oci.image.index.v1+json"),
            (r#"{"layers": []}"#, "application/vnd.oci.image.manifest.v1+json"),
        ] {
            assert_eq!(media_type(manifest.as_bytes()), expected);
        }
    }
}
