#![doc = include_str!("../README.md")]

mod made;
mod roots;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use backends::PemError;
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
        .map_err(PemError::from)
        .with_context(|| format!("cannot read certificates from {}: PEM is expected", path.display()))?;
    anyhow::ensure!(!chain.is_empty(), "{} holds no certificate", path.display());
    Ok(chain)
}

fn private_key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(PemError::from)
        .with_context(|| format!("cannot read a private key from {}: PEM is expected", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The text of a private key in forms in which it may be written by mistake.
    fn shapes(pem: &str) -> Vec<Vec<u8>> {
        let lines: Vec<_> = pem.lines().collect();
        let (first, last) = (lines[0], lines[lines.len() - 1]);
        let body = lines[1..lines.len() - 1].join("\n");
        let text = [
            pem.replace('\n', " "),
            pem.replace('\n', "\\n"),
            pem.replace('\n', ""),
            format!("{first}\n{body}\n"),
            format!("{first}\n{body}"),
            format!("{first} {body}\n{last}\n"),
            format!("{first}\n{body} {last}\n"),
            format!("{first}\n{body}!\n{last}\n"),
            format!("{first}\n{body}\n{}\n", last.replace("KEY", "CAT")),
            format!("{body}\n{last}\n"),
            format!("-----BEGIN {body}\n{pem}"),
            format!("{first}\n-----BEGIN {body}\n{last}\n"),
            format!("{first}\n{body}\n-----END {body}\n"),
            format!("key: {pem}"),
            body.replace('\n', ""),
            String::new(),
        ];
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).expect("a key").secret_der().to_vec();
        text.into_iter().map(String::into_bytes).chain([der]).collect()
    }

    /// The parts of a key that must not be shown: each four bytes of its text, as text and as numbers.
    fn assert_hides(shown: &str, pem: &str) {
        let body: Vec<_> = pem.lines().filter(|line| !line.contains("-----")).collect();
        for piece in body.concat().as_bytes().chunks_exact(8) {
            let text = String::from_utf8_lossy(piece);
            let numbers = format!("{:?}", &piece[..4]);
            assert!(!shown.contains(&*text) && !shown.contains(numbers.trim_matches(['[', ']'])), "{shown}");
        }
    }

    #[test]
    fn no_error_about_a_file_repeats_its_contents() {
        install_provider();
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("tls.key");
        let pem = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        for shape in shapes(&pem) {
            fs::write(&file, &shape).expect("writes");
            let of = String::from_utf8_lossy(&shape);
            let shown =
                [chain(&file).err(), private_key(&file).err(), client(std::slice::from_ref(&file)).err()];
            assert!(shown[0].is_some(), "{of} is not a certificate");
            for error in shown.into_iter().flatten() {
                let shown = format!("{error:#} {error:?}");
                assert!(shown.contains("tls.key"), "{shown}");
                assert_hides(&shown, &pem);
            }
        }
    }

    #[test]
    fn a_key_and_its_certificate_are_read() {
        install_provider();
        let dir = tempfile::tempdir().expect("a folder");
        let (certificate, key) = made::ensure(dir.path(), "edge.example.com").expect("makes");
        assert_eq!(chain(&certificate).expect("a chain").len(), 2);
        assert!(private_key(&key).is_ok());
        let none = private_key(&certificate).expect_err("no key");
        assert!(format!("{none:#}").contains("PEM is expected"), "{none:#}");
        let missing = private_key(&dir.path().join("nowhere")).expect_err("no file");
        assert!(format!("{missing:#}").contains("No such file"), "{missing:#}");
    }
}
