//! `certs show --connect`: the certificates that a server sends.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use certificates::covers_host;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::show::judged;
use super::shown::Shown;

/// The timeout for the connection and the handshake.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Shows the certificates that the server at `address` (`HOST:PORT`) sends for `server_name`, by default its host.
/// `ca` is a file of roots beside the system's. Nothing is sent to the server beyond the handshake.
///
/// # Errors
/// The server does not answer in time, or the handshake fails.
pub async fn served_by(
    address: &str,
    server_name: Option<&str>,
    ca: Option<&std::path::Path>,
) -> anyhow::Result<Shown> {
    certificates::install_provider();
    let (host, port) = address.rsplit_once(':').context("--connect: write HOST:PORT")?;
    let host = host.trim_matches(['[', ']']);
    let port: u16 = port.parse().context("--connect: write HOST:PORT")?;
    let name = server_name.unwrap_or(host);
    let asked = ServerName::try_from(name.to_owned()).with_context(|| format!("{name} is no host name"))?;
    let provider = CryptoProvider::get_default().context("no TLS provider is installed")?;
    let config = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Shows(Arc::clone(provider))))
        .with_no_client_auth();
    let handshake = async {
        let stream = TcpStream::connect((host, port)).await?;
        TlsConnector::from(Arc::new(config)).connect(asked, stream).await
    };
    let stream = tokio::time::timeout(TIMEOUT, handshake)
        .await
        .with_context(|| format!("{address} did not answer within {} s", TIMEOUT.as_secs()))?
        .with_context(|| format!("no TLS with {address}"))?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
    let leaf = chain.first().with_context(|| format!("{address} sends no certificate"))?.clone();
    let roots = certificates::load_roots(&ca.map(std::path::Path::to_owned).into_iter().collect::<Vec<_>>())?;
    let mut shown = judged(address.to_owned(), &chain, &roots)?;
    // The server signed the handshake with it.
    shown.key_fits = Some(true);
    if !covers_host(&leaf, name) {
        shown.problems.push(format!("it is not for {name}: issue one with that name"));
    }
    Ok(shown)
}

/// Takes any certificate, so that it can be shown and judged. The server must have its key.
#[derive(Debug)]
struct Shows(Arc<CryptoProvider>);

impl ServerCertVerifier for Shows {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
