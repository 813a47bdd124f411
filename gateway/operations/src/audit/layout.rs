//! The keys of blobs below a zone's root, and the other keys that a registry writes. Pure.

use std::sync::Arc;

use backends::{Digest, Key};

use config::RegistryKind;
use registry::Registry;

/// The steps of an audit, one for each first byte of a digest. Digests are evenly distributed, so each step has
/// 1/256 of all blobs.
pub(super) const STEPS: u16 = 256;

/// What Quay writes besides blobs (`storage/basestorage.py`, `config.py:USERFILES_PATH` and similar keys): parts
/// of uploads, Swift's segments, the health marker, build contexts, archived logs, and layers from before blobs
/// had keys by digest.
const QUAY_PREFIXES: &[&str] =
    &["uploads/", "segments/", "_verify", "userfiles/", "logarchive/", "actionlogarchive/", "sharedimages/"];

/// What distribution writes besides blobs (`registry/storage/paths.go`).
const DISTRIBUTION_PREFIXES: &[&str] = &["docker/registry/v2/repositories/", "_verify"];

/// The layout of a registry's storage.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    registry: Arc<dyn Registry>,
    others: &'static [&'static str],
}

impl Layout {
    pub(super) fn new(kind: RegistryKind, registry: Arc<dyn Registry>) -> Self {
        let others = match kind {
            RegistryKind::Quay => QUAY_PREFIXES,
            // Without zones, nothing is listed.
            RegistryKind::Distribution | RegistryKind::Oci => DISTRIBUTION_PREFIXES,
        };
        Self { registry, others }
    }

    /// The prefix of the keys of blobs whose digest begins with this byte, such as `sha256/ab/`.
    pub(super) fn prefix(&self, first: u8) -> String {
        let (hex, key) = (Digest::EMPTY.hex(), self.registry.blob_key(&Digest::EMPTY));
        let folder = key.as_str().split(&hex).next().unwrap_or_default();
        let above = folder.strip_suffix(&format!("{}/", &hex[..2])).unwrap_or(folder);
        format!("{above}{first:02x}/")
    }

    /// The key of a blob.
    pub(super) fn key(&self, digest: &Digest) -> Key {
        self.registry.blob_key(digest)
    }

    /// The digest of the blob with this key. `None` if it is not the key of a blob.
    pub(super) fn digest(&self, key: &Key) -> Option<Digest> {
        let hex = key.as_str().rsplit('/').find(|segment| segment.len() == 64)?;
        let digest: Digest = format!("sha256:{hex}").parse().ok()?;
        (self.registry.blob_key(&digest) == *key).then_some(digest)
    }

    /// Whether the key is below the prefix of a step.
    pub(super) fn is_in_step(&self, key: &Key) -> bool {
        let zeroth = self.prefix(0);
        let above = &zeroth[..zeroth.len() - "00/".len()];
        let Some((byte, _)) = key.as_str().strip_prefix(above).and_then(|rest| rest.split_once('/')) else {
            return false;
        };
        byte.len() == 2 && byte.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
    }

    /// Whether the registry writes this key, for a blob or for something else.
    pub(super) fn is_known(&self, key: &Key) -> bool {
        self.others.iter().any(|other| match other.ends_with('/') {
            true => key.as_str().starts_with(other),
            false => key.as_str() == *other,
        }) || self.digest(key).is_some()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use registry::of_kind;

    pub(in super::super) fn layout(kind: RegistryKind) -> Layout {
        Layout::new(kind, of_kind(kind))
    }

    proptest! {
        #[test]
        fn every_blob_lies_in_one_step(bytes: [u8; 8]) {
            let digest = Digest::of(&bytes);
            for kind in [RegistryKind::Quay, RegistryKind::Distribution] {
                let layout = layout(kind);
                let key = layout.registry.blob_key(&digest);
                let in_steps: Vec<_> = (0..STEPS)
                    .filter(|step| key.as_str().starts_with(&layout.prefix(*step as u8)))
                    .collect();
                prop_assert_eq!(in_steps.len(), 1);
                prop_assert_eq!(format!("{:02x}", in_steps[0]), digest.hex()[..2].to_owned());
                prop_assert_eq!(layout.digest(&key), Some(digest));
                prop_assert!(layout.is_known(&key) && layout.is_in_step(&key));
            }
        }
    }

    #[test]
    fn keys_that_the_registry_does_not_write() {
        let quay = layout(RegistryKind::Quay);
        let hex = Digest::EMPTY.hex();
        for key in ["_verify", "uploads/0f", "segments/a/000", "sharedimages/u/layer"] {
            assert!(quay.is_known(&Key::new(key)), "{key}");
        }
        let of_others = [
            "sha256/e3/x".to_owned(),
            format!("sha256/e4/{hex}"),
            format!("sha256/e3/{}", hex.to_uppercase()),
            format!("sha256/e3/{hex}/data"),
            format!("sha512/e3/{hex}"),
            "_verify/x".to_owned(),
            "uploads".to_owned(),
        ];
        for key in of_others {
            assert!(!quay.is_known(&Key::new(key.clone())), "{key}");
            // The steps of the audit list these.
            assert_eq!(quay.is_in_step(&Key::new(key.clone())), key.starts_with("sha256/e"), "{key}");
        }
        for key in ["sha256/zz/x", "sha256/E3/x", "sha256/e3", "sha256/abc/x"] {
            assert!(!quay.is_known(&Key::new(key)) && !quay.is_in_step(&Key::new(key)), "{key}");
        }
    }
}
