//! The certificates that clients must trust.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use certificates::{CertificateFacts, pem_file};
use config::{Roots, Settings, roots, roots_of};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::certs::ca_of;

/// The most bytes of a file with a CA. A ConfigMap, into which it must fit, has at most 1 MiB.
const FILE_MAX: u64 = 256 * 1024;

/// Certificates that clients must trust, without anything else that their file held.
#[derive(Clone, PartialEq, Eq)]
pub struct TrustedCa {
    pem: String,
}

impl std::fmt::Debug for TrustedCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrustedCa").finish_non_exhaustive()
    }
}

impl TrustedCa {
    /// Reads the certificates of a file: PEM, or one certificate in DER.
    ///
    /// # Errors
    /// The file cannot be read, is larger than 256 KiB, holds a private key, holds no certificate, or holds one that
    /// cannot be used. No error repeats a part of the file.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let shown = file.display();
        let bytes = pem_file::read_at_most(file, FILE_MAX).with_context(|| {
            format!("cannot read the CA {shown}: it must be a file with only the CA's certificate")
        })?;
        ensure!(
            !has_private_key(&bytes),
            "{shown} holds a private key, which must not reach a client: name a file with only the CA's certificate"
        );
        // The bytes that were read, because a pipe gives them only once.
        let certificates = usable(roots_of(bytes.to_vec()), file)?;
        Self::of(&certificates).with_context(|| {
            format!("{shown} holds no certificate: name the CA's certificate, in PEM (BEGIN CERTIFICATE)")
        })
    }

    /// What clients of this gateway must trust: the CA in `state_dir` if the gateway makes its own certificate, else
    /// `ca.crt` beside `tls.certificate`, or the last certificate of `tls.certificate` if that signed itself. `None` if
    /// it did not: then clients trust the gateway if they trust the CA that signed it.
    ///
    /// # Errors
    /// The file cannot be read, or holds a certificate that cannot be used.
    pub fn of_gateway(settings: &Settings) -> anyhow::Result<Option<Self>> {
        let file = ca_of(settings);
        let Some(tls) = settings.tls.pairs.first() else {
            let made = file;
            let absent = std::fs::metadata(&made).is_err_and(|error| error.kind() == ErrorKind::NotFound);
            ensure!(
                !absent,
                "there is no {}: the gateway makes its CA at its first start. Start it, or name the CA with --ca",
                made.display()
            );
            return Self::read(&made).map(Some);
        };
        if file != tls.certificate {
            return Self::read(&file).map(Some);
        }
        let read =
            roots(&file).with_context(|| format!("cannot read certificates from {}", file.display()))?;
        let chain = usable(read, &file)?;
        let Some(last) = chain.last() else { return Ok(None) };
        let signed_itself = CertificateFacts::of(last).is_ok_and(|facts| facts.is_self_issued());
        Ok(signed_itself.then(|| Self { pem: pem_file::chain_to_pem(std::slice::from_ref(last)) }))
    }

    /// The certificates in PEM. It ends with a newline.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Whether one of the certificates is a CA or names itself as its issuer. If none does, some clients refuse what
    /// it signed (OpenSSL: error 20).
    #[must_use]
    pub fn is_ca(&self) -> bool {
        let facts = CertificateDer::pem_slice_iter(self.pem.as_bytes()).flatten();
        facts
            .filter_map(|der| CertificateFacts::of(&der).ok())
            .any(|facts| facts.is_ca || facts.is_self_issued())
    }

    #[cfg(test)]
    pub(super) fn of_pem(pem: &str) -> Self {
        Self { pem: pem.to_owned() }
    }

    fn of(certificates: &[CertificateDer<'_>]) -> Option<Self> {
        (!certificates.is_empty()).then(|| Self { pem: pem_file::chain_to_pem(certificates) })
    }
}

/// The certificates of a file, all of which must be usable.
fn usable(read: Roots, file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let Roots { certificates, unusable } = read;
    if unusable > 0 && !certificates.is_empty() {
        bail!(
            "{} of the certificates in {} cannot be used: remove them, or repair their lines",
            unusable,
            file.display()
        );
    }
    Ok(certificates)
}

/// Whether a file holds a private key in any form of PEM, even if its lines were lost.
fn has_private_key(bytes: &[u8]) -> bool {
    const LABEL: &[u8] = b"PRIVATEKEY";
    let letters: Vec<u8> =
        bytes.iter().filter(|byte| !byte.is_ascii_whitespace()).map(u8::to_ascii_uppercase).collect();
    letters.windows(LABEL.len()).any(|window| window == LABEL)
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

    use super::*;

    fn ca() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "a CA");
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
    }

    fn read(contents: impl AsRef<[u8]>) -> Result<String, String> {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, contents).expect("writes");
        TrustedCa::read(&file).map(|ca| ca.pem).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn only_certificates_come_out_of_a_file() {
        let ca = ca();
        let pem = ca.pem().replace("\r\n", "\n");
        assert_eq!(read(&pem).expect("a CA"), pem);
        assert_eq!(
            read(format!("subject: a CA\n{pem}\ncomment\n{pem}")).expect("two"),
            format!("{pem}{pem}")
        );
        assert_eq!(read(ca.der()).expect("DER"), pem);
    }

    #[test]
    fn a_file_with_a_private_key_is_refused_and_not_shown() {
        let (ca, key) = (ca(), KeyPair::generate().expect("a key").serialize_pem());
        let whole = format!("{}{key}", ca.pem());
        for text in [&whole, &key, &whole.replace('\n', " "), &key.replace('\n', ""), &key.to_lowercase()] {
            let error = read(text).expect_err("a key");
            assert!(error.contains("holds a private key"), "{error}");
            let secret = key.lines().nth(1).expect("a line of the key");
            assert!(!error.contains(&secret[..12]), "{error}");
        }
    }

    #[test]
    fn a_pipe_is_read_once() {
        let pem = ca().pem().replace("\r\n", "\n");
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        std::io::Write::write_all(&mut writer, pem.as_bytes()).expect("fits into the pipe");
        drop(writer);
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        assert_eq!(TrustedCa::read(Path::new(&path)).expect("a CA").pem, pem);
    }

    #[test]
    fn a_leaf_is_no_ca() {
        let ca = ca();
        let leaf = CertificateParams::new(vec!["edge.example.com".to_owned()]).expect("a name");
        let leaf = leaf.signed_by(&KeyPair::generate().expect("a key"), &ca).expect("signed").pem();
        assert!(!TrustedCa::of_pem(&leaf).is_ca());
        assert!(TrustedCa::of_pem(&format!("{leaf}{}", ca.pem())).is_ca());
    }

    #[test]
    fn a_file_without_a_usable_certificate_is_refused() {
        let pem = ca().pem();
        assert!(read("").expect_err("empty").contains("holds no certificate"));
        assert!(read("hunter2").expect_err("text").contains("holds no certificate"));
        let broken = format!("{pem}-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n");
        assert!(read(broken).expect_err("a broken one").contains("1 of the certificates"));
        assert!(read(vec![b'x'; 300 * 1024]).expect_err("large").contains("more than 256 KiB"));
        let missing = TrustedCa::read(Path::new("/nonexistent/ca.pem")).expect_err("no file");
        assert!(format!("{missing:#}").contains("cannot read the CA /nonexistent/ca.pem"), "{missing:#}");
    }

    /// The CA of a gateway with this chain as its `tls.certificate`, or with its own.
    fn of_gateway(chain: Option<&str>, made: Option<&str>) -> Result<Option<String>, String> {
        of_gateway_beside(chain, made, None)
    }

    fn of_gateway_beside(
        chain: Option<&str>,
        made: Option<&str>,
        beside: Option<&str>,
    ) -> Result<Option<String>, String> {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        if let Some(beside) = beside {
            std::fs::write(at("ca.crt"), beside).expect("writes");
        }
        let tls = chain.map_or(String::new(), |chain| {
            std::fs::write(at("tls.crt"), chain).expect("writes");
            std::fs::write(at("tls.key"), "").expect("writes");
            "tls: {certificate: tls.crt, key: tls.key}\n".to_owned()
        });
        std::fs::create_dir(at("state")).expect("a folder");
        if let Some(made) = made {
            std::fs::write(at("state/ca.pem"), made).expect("writes");
        }
        let text = format!(
            "{tls}hostname: edge.example.com\nstate_dir: state\n\
             registry: {{url: 'http://127.0.0.1:1', server_name: quay.example.com}}\n\
             zones: {{a: [LocalStorage, {{storage_path: /a}}]}}\n"
        );
        std::fs::write(at("gateway.yaml"), text).expect("writes");
        let settings = config::load_with(&at("gateway.yaml"), std::iter::empty()).expect("is sound");
        TrustedCa::of_gateway(&settings).map(|ca| ca.map(|ca| ca.pem)).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn the_ca_of_a_gateway_is_its_own_or_the_end_of_its_chain() {
        let ca = ca();
        let pem = ca.pem().replace("\r\n", "\n");
        let key = KeyPair::generate().expect("a key");
        let leaf = CertificateParams::new(vec!["edge.example.com".to_owned()]).expect("a name");
        let leaf = leaf.signed_by(&key, &ca).expect("signed").pem();
        assert_eq!(of_gateway(None, Some(&pem)), Ok(Some(pem.clone())));
        assert_eq!(of_gateway(Some(&format!("{leaf}{pem}")), None), Ok(Some(pem.clone())));
        assert_eq!(of_gateway(Some(&leaf), None), Ok(None), "the CA is not in the chain");
        // As cert-manager writes it: the CA lies beside the chain. Its ACME issuers leave an empty file there.
        assert_eq!(of_gateway_beside(Some(&leaf), None, Some(&pem)), Ok(Some(pem.clone())));
        assert_eq!(of_gateway_beside(Some(&leaf), None, Some("")), Ok(None));
        let none = of_gateway(None, None).expect_err("not made yet");
        assert!(none.contains("Start it, or name the CA with --ca"), "{none}");
    }
}
