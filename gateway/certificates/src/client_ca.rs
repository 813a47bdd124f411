//! The CAs whose certificates clients must show.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use config::Roots;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

/// The most CAs. Their names are sent to every client.
const CAS_MAX: usize = 64;

/// The CAs of a file, and what verifies clients with them.
#[derive(Debug)]
pub(crate) struct ClientCa {
    certificates: Vec<CertificateDer<'static>>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ClientCa {
    /// Reads a file of CAs.
    ///
    /// # Errors
    /// The file cannot be read, has no certificate, or a certificate in it cannot be used.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let shown = file.display();
        let Roots { certificates, unusable } =
            config::roots(file).with_context(|| format!("cannot read tls.client_ca from {shown}"))?;
        // A file that is half written must not shut out the clients of the other half.
        anyhow::ensure!(
            unusable == 0 && !certificates.is_empty() && certificates.len() <= CAS_MAX,
            "{shown} has {} CAs that can be used and {unusable} that cannot: 1 to {CAS_MAX} in PEM are expected",
            certificates.len()
        );
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates.iter().cloned());
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
            .build()
            .with_context(|| format!("no client can be verified with {shown}"))?;
        Ok(Self { certificates, verifier })
    }

    pub(crate) fn verifier(&self) -> &Arc<dyn ClientCertVerifier> {
        &self.verifier
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.certificates == other.certificates
    }
}
