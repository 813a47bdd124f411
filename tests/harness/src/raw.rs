//! Connections to a gateway for tests that need what no client library does.

use std::sync::Arc;

use anyhow::Result;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::gateway::Gateway;

/// A TLS configuration that trusts the gateway's own authority and offers one protocol: `h2` or `http/1.1`.
///
/// # Errors
/// The gateway has no authority of its own.
pub fn trusting(gateway: &Gateway, protocol: &str) -> Result<rustls::ClientConfig> {
    let root = std::fs::read_to_string(gateway.authority_file())?;
    let mut config = crate::certs::client_config(&[&root])?;
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Ok(config)
}

/// A client with one protocol and its own connections.
///
/// # Errors
/// The errors of [`trusting`].
pub fn client(gateway: &Gateway, protocol: &str) -> Result<reqwest::Client> {
    let tls = trusting(gateway, protocol)?;
    Ok(reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build()?)
}

/// A connection after its handshake.
///
/// # Errors
/// The gateway cannot be reached, or the handshake fails.
pub async fn connect(gateway: &Gateway, tls: rustls::ClientConfig) -> Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(gateway.address()).await?;
    Ok(TlsConnector::from(Arc::new(tls)).connect(ServerName::try_from("localhost")?, tcp).await?)
}
