//! Where an object lies, told from one store to another that may copy it by itself.

use std::fmt;

use crate::Digest;

/// Where an object lies, in the words of its store, for a server-side copy. Contains no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct CopySource {
    /// Identifies the server and the account: stores with the same scope may copy each other's objects.
    scope: Digest,
    /// Bucket or container and name, as they stand in a header.
    path: String,
}

impl CopySource {
    /// `scope` is the digest of what stores must share to copy each other's objects, such as the endpoint
    /// and the keys; `path` is the object's path as the store writes it.
    #[must_use]
    pub fn new(scope: Digest, path: String) -> Self {
        Self { scope, path }
    }

    /// Whether the stores of both may copy each other's objects.
    #[must_use]
    pub fn shares_scope(&self, other: &Self) -> bool {
        self.scope == other.scope
    }

    /// The object's path, for a store of the same scope.
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
