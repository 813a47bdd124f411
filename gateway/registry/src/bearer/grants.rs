//! What a verified token permits. Pure.

use std::borrow::Cow;

use crate::route::is_repository;

/// The namespace of a repository that is named without one (Quay's `LIBRARY_NAMESPACE`).
const LIBRARY: &str = "library";

/// The name of a repository with its namespace. Nothing else of a name is changed, as in Quay
/// (`util/names.py:parse_namespace_repository`): the text before the first slash is the namespace, even if it is the
/// registry's own host name.
#[must_use]
pub fn with_namespace(repository: &str) -> Cow<'_, str> {
    match repository.contains('/') {
        true => Cow::Borrowed(repository),
        false => Cow::Owned(format!("{LIBRARY}/{repository}")),
    }
}

/// The repositories that a token permits to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants(Vec<Box<str>>);

impl Grants {
    /// The repositories with these names. A name that Quay would change before it compares it (`unidecode`,
    /// `quote_plus`) is left out.
    pub(super) fn of(names: impl Iterator<Item = String>) -> Self {
        let plain = names.filter(|name| is_repository(name));
        Self(plain.map(|name| with_namespace(&name).into_owned().into_boxed_str()).collect())
    }

    /// Whether this repository may be read. Its name is compared with its namespace.
    #[must_use]
    pub fn may_pull(&self, repository: &str) -> bool {
        let name = with_namespace(repository);
        self.0.iter().any(|granted| **granted == *name)
    }

    /// The bytes of memory that the names take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|name| size_of::<Box<str>>() + name.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(names: &[&str]) -> Grants {
        Grants::of(names.iter().map(|name| (*name).to_owned()))
    }

    #[test]
    fn names_are_compared_as_quay_compares_them() {
        for (granted, asked, may) in [
            ("o/a", "o/a", true),
            ("o/a", "o/a/b", false),
            ("o/a/b/c", "o/a/b/c", true),
            ("a", "a", true),
            ("a", "library/a", true),
            ("library/a", "a", true),
            ("o/a", "a", false),
            ("O/a", "o/a", false),
            // The host name is the namespace then.
            ("quay.example.com/o/a", "o/a", false),
            ("quay.example.com/o/a", "quay.example.com/o/a", true),
            // Quay removes the last slash. Here such a name permits nothing.
            ("o/a/", "o/a", false),
            ("o//a", "o//a", false),
            ("o/\u{e4}", "o/a", false),
            ("", "", false),
            ("o/..", "o/..", false),
            ("localhost:5000/o/a", "localhost:5000/o/a", false),
        ] {
            assert_eq!(grants(&[granted]).may_pull(asked), may, "{granted:?} {asked:?}");
        }
        assert!(!grants(&[]).may_pull("o/a"));
    }
}
