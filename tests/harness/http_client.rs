//! The HTTP client of everything here.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// A connection that takes longer is refused.
const CONNECT: Duration = Duration::from_secs(5);

/// A client for plain HTTP on loopback that follows nothing.
///
/// # Errors
/// None in practice: it trusts nobody over TLS.
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
