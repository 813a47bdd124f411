//! The HTTP client through which credentials are fetched.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::{Request, Response};
use store_answers::Result;

/// Sends the requests of this crate. It follows no redirect.
#[async_trait]
pub trait Http: Debug + Send + Sync {
    /// Sends a request. The headers of the answer must arrive within `bound`.
    ///
    /// # Errors
    /// No answer arrives in time, or the connection breaks. The error contains `what`, which says what was attempted.
    async fn send(&self, what: &str, request: Request, bound: Duration) -> Result<Response>;

    /// Like [`Http::send`], to a service of this machine. It never uses a proxy: from a proxy, the service would give
    /// the credentials of the proxy's machine.
    ///
    /// # Errors
    /// The errors of [`Http::send`].
    async fn send_near(&self, what: &str, request: Request, bound: Duration) -> Result<Response>;

    /// Reads a short answer as a whole, within `bound`.
    ///
    /// # Errors
    /// The answer is too long, does not arrive in time, or breaks off.
    async fn read_whole(&self, what: &str, answer: Response, bound: Duration) -> Result<Bytes>;

    /// How long an answer of STS may take until its headers.
    fn answer_bound(&self) -> Duration;

    /// How long the body of an answer of STS may take.
    fn body_bound(&self) -> Duration;
}
