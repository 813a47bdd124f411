//! Why a request of the service account failed.

use http::StatusCode;

use super::tokens::NoToken;
use crate::answer::describe;
use crate::client::RegistryClient;
use crate::fetch::{FetchError, is_transient};
use crate::upstream::Answer;
use gateway_http::Problem;

/// Why the service account could not read something. The text contains no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The thing does not exist.
    #[error("it does not exist: {0}")]
    Absent(String),
    /// The account may not see it, or the repository does not exist. Quay gives the same answer to both.
    #[error("registry.account may not see it: {0}")]
    Denied(String),
    /// The registry is slow, fails, or asks for fewer requests. The same request may succeed later.
    #[error("the registry is busy or does not answer: {0}")]
    Busy(String),
    /// The answer cannot be understood.
    #[error("{0}")]
    Odd(String),
}

impl ReadError {
    /// The meaning of an answer that is not a success.
    pub(super) async fn of(answer: Answer) -> Self {
        let status = answer.status();
        let said = describe(answer).await;
        match status {
            StatusCode::NOT_FOUND => Self::Absent(said),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Self::Denied(said),
            status if is_transient(status) => Self::Busy(said),
            _ => Self::Odd(said),
        }
    }

    /// The meaning of a failed fetch of a blob.
    pub(super) async fn of_fetch(client: &RegistryClient, error: FetchError) -> Self {
        let retry = error.may_retry();
        match error {
            FetchError::Refused(answer) => Self::of(*answer).await,
            error if retry => Self::Busy(client.explain(error).await),
            error => Self::Odd(client.explain(error).await),
        }
    }
}

impl From<Problem> for ReadError {
    fn from(problem: Problem) -> Self {
        Self::Busy(problem.message)
    }
}

impl From<NoToken> for ReadError {
    fn from(error: NoToken) -> Self {
        match error.is_refused() {
            true => Self::Denied(error.to_string()),
            false => Self::Busy(error.to_string()),
        }
    }
}
