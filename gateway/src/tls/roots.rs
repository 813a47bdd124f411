//! Whom the gateway trusts.

use std::path::PathBuf;

use anyhow::Context as _;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The system's roots and those in `files`.
pub(super) fn load(files: &[PathBuf]) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "some of the system's roots cannot be read");
    }
    roots.add_parsable_certificates(system.certs);
    for file in files {
        let read = || CertificateDer::pem_file_iter(file)?.collect::<Result<Vec<_>, _>>();
        let found =
            read().with_context(|| format!("cannot read roots from {}: PEM is expected", file.display()))?;
        let count = found.len();
        let (added, _) = roots.add_parsable_certificates(found);
        anyhow::ensure!(added > 0, "{} holds no usable root ({count} certificates read)", file.display());
    }
    if roots.is_empty() {
        tracing::warn!(
            "no trusted root at all: nothing can be reached over TLS; set ca or install ca-certificates"
        );
    }
    Ok(roots)
}
