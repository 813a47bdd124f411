//! A private certificate authority for one test, as the files that servers and clients take.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::registry::TlsFiles;

/// An authority and one server certificate for loopback.
#[derive(Debug)]
pub struct Authority {
    folder: TempDir,
}

impl Authority {
    /// Makes both.
    ///
    /// # Errors
    /// No key or no folder.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("authority-").tempdir()?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "test authority");
        let certificate = params.self_signed(&key)?;
        // Clients read every file of this folder, so it holds nothing but the root.
        std::fs::create_dir(folder.path().join("ca"))?;
        std::fs::write(folder.path().join("ca/ca.crt"), certificate.pem())?;
        let server = KeyPair::generate()?;
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let leaf = CertificateParams::new(names)?.signed_by(&server, &Issuer::from_params(&params, &key))?;
        std::fs::write(folder.path().join("tls.crt"), leaf.pem())?;
        std::fs::write(folder.path().join("tls.key"), server.serialize_pem())?;
        Ok(Self { folder })
    }

    /// The folder with `ca.crt`, for clients.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.folder.path().join("ca")
    }

    /// The server's certificate.
    #[must_use]
    pub fn server(&self) -> TlsFiles {
        let at = |name: &str| Path::join(self.folder.path(), name);
        TlsFiles { certificate: at("tls.crt"), key: at("tls.key") }
    }
}
