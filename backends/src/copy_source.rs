//! The location of an object, so that another store can copy the object by itself.

use std::fmt;

use crate::Digest;

/// The location of an object in its store's notation, for a server-side copy. It contains no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct CopySource {
    /// Identifies the server and the account. Stores with the same scope can copy each other's objects.
    scope: Digest,
    /// Bucket or container, and object name, in the form of the request header.
    path: String,
    /// If set, only this version of the object may be copied.
    version: Option<String>,
}

impl CopySource {
    /// `scope` is the digest of what two stores must share to copy each other's objects, such as the endpoint
    /// and the access keys. `path` is the object's path in the store's notation.
    #[must_use]
    pub fn new(scope: Digest, path: String) -> Self {
        Self { scope, path, version: None }
    }

    /// Restricts the copy to this version of the object ([`Object::version`](crate::Object)). A weak entity
    /// tag is ignored, because it does not identify the exact bytes.
    #[must_use]
    pub fn with_version(mut self, version: Option<String>) -> Self {
        self.version = version.filter(|version| !version.starts_with("W/"));
        self
    }

    /// The version that the object must have, or `None` if any version may be copied.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Whether the stores of both sources can copy each other's objects.
    #[must_use]
    pub fn shares_scope(&self, other: &Self) -> bool {
        self.scope == other.scope
    }

    /// The object's path, if `scope` is the scope of this source.
    #[must_use]
    pub fn path(&self, scope: Option<Digest>) -> Option<&str> {
        (scope == Some(self.scope)).then_some(&*self.path)
    }
}

impl fmt::Debug for CopySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CopySource").field(&self.path).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_for_its_scope() {
        let there = CopySource::new(Digest::of(b"one"), "/bucket/key".into());
        assert_eq!(there.path(Some(Digest::of(b"one"))), Some("/bucket/key"));
        assert_eq!(there.path(Some(Digest::of(b"other"))), None);
        assert_eq!(there.path(None), None);
        assert_eq!(format!("{there:?}"), "CopySource(\"/bucket/key\")");
    }
}
