//! Object keys.

use std::fmt;

use crate::{Error, Kind, Result};

/// The name of an object below a store's root, such as `sha256/ab/abcd…`.
///
/// How root and key are joined is each driver's own rule, as it is Quay's.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    /// A key as given; it must not start with `/`.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key as text, if it can be a key everywhere.
    pub(crate) fn checked(&self) -> Result<&str> {
        if self.0.is_empty() || self.0.starts_with('/') || self.0.contains('\0') || climbs(&self.0) {
            let why =
                format!("{:?} is not a key: it is empty, starts with `/`, or has `.` or `..` in it", self.0);
            return Err(Error::new(Kind::Invalid, why));
        }
        Ok(&self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a path has segments that URLs and file systems resolve instead of taking them as names.
pub(crate) fn climbs(path: &str) -> bool {
    path.split('/').any(|segment| matches!(segment, "." | ".."))
}

/// `root` and `path` joined as Python's `os.path.join` does for a relative `path`.
pub(crate) fn join(root: &str, path: &str) -> String {
    if root.is_empty() || root.ends_with('/') { format!("{root}{path}") } else { format!("{root}/{path}") }
}

/// The key that a name stands for, if it lies below `root` (with its slash).
pub(crate) fn below(root: &str, name: &str) -> Option<Key> {
    name.strip_prefix(root).filter(|key| !key.is_empty()).map(Key::new)
}
