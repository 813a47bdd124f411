//! A certificate authority for tests, and TLS on both sides of it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// How long a certificate with a given end is valid.
const LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// A test authority.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A server's certificate and its key, in PEM.
#[derive(Clone)]
pub struct Certificate {
    /// The chain, leaf first.
    pub chain: String,
    /// The private key.
    pub key: String,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

impl Authority {
    /// A new authority.
    ///
    /// # Errors
    /// No key can be made.
    pub fn generate() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named("harness test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    /// The authority's own certificate, in PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for localhost, 127.0.0.1 and `names`.
    ///
    /// # Errors
    /// A name is not valid in a certificate.
    pub fn certificate(&self, names: &[&str]) -> Result<Certificate> {
        let local = ["localhost", "127.0.0.1"].iter().chain(names);
        let mut params = CertificateParams::new(local.map(ToString::to_string).collect::<Vec<_>>())?;
        params.distinguished_name = named("harness server");
        self.issue(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for exactly these names, which is valid for a year until `end`.
    ///
    /// # Errors
    /// A name is not valid in a certificate.
    pub fn certificate_until(&self, names: &[&str], end: SystemTime) -> Result<Certificate> {
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        params.distinguished_name = named("harness server");
        params.not_before = (end - LIFE).into();
        params.not_after = end.into();
        self.issue(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client's certificate.
    ///
    /// # Errors
    /// No key can be made.
    pub fn client_certificate(&self, name: &str) -> Result<Certificate> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        self.issue(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Result<Certificate> {
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &self.issuer)?;
        Ok(Certificate { chain: leaf.pem(), key: key.serialize_pem() })
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

impl Certificate {
    /// The TLS configuration of a server with this certificate, for HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// Key and certificate do not match.
    pub fn server_config(&self) -> Result<Arc<rustls::ServerConfig>> {
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Writes the chain and the key to files.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, chain: &Path, key: &Path) -> Result<()> {
        std::fs::write(chain, &self.chain).with_context(|| chain.display().to_string())?;
        std::fs::write(key, &self.key).with_context(|| key.display().to_string())
    }
}

/// The TLS configuration of a client that trusts only the authorities in `roots` (PEM).
///
/// # Errors
/// A root is not a valid certificate.
pub fn client_config(roots: &[&str]) -> Result<rustls::ClientConfig> {
    let config =
        rustls::ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(self::roots(roots)?).with_no_client_auth())
}

/// Like [`client_config`], for a client that shows a certificate.
///
/// # Errors
/// A root or the certificate is not valid.
pub fn client_config_with(roots: &[&str], certificate: &Certificate) -> Result<rustls::ClientConfig> {
    let config =
        rustls::ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let chain =
        CertificateDer::pem_slice_iter(certificate.chain.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes())?;
    Ok(config.with_root_certificates(self::roots(roots)?).with_client_auth_cert(chain, key)?)
}

/// The authorities in `pems`.
///
/// # Errors
/// A root is not a valid certificate.
pub fn roots(pems: &[&str]) -> Result<rustls::RootCertStore> {
    let mut store = rustls::RootCertStore::empty();
    for pem in pems {
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            store.add(certificate?)?;
        }
    }
    Ok(store)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
