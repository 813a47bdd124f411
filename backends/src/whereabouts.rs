//! Where an object lies, told from one store to another that may copy it by itself.

use std::fmt;

use crate::Digest;

/// Where an object lies, as a store of the same kind understands it, at the same place and under the
/// same right. Holds no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Whereabouts {
    /// Of place and right: who has the same may copy.
    kin: Digest,
    /// Bucket or container and name, as they stand in a header.
    path: String,
    /// What its bytes are called there, where only these are to be copied.
    version: Option<String>,
}

impl Whereabouts {
    /// `kin` is of what stores share that may copy the object, such as the endpoint and the keys; `path`
    /// says where it is, as they put it.
    #[must_use]
    pub fn new(kin: Digest, path: String) -> Self {
        Self { kin, path, version: None }
    }

    /// Only as long as its bytes are called so there ([`Object::version`](crate::Object)). A weak name is none:
    /// it says what the bytes mean, not what they are.
    #[must_use]
    pub fn with_version(mut self, version: Option<String>) -> Self {
        self.version = version.filter(|version| !version.starts_with("W/"));
        self
    }

    /// What its bytes must be called, if that matters.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Whether the stores of both may copy each other's objects.
    #[must_use]
    pub fn is_kin(&self, other: &Self) -> bool {
        self.kin == other.kin
    }

    /// The object's path, for a store of this kin.
    #[must_use]
    pub fn path(&self, kin: Option<Digest>) -> Option<&str> {
        (kin == Some(self.kin)).then_some(&*self.path)
    }
}

impl fmt::Debug for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Whereabouts").field(&self.path).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_for_its_kin() {
        let there = Whereabouts::new(Digest::of(b"one"), "/bucket/key".into());
        assert_eq!(there.path(Some(Digest::of(b"one"))), Some("/bucket/key"));
        assert_eq!(there.path(Some(Digest::of(b"other"))), None);
        assert_eq!(there.path(None), None);
        assert_eq!(format!("{there:?}"), "Whereabouts(\"/bucket/key\")");
    }
}
