//! What went wrong at a store, sorted by what it means to the one who chose it.

use std::fmt;
use std::time::Duration;

/// The longest word of a server that is kept, in characters: codes have 40 at most, ids 80.
const MAX_WORD: usize = 128;

/// The result of a store operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What an error means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The store knows us and says no, or does not know us: credentials, policy, bucket, clock.
    Denied,
    /// The store asks for fewer requests.
    Throttled {
        /// How long it asked us to wait, if it did.
        retry_after: Option<Duration>,
    },
    /// The store cannot be reached, broke off, or answered with a fault of its own (5xx).
    Unavailable,
    /// The store did not answer within a bound.
    Timeout,
    /// The bytes are not those that were promised: wrong length or digest.
    Corrupt,
    /// The request was wrong in a way that no retry mends: our fault or the configuration's.
    Invalid,
    /// The source of a `put` failed; the store that was written to is not to blame.
    Source,
    /// This process has no file descriptor, port or memory left to ask it; the store is not to blame.
    Exhausted,
}

/// An error of one store operation.
///
/// Holds no URL and no header: those may carry signatures.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    context: String,
    code: Option<String>,
    request_id: Option<String>,
    unknown_outcome: bool,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of this kind; `context` says what was attempted, in words for an operator.
    pub fn new(kind: Kind, context: impl Into<String>) -> Self {
        Self {
            kind,
            context: context.into(),
            code: None,
            request_id: None,
            unknown_outcome: false,
            cause: None,
        }
    }

    /// With the server's own error code, such as `SlowDown` or `503`.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(word(&code.into()));
        self
    }

    /// With the server's request id, for its operators.
    #[must_use]
    pub fn with_request_id(mut self, id: Option<String>) -> Self {
        self.request_id = id.as_deref().map(word);
        self
    }

    /// With what caused it. The cause must not print URLs or headers.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Of a write whose last step was sent, and that may still make the object appear.
    #[must_use]
    pub fn with_unknown_outcome(mut self) -> Self {
        self.unknown_outcome = true;
        self
    }

    /// The same once more, for one more of those who waited for one answer.
    pub(crate) fn again(&self) -> Self {
        let cause = self.cause.as_deref().map(|cause| {
            let mut text = cause.to_string();
            let mut next = cause.source();
            while let Some(error) = next {
                text.push_str(&format!(": {error}"));
                next = error.source();
            }
            text.into()
        });
        Self {
            kind: self.kind,
            context: self.context.clone(),
            code: self.code.clone(),
            request_id: self.request_id.clone(),
            unknown_outcome: self.unknown_outcome,
            cause,
        }
    }

    /// What it means.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The server's own error code, if it gave one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// Whether a write may have made the object appear all the same, or still may. What is then seen at the
    /// key counts only after it was read: a store may show an object that it cannot give.
    #[must_use]
    pub fn has_unknown_outcome(&self) -> bool {
        self.unknown_outcome
    }

    /// Whether the same request may succeed later without anyone mending anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self.kind,
            Kind::Throttled { .. } | Kind::Unavailable | Kind::Timeout | Kind::Source | Kind::Exhausted
        )
    }

    /// Whether it says something about the health of the store.
    #[must_use]
    pub fn counts_against_store(&self) -> bool {
        matches!(self.kind, Kind::Unavailable | Kind::Timeout | Kind::Corrupt)
    }
}

/// What somebody else has said, on one line and no longer than a word.
pub(crate) fn word(text: &str) -> String {
    text.chars().take(MAX_WORD).map(|c| if c.is_control() { '?' } else { c }).collect()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meaning = match self.kind {
            Kind::Denied => "denied",
            Kind::Throttled { .. } => "throttled",
            Kind::Unavailable => "unavailable",
            Kind::Timeout => "timed out",
            Kind::Corrupt => "wrong bytes",
            Kind::Invalid => "invalid",
            Kind::Source => "source failed",
            Kind::Exhausted => "not asked: this machine is out of descriptors, ports or memory",
        };
        write!(f, "{}: {meaning}", self.context)?;
        if let Some(code) = &self.code {
            write!(f, " ({code})")?;
        }
        if let Some(id) = &self.request_id {
            write!(f, " [request {id}]")?;
        }
        let mut cause = self.cause.as_deref().map(|c| c as &dyn std::error::Error);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

// The whole chain is in `Display`, so `source` stays empty: printed once, wherever it is printed.
impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever answers has a say in the log, and not more than that.
    #[test]
    fn what_a_server_says_is_short_and_on_one_line() {
        let long = format!("Slow\nDown\u{1b}[31m{}", "é".repeat(1 << 20));
        let error = Error::new(Kind::Unavailable, "get").with_code(&*long).with_request_id(Some(long));
        let said = error.to_string();
        assert!(said.starts_with("get: unavailable (Slow?Down?[31mé"), "{said}");
        assert!(said.len() < 1000 && !said.contains(char::is_control), "{said}");
        assert_eq!(Error::new(Kind::Denied, "get").with_code("NoSuchBucket").code(), Some("NoSuchBucket"));
    }
}
