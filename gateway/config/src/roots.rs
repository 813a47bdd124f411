//! Files of trusted root certificates: the operator's own, and those that Quay trusts.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use backends::{Digest, Hasher};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// The most bytes of a file of roots. A system's whole bundle has about 250,000.
const FILE_MAX: u64 = 16 * 1024 * 1024;

/// Where Quay's own roots are, in the folder of its `config.yaml`: a folder or file `extra_ca_certs`, and files
/// `extra_ca_cert_NAME` if the folder is flat (`conf/init/certs_install.sh`).
const QUAY_FOLDER: &str = "extra_ca_certs";
const QUAY_PREFIX: &str = "extra_ca";

/// Why a file of roots cannot be read. Retrying does not help.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// The file does not exist or cannot be read.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// The file is larger than any bundle of certificates.
    #[error("it has more than {} MiB", FILE_MAX >> 20)]
    TooLarge,
}

/// The certificates of a file.
#[derive(Debug, Default)]
pub struct Roots {
    /// The usable certificates, in the order of the file.
    pub certificates: Vec<CertificateDer<'static>>,
    /// How many certificates were skipped because they are malformed.
    pub unusable: usize,
}

/// Reads the certificates of a file: PEM, possibly with other text between them, or one certificate in DER.
///
/// # Errors
/// The file cannot be read or has more than 16 MiB.
pub fn roots(file: &Path) -> Result<Roots, RootsError> {
    let mut bytes = Vec::new();
    File::open(file)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(RootsError::TooLarge);
    }
    Ok(roots_of(bytes))
}

/// The certificates in the contents of a file, as [`roots`] reads it.
#[must_use]
pub fn roots_of(bytes: Vec<u8>) -> Roots {
    let mut found = Roots::default();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        match certificate {
            Ok(certificate) if is_usable(&certificate) => found.certificates.push(certificate),
            _ => found.unusable += 1,
        }
    }
    let der = CertificateDer::from(bytes);
    if found.certificates.is_empty() && is_usable(&der) {
        return Roots { certificates: vec![der], unusable: 0 };
    }
    found
}

fn is_usable(certificate: &CertificateDer<'_>) -> bool {
    RootCertStore::empty().add(certificate.clone().into_owned()).is_ok()
}

/// A digest over the certificates of all files. A file that cannot be read counts as empty.
pub(super) fn contents(files: &[PathBuf]) -> Digest {
    let mut hasher = Hasher::new();
    for certificate in files.iter().filter_map(|file| roots(file).ok()).flat_map(|found| found.certificates) {
        hasher.update(&certificate);
    }
    hasher.finish()
}

/// The files in the folder of Quay's `config.yaml` from which Quay takes roots, each once, and a warning for
/// each file that has none.
pub(super) fn from_quay_config(config: &Path) -> (Vec<PathBuf>, Vec<String>) {
    let folder = config.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut found = files(&folder.join(QUAY_FOLDER), "");
    found.extend(files(folder, QUAY_PREFIX));
    let (mut used, mut warnings, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for file in found {
        // A mounted Secret has each file twice: itself and a symbolic link.
        if !seen.insert(file.canonicalize().unwrap_or_else(|_| file.clone())) {
            continue;
        }
        let name = file.display();
        match roots(&file) {
            Ok(Roots { certificates, .. }) if certificates.is_empty() => warnings.push(format!(
                "{name} holds no certificate that can be used and is skipped: remove it from Quay's roots, or \
                 write the certificate in PEM"
            )),
            Ok(Roots { unusable, .. }) => {
                if unusable > 0 {
                    warnings.push(format!("{name}: {unusable} of its certificates cannot be used"));
                }
                used.push(file);
            }
            Err(why) => warnings.push(format!("{name} cannot be read and is skipped: {why}")),
        }
    }
    (used, warnings)
}

/// The files in a folder whose names begin with `prefix`, sorted, without hidden files.
fn files(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .filter_map(Result::ok)
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with(prefix) && !name.starts_with('.')
        })
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn certificate() -> rcgen::Certificate {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("fine");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&key).expect("signs")
    }

    fn names(found: &[PathBuf]) -> Vec<String> {
        found.iter().map(|path| path.file_name().expect("a name").to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_folder_with_more_than_certificates_in_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let extra = dir.path().join("extra_ca_certs");
        fs::create_dir(&extra).expect("made");
        let (pem, der) = (certificate().pem(), certificate().der().to_vec());
        fs::write(extra.join("a.crt"), format!("# the site's\n{pem}")).expect("written");
        fs::write(extra.join("b.der"), der).expect("written");
        fs::write(extra.join("README"), "these are the site's roots\n").expect("written");
        fs::write(extra.join(".hidden"), "no\n").expect("written");
        fs::write(
            extra.join("mixed.pem"),
            format!("{pem}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        )
        .expect("written");
        let (used, warnings) = from_quay_config(&dir.path().join("config.yaml"));
        assert_eq!(names(&used), ["a.crt", "b.der", "mixed.pem"]);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("/README holds no certificate"), "{warnings:?}");
        assert!(warnings[1].contains("/mixed.pem: 1 of its certificates"), "{warnings:?}");
    }

    /// A Secret as Quay's operator fills it and kubelet mounts it.
    #[test]
    fn a_flat_folder_of_links_is_read_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let data = dir.path().join("..2026_01_01");
        fs::create_dir(&data).expect("made");
        symlink("..2026_01_01", dir.path().join("..data")).expect("linked");
        for name in ["config.yaml", "extra_ca_cert_storage.crt", "extra_ca_cert_empty"] {
            let text = if name.ends_with(".crt") { certificate().pem() } else { String::new() };
            fs::write(data.join(name), text).expect("written");
            symlink(Path::new("..data").join(name), dir.path().join(name)).expect("linked");
        }
        symlink("extra_ca_cert_storage.crt", dir.path().join("extra_ca_cert_twice.crt")).expect("linked");
        let (used, warnings) = from_quay_config(&dir.path().join("config.yaml"));
        assert_eq!(names(&used), ["extra_ca_cert_storage.crt"]);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("extra_ca_cert_empty holds no certificate"));
    }

    #[test]
    fn a_bundle_in_one_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let bundle = certificate().pem() + &certificate().pem();
        fs::write(dir.path().join("extra_ca_certs"), bundle).expect("written");
        let (used, warnings) = from_quay_config(&dir.path().join("config.yaml"));
        assert_eq!((names(&used), warnings.len()), (vec!["extra_ca_certs".to_owned()], 0));
        assert_eq!(roots(&used[0]).expect("reads").certificates.len(), 2);
    }
}
