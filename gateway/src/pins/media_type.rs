//! The media type of a manifest that was read without the headers of its answer.

use serde::Deserialize;

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
