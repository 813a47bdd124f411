//! Errors of stores, sorted by what they mean to the caller who chose the store.

use std::fmt;
use std::time::Duration;

/// The longest server-supplied text that is kept, in characters. Error codes have at most 40, request ids 80.
const MAX_WORD: usize = 128;

/// The code of a write that Swift dropped.
pub const DROPPED: &str = "202";

/// The result of a store operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The meaning of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The store refuses us or does not know us: credentials, policy, bucket or clock.
    Denied,
    /// The store asks for fewer requests.
    Throttled {
        /// How long the store asked us to wait, if it did.
        retry_after: Option<Duration>,
    },
    /// The store cannot be reached, broke the connection, or answered with a server error (5xx).
    Unavailable,
    /// The store did not answer within a timeout.
    Timeout,
    /// The bytes are not the expected ones: the length or the digest is wrong.
    Corrupt,
    /// The request is wrong, and a retry cannot succeed. The cause is the gateway or the configuration.
    Invalid,
    /// The source of a `put` failed. The store that was written to is not at fault.
    Source,
    /// This process has no file descriptor, port or memory left for the request. The store is not at fault.
    Exhausted,
}

/// An error of one store operation.
///
/// It contains no URL and no header, because those may contain signatures.
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
    /// An error of this kind. `context` says what was attempted, in words for an operator.
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

    /// Adds the server's own error code, such as `SlowDown` or `503`.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(word(&code.into()));
        self
    }

    /// Adds the server's request id, for the operators of the store.
    #[must_use]
    pub fn with_request_id(mut self, id: Option<String>) -> Self {
        self.request_id = id.as_deref().map(word);
        self
    }

    /// Adds the cause. The cause must not print URLs or headers.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Marks the error of a write whose last step was sent, so that the object may still appear.
    #[must_use]
    pub fn with_unknown_outcome(mut self) -> Self {
        self.unknown_outcome = true;
        self
    }

    /// A copy of this error, for another caller that waited for the same answer.
    pub fn again(&self) -> Self {
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

    /// The meaning of the error.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The server's own error code, if it sent one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// Whether the object of a failed write may exist, or may still appear. If the key then shows an object,
    /// it counts only after it was read: a store may list an object that it cannot return.
    #[must_use]
    pub fn has_unknown_outcome(&self) -> bool {
        self.unknown_outcome
    }

    /// Whether the same request may succeed later although nobody repairs anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self.kind,
            Kind::Throttled { .. } | Kind::Unavailable | Kind::Timeout | Kind::Source | Kind::Exhausted
        )
    }

    /// Whether the store refuses only this write, because of another write to the same key. The next write may succeed.
    #[must_use]
    pub fn concerns_one_object(&self) -> bool {
        matches!(self.kind, Kind::Throttled { .. })
            && matches!(self.code(), Some(DROPPED | "OperationAborted" | "ConditionalRequestConflict"))
    }

    /// Whether the error says something about the health of the store.
    #[must_use]
    pub fn counts_against_store(&self) -> bool {
        matches!(self.kind, Kind::Unavailable | Kind::Timeout | Kind::Corrupt)
    }
}

/// A text from a server on one line, cut to `MAX_WORD` characters.
pub fn word(text: &str) -> String {
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

// `Display` prints the whole chain of causes. `source` returns nothing, so that no cause is printed twice.
impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The server controls this text, so its length and form are limited.
    #[test]
    fn a_text_from_a_server_is_short_and_on_one_line() {
        let long = format!("Slow\nDown\u{1b}[31m{}", "é".repeat(1 << 20));
        let error = Error::new(Kind::Unavailable, "get").with_code(&*long).with_request_id(Some(long));
        let said = error.to_string();
        assert!(said.starts_with("get: unavailable (Slow?Down?[31mé"), "{said}");
        assert!(said.len() < 1000 && !said.contains(char::is_control), "{said}");
        assert_eq!(Error::new(Kind::Denied, "get").with_code("NoSuchBucket").code(), Some("NoSuchBucket"));
    }
}
