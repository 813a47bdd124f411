//! The checks that decide whether the demo worked.

use std::fmt::Display;

/// The results of the checks so far.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    passed: usize,
    failed: Vec<String>,
    claim: &'static str,
}

impl Checks {
    /// Sets the claim that the following checks prove: a sentence about the gateway.
    pub(crate) fn claim(&mut self, claim: &'static str) {
        self.claim = claim;
    }

    /// Records the result of a check, and returns whether it passed.
    pub(crate) fn check(
        &mut self,
        what: &str,
        expected: impl Display,
        seen: impl Display,
        passed: bool,
    ) -> bool {
        if passed {
            self.passed += 1;
        } else {
            let claim = self.claim;
            self.failed.push(format!("{what}: expected {expected}, got {seen}\n  it proves: {claim}"));
        }
        passed
    }

    /// Checks that two values are equal.
    pub(crate) fn equal<T: PartialEq + Display>(&mut self, what: &str, expected: T, seen: T) -> bool {
        let passed = expected == seen;
        self.check(what, expected, seen, passed)
    }

    /// The number of checks that passed.
    pub(crate) fn passed(&self) -> usize {
        self.passed
    }

    /// Messages for the checks that failed.
    pub(crate) fn failed(&self) -> &[String] {
        &self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_the_values_and_the_claim() {
        let mut checks = Checks::default();
        checks.claim("A cached blob is served from the cache.");
        assert!(checks.equal("blobs", 6, 6));
        assert!(!checks.equal("hits", 6, 4));
        let message = "hits: expected 6, got 4\n  it proves: A cached blob is served from the cache.";
        assert_eq!((checks.passed(), checks.failed()), (1, &[message.to_owned()][..]));
    }
}
