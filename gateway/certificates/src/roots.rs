//! Whom the gateway trusts.

use std::path::PathBuf;

use rustls::RootCertStore;

use config::{self, Roots};

/// The system's roots and those in `files`.
pub(super) fn load(files: &[PathBuf]) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "some of the system's roots cannot be read");
    }
    roots.add_parsable_certificates(system.certs);
    for file in files {
        let Roots { certificates, unusable } = config::roots(file)
            .map_err(|why| anyhow::anyhow!("cannot read roots from {}: {why}", file.display()))?;
        let (added, _) = roots.add_parsable_certificates(certificates);
        anyhow::ensure!(
            added > 0,
            "{} holds no usable root ({unusable} unusable ones): PEM is expected",
            file.display()
        );
    }
    if roots.is_empty() {
        tracing::warn!(
            "no trusted root at all: nothing can be reached over TLS; set ca or install ca-certificates"
        );
    }
    Ok(roots)
}
