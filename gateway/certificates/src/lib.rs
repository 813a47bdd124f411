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

/// Installs the one TLS provider of this process, aws-lc-rs. Once is enough, again does no harm.
pub fn install_provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// TLS as the gateway speaks it to clients: 1.2 and 1.3, HTTP/2 and HTTP/1.1.
///
/// # Errors
/// The certificate or key is missing, unreadable, or they do not belong together.
pub fn server(settings: &Settings) -> anyhow::Result<Arc<ServerConfig>> {
    let (certificate, key) = match &settings.tls {
        Some(given) => (given.certificate.clone(), given.key.clone()),
        None => made::ensure(&settings.state_dir, &settings.hostname)?,
    };
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain(&certificate)?, private_key(&key)?)
        .with_context(|| {
            format!("{} and {} do not make a TLS identity", certificate.display(), key.display())
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// TLS as the gateway speaks it to the registry and to stores: the system's roots and those
/// that the configuration adds.
///
/// # Errors
/// A file of roots cannot be read, or holds none.
pub fn client(ca_files: &[PathBuf]) -> anyhow::Result<Arc<ClientConfig>> {
    let roots = roots::load(ca_files)?;
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

/// TLS as [`client`], with one more file of roots where there is one.
///
/// # Errors
/// As [`client`].
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
