//! Object keys.

use std::fmt;

use crate::{Error, Kind, Result};

/// The name of an object below a store's root, such as `sha256/ab/abcd…`.
///
/// Each driver joins root and key by the same rule as Quay's driver.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    /// A key from its text. The text must not start with `/`.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key as text, if it is valid in every store.
    pub(crate) fn checked(&self) -> Result<&str> {
        if self.0.is_empty() || self.0.starts_with('/') || self.0.contains('\0') || has_dot_segment(&self.0) {
            let why = format!(
                "{:?} is not a valid key: it is empty, starts with `/`, or contains `.` or `..`",
                self.0
            );
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

/// Whether a path has a `.` or `..` segment, which URLs and file systems resolve instead of using as a name.
pub(crate) fn has_dot_segment(path: &str) -> bool {
    path.split('/').any(|segment| matches!(segment, "." | ".."))
}

/// Joins `root` and `path` as Python's `os.path.join` does for a relative `path`.
pub(crate) fn join(root: &str, path: &str) -> String {
    if root.is_empty() || root.ends_with('/') { format!("{root}{path}") } else { format!("{root}/{path}") }
}

/// The key of an object's full name, if it lies below `root`. `root` ends with a slash.
pub(crate) fn below(root: &str, name: &str) -> Option<Key> {
    name.strip_prefix(root).filter(|key| !key.is_empty()).map(Key::new)
}
