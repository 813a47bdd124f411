//! Certificates and private keys in PEM.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use anyhow::Context as _;
use backends::{PemError, Secret};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

/// The most bytes of a file. A Secret of Kubernetes has as many at most.
const FILE_MAX: u64 = 1024 * 1024;

/// The certificates of a file, in its order; at least one.
///
/// # Errors
/// The file cannot be read, is too large, is damaged, or has no certificate.
pub fn chain(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = || {
        let bytes = read(path)?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        found.map_err(PemError::from)
    };
    let chain = read()
        .with_context(|| format!("cannot read certificates from {}: PEM is expected", path.display()))?;
    anyhow::ensure!(!chain.is_empty(), "{} holds no certificate", path.display());
    Ok(chain)
}

/// The first private key of a file.
///
/// # Errors
/// The file cannot be read, is too large, is damaged, or has no key.
pub fn private_key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let read = || PrivateKeyDer::from_pem_slice(&read(path)?).map_err(PemError::from);
    read().with_context(|| format!("cannot read a private key from {}: PEM is expected", path.display()))
}

/// Certificates as PEM, in their order. Only they are written, whatever else was in the file that they come from.
#[must_use]
pub fn chain_to_pem(chain: &[CertificateDer<'_>]) -> String {
    chain.iter().map(|der| to_pem("CERTIFICATE", der)).collect()
}

/// A private key as PEM.
#[must_use]
pub fn key_to_pem(key: &PrivateKeyDer<'_>) -> Secret {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    Secret::new(to_pem(label, key.secret_der()))
}

/// RFC 7468: lines of 64 characters.
fn to_pem(label: &str, der: &[u8]) -> String {
    let text = Zeroizing::new(STANDARD.encode(der));
    // Allocated once, so that no part of a key stays in memory that was outgrown.
    let mut pem = String::with_capacity(text.len() + text.len() / 64 + 2 * label.len() + 64);
    pem.push_str(&format!("-----BEGIN {label}-----\n"));
    for start in (0..text.len()).step_by(64) {
        pem.push_str(&text[start..text.len().min(start + 64)]);
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, PemError> {
    // Opening a pipe would wait for its other end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is not a file").into());
    }
    Ok(read_at_most(path, FILE_MAX)?)
}

/// The contents of a file or a pipe, which may hold a private key.
///
/// # Errors
/// It cannot be read, or has more than `most` bytes ([`io::ErrorKind::FileTooLarge`]).
pub fn read_at_most(path: &Path, most: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    // A key that was read is not copied to a larger buffer, if the size is known.
    let expected = usize::try_from(file.metadata()?.len().min(most)).unwrap_or(0);
    let mut bytes = Zeroizing::new(Vec::with_capacity(expected + 1));
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let why = format!("it has more than {} KiB", most >> 10);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("both.pem");
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = rcgen::CertificateParams::default().self_signed(&key).expect("signs");
        // A name that is not UTF-8 stands before the certificate, as `openssl pkcs12` writes it.
        let name: &[u8] = b"friendlyName: Z\xfcrich\n";
        let (certificate_pem, key_pem) = (certificate.pem(), key.serialize_pem());
        let text = [name, certificate_pem.as_bytes(), key_pem.as_bytes()];
        fs::write(&file, text.concat()).expect("written");
        let chain = chain(&file).expect("reads");
        assert_eq!(chain_to_pem(&chain).replace('\r', ""), certificate.pem().replace('\r', ""));
        let private = private_key(&file).expect("reads");
        assert_eq!(key_to_pem(&private).reveal(), key.serialize_pem().replace('\r', ""));
    }

    #[test]
    fn a_file_of_unreasonable_size_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("tls.crt");
        let comment = vec![b'#'; FILE_MAX as usize + 1];
        fs::write(&file, comment).expect("written");
        let error = chain(&file).expect_err("too large");
        assert!(format!("{error:#}").contains("more than 1024 KiB"), "{error:#}");
        let error = chain(dir.path()).expect_err("a folder");
        assert!(format!("{error:#}").contains("not a file"), "{error:#}");
    }
}
