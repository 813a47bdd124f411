//! Why the registry did not give the gateway's own account what it asked for.

use http::StatusCode;

use super::door::said;
use super::token::NoToken;
use crate::upstream::Answer;

/// Why something was not had. Holds no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// It is not there.
    #[error("it is not there: {0}")]
    Absent(String),
    /// The account may not see it, or there is no such repository: Quay says the same of both.
    #[error("registry.account may not see it: {0}")]
    Denied(String),
    /// The registry is slow, fails, or asks for fewer requests.
    #[error("the registry has no time for it: {0}")]
    Busy(String),
    /// What came is not understood.
    #[error("{0}")]
    Odd(String),
}

impl Trouble {
    /// What an answer that is no success means.
    pub(super) async fn of(answer: Answer) -> Self {
        let status = answer.status();
        let said = said(answer).await;
        match status {
            StatusCode::NOT_FOUND => Self::Absent(said),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Self::Denied(said),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Self::Busy(said),
            status if status.is_server_error() => Self::Busy(said),
            _ => Self::Odd(said),
        }
    }
}

impl From<NoToken> for Trouble {
    fn from(error: NoToken) -> Self {
        match error.is_refused() {
            true => Self::Denied(error.to_string()),
            false => Self::Busy(error.to_string()),
        }
    }
}
