//! The root certificates that the gateway trusts.

use std::path::PathBuf;

use anyhow::Context as _;
use backends::PemError;
use rustls::RootCertStore;
use rustls_native_certs::{Error, ErrorKind};

use config::{self, Roots};

/// Loads the system's roots and those in `files`.
///
/// # Errors
/// A file cannot be read, or holds no usable root.
pub fn load(files: &[PathBuf]) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in system.errors {
        tracing::warn!(error = described(error), "some of the system's root certificates cannot be read");
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

/// Describes an error with the system's roots. `SSL_CERT_FILE` may name any file, and the parser's own error
/// repeats the contents of that file.
fn described(error: Error) -> String {
    match error.kind {
        ErrorKind::Pem(why) => format!("{}: {}", error.context, PemError::from(why)),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_file_that_is_not_pem_is_not_shown() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("roots.pem");
        std::fs::write(&file, "-----BEGIN PRIVATE KEY----- hunter2SECRET").expect("writes");
        let loaded = rustls_native_certs::load_certs_from_paths(Some(&file), None);
        assert!(!loaded.errors.is_empty());
        for error in loaded.errors {
            let text = described(error);
            assert!(text.contains("no valid PEM"), "{text}");
        }
    }
}
