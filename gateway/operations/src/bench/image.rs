//! The blobs that the registry has for an image.

use anyhow::Context as _;
use backends::Digest;
use serde::Deserialize;

use registry::service_account::Tokens;
use registry::{LocalBlob, RegistryClient, local_blobs};

use crate::images::{ImageName, read_manifest};

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Child>,
}

#[derive(Deserialize)]
struct Child {
    digest: String,
    #[serde(default)]
    platform: Platform,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Platform {
    os: String,
    architecture: String,
}

/// The blobs of an image. Of an image for several platforms, those for this machine, or else for the first.
///
/// # Errors
/// The image does not exist or may not be read, its manifest cannot be parsed, or the registry fails.
pub(super) async fn blobs(
    client: &RegistryClient,
    tokens: &Tokens,
    image: &ImageName,
    manifest_max: usize,
) -> anyhow::Result<Vec<LocalBlob>> {
    let manifest = read_manifest(client, tokens, image, &image.reference, manifest_max).await?;
    let manifest = match child(&manifest.bytes) {
        Some(digest) => read_manifest(client, tokens, image, &digest, manifest_max).await?,
        None => manifest,
    };
    local_blobs(&manifest.bytes).with_context(|| format!("{image}: its manifest cannot be parsed"))
}

/// The digest of the manifest in an index that this machine would pull. `None` if the manifest is not an index.
fn child(manifest: &[u8]) -> Option<String> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    };
    let index: Index = serde_json::from_slice(manifest).ok()?;
    let ours = |child: &&Child| child.platform.os == "linux" && child.platform.architecture == architecture;
    let child = index.manifests.iter().find(ours).or(index.manifests.first())?;
    // The digest becomes part of a path, so it must be valid.
    child.digest.parse::<Digest>().ok().map(|digest| digest.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_gives_a_child_for_linux() {
        let one = |os: &str, architecture: &str, text: &str| {
            let platform = serde_json::json!({"os": os, "architecture": architecture});
            serde_json::json!({"digest": Digest::of(text.as_bytes()).to_string(), "platform": platform})
        };
        let found = |children: &[serde_json::Value]| {
            child(serde_json::json!({"manifests": children}).to_string().as_bytes())
        };
        let here = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let children = [one("windows", here, "w"), one("linux", "none", "n"), one("linux", here, "h")];
        assert_eq!(found(&children), Some(Digest::of(b"h").to_string()));
        assert_eq!(found(&children[..2]), Some(Digest::of(b"w").to_string()));
        assert_eq!(found(&[serde_json::json!({"digest": "../../x"})]), None);
        assert_eq!(child(br#"{"layers": []}"#), None);
    }
}
