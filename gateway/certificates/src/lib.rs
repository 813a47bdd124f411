#![doc = include_str!("../README.md")]

mod authority;
mod by_name;
mod client_ca;
mod expiry;
mod facts;
mod follow;
mod key_type;
mod made;
mod pair;
pub mod pem_file;
mod printable;
mod roots;
mod server_names;
mod server_tls;
mod subject_name;
mod trust_path;

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;

use config::Settings;

pub use authority::{Authority, Issued, make_ca};
pub use expiry::TimeLeft;
pub use facts::{CertificateFacts, NoCertificate, covers_host, same_key};
pub use follow::follow;
pub use key_type::KeyType;
pub use pair::Pair;
pub use roots::load as load_roots;
pub use server_tls::{ServedCertificate, ServerTls, ServerTlsStatus, rehearse};
pub use subject_name::{SubjectName, SubjectNameError};
pub use trust_path::verify as verify_trust_path;

/// Installs aws-lc-rs as the TLS provider of this process. Further calls do nothing.
pub fn install_provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
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

#[cfg(test)]
mod tests {
    use std::fs;

    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject as _;

    use super::pem_file::{chain, private_key};
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
        let (certificate, key) = made::ensure(dir.path(), &["edge.example.com"]).expect("makes");
        assert_eq!(chain(&certificate).expect("a chain").len(), 2);
        let pem = fs::read_to_string(&key).expect("readable");
        assert_hides(&format!("{:?}", Pair::read(&certificate, &key)), &pem);
        let issued = make_ca("test", std::time::Duration::from_secs(3600)).expect("a CA");
        assert!(format!("{issued:?}").ends_with("key: <secret> }"));
        assert!(private_key(&key).is_ok());
        let none = private_key(&certificate).expect_err("no key");
        assert!(format!("{none:#}").contains("PEM is expected"), "{none:#}");
        let missing = private_key(&dir.path().join("nowhere")).expect_err("no file");
        assert!(format!("{missing:#}").contains("No such file"), "{missing:#}");
    }
}
