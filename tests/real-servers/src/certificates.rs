//! A private authority and a server's certificate, as files for servers and clients.

use std::path::PathBuf;

use anyhow::Result;
use tempfile::TempDir;

use super::registry::TlsFiles;
use harness::certs::Authority;

/// The authority of one test and one certificate for loopback, in a folder.
#[derive(Debug)]
pub struct Certificates {
    authority: Authority,
    folder: TempDir,
}

impl Certificates {
    /// Creates the authority and the certificate.
    ///
    /// # Errors
    /// A key or the folder cannot be created.
    pub fn make() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("certificates-").tempdir()?;
        let authority = Authority::generate()?;
        let made = Self { authority, folder };
        // Clients read every file of this folder, so it contains only the root certificate.
        std::fs::create_dir(made.trusted())?;
        std::fs::write(made.root(), made.pem())?;
        let server = made.server();
        made.authority.certificate(&[])?.write(&server.certificate, &server.key)?;
        Ok(made)
    }

    /// The folder with `ca.crt`, for clients.
    #[must_use]
    pub fn trusted(&self) -> PathBuf {
        self.folder.path().join("trusted")
    }

    /// The file of the root certificate.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.trusted().join("ca.crt")
    }

    /// The root certificate, in PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.authority.pem()
    }

    /// The server's certificate.
    #[must_use]
    pub fn server(&self) -> TlsFiles {
        let at = |name: &str| self.folder.path().join(name);
        TlsFiles { certificate: at("tls.crt"), key: at("tls.key") }
    }
}
