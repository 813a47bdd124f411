//! The HTTP client of the harness.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// The timeout for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// A client for plain HTTP on loopback that follows no redirects.
///
/// # Errors
/// The client cannot be built.
pub fn http_client() -> Result<reqwest::Client> {
    let tls = crate::certs::client_config(&[])?;
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT)
        .build()
        .context("an HTTP client")
}
