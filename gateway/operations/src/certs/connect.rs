//! `certs show --connect`: the certificates that a server sends.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use certificates::covers_host;
use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::show::{Roots, judged};
use super::shown::Shown;

/// The timeout for the connection and the handshake.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Shows the certificates that the server at `address` (`HOST:PORT`) sends for `server_name`, by default its host.
/// `ca` is a file of roots beside the system's. If the server cannot be verified, the handshake ends there.
///
/// # Errors
/// The server does not answer in time, or sends no certificate.
pub async fn served_by(address: &str, server_name: Option<&str>, ca: Option<&Path>) -> anyhow::Result<Shown> {
    certificates::install_provider();
    const FORM: &str = "--connect: write HOST:PORT";
    let (host, port) = address.rsplit_once(':').context(FORM)?;
    let (host, port) = (host.trim_matches(['[', ']']), port.parse::<u16>().context(FORM)?);
    let name = server_name.unwrap_or(host);
    let asked = ServerName::try_from(name.to_owned()).with_context(|| format!("{name} is no host name"))?;
    let roots = certificates::load_roots(&ca.map(Path::to_owned).into_iter().collect::<Vec<_>>())?;
    let inner = WebPkiServerVerifier::builder(Arc::new(roots.clone())).build();
    let inner = inner.context("no root is known: give the CA with --ca")?;
    let recorder = Arc::new(Recorder { inner, chain: Mutex::default() });
    let verifier = Arc::clone(&recorder) as Arc<dyn ServerCertVerifier>;
    let config =
        ClientConfig::builder().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    let handshake = async {
        let stream = TcpStream::connect((host, port)).await?;
        TlsConnector::from(Arc::new(config)).connect(asked, stream).await.map(drop)
    };
    let done = tokio::time::timeout(TIMEOUT, handshake)
        .await
        .with_context(|| format!("{address} did not answer within {} s", TIMEOUT.as_secs()))?;
    let chain = std::mem::take(&mut *recorder.chain.lock());
    let Some(leaf) = chain.first() else {
        done.with_context(|| format!("no TLS with {address}"))?;
        anyhow::bail!("{address} sends no certificate");
    };
    let mut shown = judged(address.to_owned(), &chain, &Roots::AlsoSent(roots))?;
    if !covers_host(leaf, name) {
        shown.problems.push(format!("it is not for {name}: issue one with that name"));
    }
    match done {
        // The server signed the handshake.
        Ok(()) => shown.key_fits = Some(true),
        // The chain ends with a root that it brings itself.
        Err(error) if shown.is_good() => {
            shown.problems.push(format!("this machine does not verify it ({error}): give the CA with --ca"));
        }
        Err(_) => {}
    }
    Ok(shown)
}

/// Verifies a server as usual, and keeps what it sent.
#[derive(Debug)]
struct Recorder {
    inner: Arc<WebPkiServerVerifier>,
    chain: Mutex<Vec<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let all = std::iter::once(leaf).chain(rest);
        *self.chain.lock() = all.map(|der| der.clone().into_owned()).collect();
        self.inner.verify_server_cert(leaf, rest, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
