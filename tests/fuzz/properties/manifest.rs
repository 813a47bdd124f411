//! What holds for every manifest.

use std::collections::HashSet;

use registry::{children, linked_blobs, local_blobs};
use serde_json::Value;

/// The shortest entry with a digest: `{"digest":"sha256:<64>"}` and `{"blobSum":"sha256:<64>"}`, and a comma.
const ENTRY_BYTES_MIN: usize = 85;
/// The types whose manifests link blobs.
const TYPES: [&str; 2] =
    ["application/vnd.docker.distribution.manifest.v2+json", "application/vnd.oci.image.manifest.v1+json"];
const LINKS_MAX: usize = 16;

/// The input is a manifest. What is found is bounded by its bytes, and each digest occurs once. A layer of docker with
/// `urls`, and one of a foreign type, is not local, unless the same digest is named otherwise too. What is linked is local,
/// within the bound, and never named by a descriptor with `urls` only.
pub(crate) fn hold(input: &[u8]) {
    let Ok(local) = local_blobs(input) else {
        assert!(
            TYPES.iter().all(|kind| linked_blobs(kind, input, LINKS_MAX).is_none_or(|all| all.is_empty()))
        );
        return;
    };
    let digests: HashSet<_> = local.iter().map(|blob| blob.digest).collect();
    assert_eq!(digests.len(), local.len(), "a digest occurs twice");
    assert!(
        local.len() * ENTRY_BYTES_MIN <= input.len() + 1,
        "{} blobs of {} bytes",
        local.len(),
        input.len()
    );
    assert!(local.iter().all(|blob| blob.size.is_none_or(|size| blob.digest.may_have(size))));
    // What this parser refuses, such as deep nesting in keys without a meaning, is compared with nothing.
    let Ok(manifest) = serde_json::from_slice::<Value>(input) else { return };
    let [plain, strict] = [false, true].map(|strict| named(&manifest, strict));
    for blob in &local {
        assert!(plain.contains(&blob.digest.to_string()), "{} is named elsewhere only", blob.digest);
    }
    for kind in TYPES {
        let linked = linked_blobs(kind, input, LINKS_MAX).unwrap_or_default();
        assert!(linked.len() <= LINKS_MAX);
        for digest in linked {
            assert!(digests.contains(&digest), "{digest} is linked, but not local");
            assert!(strict.contains(&digest.to_string()), "{digest} is linked, but may be elsewhere");
        }
    }
    if let Ok(children) = children(input) {
        let each: HashSet<_> = children.iter().collect();
        assert_eq!(each.len(), children.len(), "a child occurs twice");
        assert!(children.len() * ENTRY_BYTES_MIN <= input.len() + 1);
    }
}

/// The digests that descriptors without another place name. `strict`: as for links, where any `urls` is another place.
fn named(manifest: &Value, strict: bool) -> HashSet<String> {
    let lists =
        ["layers", "fsLayers", "blobs"].into_iter().filter_map(|key| manifest[key].as_array()).flatten();
    let lists = lists.filter(|entry| is_here(entry, strict));
    // The config is the registry's, whatever it says, but it is not linked if it may be elsewhere.
    let config = std::iter::once(&manifest["config"]).filter(|entry| !strict || is_here(entry, true));
    let digest =
        |entry: &Value| entry["digest"].as_str().or_else(|| entry["blobSum"].as_str()).map(str::to_owned);
    lists.chain(config).filter_map(digest).collect()
}

fn is_here(entry: &Value, strict: bool) -> bool {
    let kind = entry["mediaType"].as_str().unwrap_or_default();
    let foreign = kind.contains(".foreign.") || kind.contains(".nondistributable.");
    let has_urls = match &entry["urls"] {
        Value::Null => false,
        Value::Array(urls) => strict || !urls.is_empty(),
        _ => true,
    };
    !foreign && (!has_urls || (!strict && kind.starts_with("application/vnd.oci.")))
}
