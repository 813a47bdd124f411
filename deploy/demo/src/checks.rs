//! What must be seen for the demo to have worked.

use std::fmt::Display;

/// Checks so far.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    held: usize,
    failed: Vec<String>,
    promise: &'static str,
}

impl Checks {
    /// What the checks from here on are about: a sentence about the gateway that a user relies on.
    pub(crate) fn promise(&mut self, promise: &'static str) {
        self.promise = promise;
    }

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
            let promise = self.promise;
            self.failed.push(format!("{what}: expected {expected}, seen {seen}\n  it is to show: {promise}"));
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
    fn a_failure_says_what_was_seen_and_what_it_means() {
        let mut checks = Checks::default();
        checks.promise("What is cached is served from the cache.");
        assert!(checks.equal("blobs", 6, 6));
        assert!(!checks.equal("hits", 6, 4));
        let said = "hits: expected 6, seen 4\n  it is to show: What is cached is served from the cache.";
        assert_eq!((checks.held(), checks.failed()), (1, &[said.to_owned()][..]));
    }
}
