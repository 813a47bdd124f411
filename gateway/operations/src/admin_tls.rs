//! TLS to the admin API. A command dials an address, but the certificate is for the name that clients dial.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use config::{Settings, bare_host};
use reqwest::ClientBuilder;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use url::Url;

/// How a command verifies the gateway.
#[derive(Debug, Clone)]
pub struct AdminTls {
    /// The host that the certificate must be for. By default, the address that is dialled.
    name: Option<String>,
    /// Files of roots, beside the system's.
    roots: Vec<PathBuf>,
}

impl AdminTls {
    /// Trusts the roots in this file, and expects a certificate for the address that is dialled.
    #[must_use]
    pub fn trusting(ca: &Path) -> Self {
        Self { name: None, roots: vec![ca.to_owned()] }
    }

    /// Trusts the configured roots, the CA that the gateway made, the CAs in the chains of its certificates, and those in
    /// `ca`. Expects a certificate for the configured `hostname`.
    #[must_use]
    pub fn of(settings: &Settings, ca: Option<&Path>) -> Self {
        let made = settings.state_dir.join("ca.pem");
        let made = (settings.tls.pairs.is_empty() && made.is_file()).then_some(made);
        let own = settings.tls.pairs.iter().map(|pair| pair.certificate.clone()).chain(made);
        let roots = settings.ca_files.iter().cloned().chain(own).chain(ca.map(Path::to_owned)).collect();
        Self { name: Some(bare_host(&settings.hostname).to_owned()), roots }
    }

    /// Expects a certificate for this host, if one is given.
    #[must_use]
    pub fn for_host(self, host: Option<&str>) -> Self {
        Self { name: host.map(|host| bare_host(host).to_owned()).or(self.name), ..self }
    }

    /// Makes a client speak TLS to this address. Returns the root of its URLs, too.
    pub(crate) fn apply(
        &self,
        builder: ClientBuilder,
        address: SocketAddr,
    ) -> anyhow::Result<(ClientBuilder, Url)> {
        let (name, config) = (self.name.as_deref(), certificates::client(&self.roots)?);
        let is_address = |name: &str| name.parse::<IpAddr>().is_ok();
        let (builder, config, host) = match name {
            // The name is sent to the server, which chooses the certificate by it.
            Some(name) if !is_address(name) => {
                (builder.resolve(name, address), (*config).clone(), format!("{name}:{}", address.port()))
            }
            Some(name) => (builder, for_name(&self.roots, name)?, address.to_string()),
            None => (builder, (*config).clone(), address.to_string()),
        };
        let url =
            format!("https://{host}/").parse().context("the gateway's hostname is not valid in a URL")?;
        Ok((builder.tls_backend_preconfigured(config), url))
    }
}

/// A configuration that expects a certificate for an address, whatever address is dialled.
fn for_name(roots: &[PathBuf], name: &str) -> anyhow::Result<ClientConfig> {
    let name = ServerName::try_from(name.to_owned()).with_context(|| format!("{name} is no host name"))?;
    let inner = WebPkiServerVerifier::builder(Arc::new(certificates::load_roots(roots)?)).build();
    let inner = inner.context("no roots can be used")?;
    let verifier = Arc::new(Named { inner, name });
    Ok(ClientConfig::builder().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Verifies a server as usual, but for another name than the one that is dialled.
#[derive(Debug)]
struct Named {
    inner: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _dialled: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.inner.verify_server_cert(leaf, rest, &self.name, ocsp, now)
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
