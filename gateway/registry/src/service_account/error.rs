//! Why the registry did not give the service account what it asked for.

use http::StatusCode;

use super::tokens::NoToken;
use crate::answer::describe;
use crate::client::RegistryClient;
use crate::fetch::{FetchError, is_transient};
use crate::upstream::Answer;
use gateway_http::Problem;

/// Why the service account read nothing. No token is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is not there.
    #[error("it is not there: {0}")]
    Absent(String),
    /// The account may not see it, or there is no such repository: Quay answers both alike.
    #[error("registry.account may not see it: {0}")]
    Denied(String),
    /// The registry is slow, fails, or asks for fewer requests. The same request may succeed later.
    #[error("the registry has no time for it: {0}")]
    Busy(String),
    /// The answer is not understood.
    #[error("{0}")]
    Odd(String),
}

impl ReadError {
    /// What an answer that is no success means.
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

    /// What a blob that was not fetched means.
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
