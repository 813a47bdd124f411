//! The root certificates that the gateway trusts.

use std::path::PathBuf;

use anyhow::Context as _;
use rustls::RootCertStore;

use config::{self, Roots};

/// Loads the system's roots and those in `files`.
///
/// # Errors
/// A file cannot be read, or holds no usable root.
pub(super) fn load(files: &[PathBuf]) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "some of the system's root certificates cannot be read");
    }
    roots.add_parsable_certificates(system.certs);
    for file in files {
        let Roots { certificates, unusable } =
            config::roots(file).with_context(|| format!("cannot read roots from {}", file.display()))?;
        let (added, _) = roots.add_parsable_certificates(certificates);
        anyhow::ensure!(
            added > 0,
            "{} holds no usable root certificate, and {unusable} that cannot be used: PEM is expected",
            file.display()
        );
    }
    if roots.is_empty() {
        tracing::warn!(
            "there is no trusted root certificate, so every TLS connection will fail: set ca, or install ca-certificates"
        );
    }
    Ok(roots)
}
