#![doc = include_str!("../README.md")]

mod made;
mod roots;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ServerConfig};

use config::Settings;

/// Installs aws-lc-rs as the TLS provider of this process. Further calls do nothing.
pub fn install_provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// The TLS configuration for the gateway's clients: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
///
/// If the configuration names no certificate, a CA and a certificate are made in `state_dir`.
///
/// # Errors
/// The certificate or the key is missing or cannot be read, the key does not belong to the certificate, or
/// a certificate cannot be made.
pub fn server(settings: &Settings) -> anyhow::Result<Arc<ServerConfig>> {
    let (certificate, key) = match &settings.tls {
        Some(given) => (given.certificate.clone(), given.key.clone()),
        None => made::ensure(&settings.state_dir, &settings.hostname)?,
    };
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain(&certificate)?, private_key(&key)?)
        .with_context(|| {
            format!(
                "the key in {1} does not belong to the certificate in {0}",
                certificate.display(),
                key.display()
            )
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The TLS configuration for connections to the registry and to stores. It trusts the system's roots and
/// the roots in `ca_files`.
///
/// # Errors
/// A file in `ca_files` cannot be read, or holds no usable root.
pub fn client(ca_files: &[PathBuf]) -> anyhow::Result<Arc<ClientConfig>> {
    let roots = roots::load(ca_files)?;
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

/// Like [`client`], and also trusts the roots in the file `root`, if there is one.
///
/// # Errors
/// Like [`client`].
pub fn client_with(settings: &Settings, root: Option<&PathBuf>) -> anyhow::Result<Arc<ClientConfig>> {
    let files: Vec<_> = settings.ca_files.iter().chain(root).cloned().collect();
    client(&files)
}

fn chain(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let chain = read()
        .with_context(|| format!("cannot read certificates from {}: PEM is expected", path.display()))?;
    anyhow::ensure!(!chain.is_empty(), "{} holds no certificate", path.display());
    Ok(chain)
}

fn private_key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path)
        .with_context(|| format!("cannot read a private key from {}: PEM is expected", path.display()))
}
