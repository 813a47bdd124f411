//! What must be seen for the demo to have worked.

use std::fmt::Display;

/// Checks so far.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    held: usize,
    failed: Vec<String>,
}

impl Checks {
    /// Notes whether something was seen as expected, and passes it on.
    pub(crate) fn that(
        &mut self,
        what: &str,
        expected: impl Display,
        seen: impl Display,
        held: bool,
    ) -> bool {
        if held {
            self.held += 1;
        } else {
            self.failed.push(format!("{what}: expected {expected}, seen {seen}"));
        }
        held
    }

    /// The same for equal things.
    pub(crate) fn equal<T: PartialEq + Display>(&mut self, what: &str, expected: T, seen: T) -> bool {
        let held = expected == seen;
        self.that(what, expected, seen, held)
    }

    /// How many held.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Those that did not, in words.
    pub(crate) fn failed(&self) -> &[String] {
        &self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_was_seen() {
        let mut checks = Checks::default();
        assert!(checks.equal("blobs", 6, 6));
        assert!(!checks.equal("hits", 6, 4));
        assert_eq!((checks.held(), checks.failed()), (1, &["hits: expected 6, seen 4".to_owned()][..]));
    }
}
