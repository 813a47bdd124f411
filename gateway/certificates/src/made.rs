//! The CA and the certificate that the gateway makes when the configuration names none.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use config::without_port;

/// How long the CA is valid. Every client must be told to trust it, so it lasts.
const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How long a certificate is valid. Some clients refuse more than 825 days.
const LIFE: Duration = Duration::from_secs(800 * 24 * 3600);

/// If a certificate is valid for less than this, the next start replaces it.
const LIFE_LEFT_MIN: Duration = Duration::from_secs(30 * 24 * 3600);

/// Everybody may read a certificate, only its owner may replace it.
const CERTIFICATE_MODE: u32 = 0o644;

/// Validity begins this long before now, because clocks of clients may be behind.
const CLOCK_LAG: Duration = Duration::from_secs(24 * 3600);

/// The paths of the certificate and the key in `dir` for `hostname`.
///
/// They are made if they are missing, expire soon, or are for another name. The CA is made once and kept.
pub(super) fn ensure(dir: &Path, hostname: &str) -> anyhow::Result<(PathBuf, PathBuf)> {
    let name = without_port(hostname).trim_matches(['[', ']']);
    let (ca, ca_key) = (dir.join("ca.pem"), dir.join("ca.key"));
    let (certificate, key) = (dir.join("tls.crt"), dir.join("tls.key"));
    if !ca.exists() || !ca_key.exists() {
        make_ca(&ca, &ca_key).with_context(|| format!("cannot create a CA in {}", dir.display()))?;
        tracing::info!(ca = %ca.display(), "created a CA for this gateway");
    }
    if !is_usable(&certificate, name) || !key.exists() {
        make_certificate(&ca, &ca_key, name, &certificate, &key)
            .with_context(|| format!("cannot create a certificate in {}", dir.display()))?;
        tracing::info!(certificate = %certificate.display(), name, "created a certificate");
    }
    tracing::info!(
        "clients must trust this gateway's CA. podman and skopeo: copy {ca} to /etc/containers/certs.d/{hostname}/ca.crt; \
         docker: /etc/docker/certs.d/{hostname}/ca.crt; containerd: `ca = \"{ca}\"` in certs.d/{hostname}/hosts.toml; \
         OpenShift: additionalTrustedCA of image.config.openshift.io/cluster",
        ca = ca.display()
    );
    Ok((certificate, key))
}

/// Whether the certificate is for `name` and does not expire soon.
fn is_usable(certificate: &Path, name: &str) -> bool {
    let Ok(der) = CertificateDer::from_pem_file(certificate) else { return false };
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(&der) else { return false };
    let left = parsed.validity().time_to_expiration().map_or(0, |left| left.whole_seconds());
    is_for(&der, name) && left > LIFE_LEFT_MIN.as_secs() as i64
}

fn is_for(der: &CertificateDer<'_>, name: &str) -> bool {
    let Ok(server_name) = rustls::pki_types::ServerName::try_from(name) else { return false };
    let Ok(parsed) = rustls::server::ParsedCertificate::try_from(der) else { return false };
    rustls::client::verify_server_name(&parsed, &server_name).is_ok()
}

fn make_ca(certificate: &Path, key: &Path) -> anyhow::Result<()> {
    let key_pair = KeyPair::generate()?;
    let mut params = valid_for(Vec::new(), CA_LIFE)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name.push(DnType::CommonName, "quay-gateway CA");
    let made = params.self_signed(&key_pair)?;
    atomic_file::write(key, key_pair.serialize_pem().as_bytes(), atomic_file::PRIVATE)?;
    atomic_file::write(certificate, made.pem().as_bytes(), CERTIFICATE_MODE)?;
    Ok(())
}

fn make_certificate(
    ca: &Path,
    ca_key: &Path,
    name: &str,
    certificate: &Path,
    key: &Path,
) -> anyhow::Result<()> {
    let ca_pem = fs::read_to_string(ca).with_context(|| ca.display().to_string())?;
    let key_pem = fs::read_to_string(ca_key).with_context(|| ca_key.display().to_string())?;
    // The parser's error may hold a part of the key.
    let ca_key = KeyPair::from_pem(&key_pem)
        .map_err(|_| anyhow::anyhow!("{} holds no private key in PEM that can be used", ca_key.display()))?;
    let issuer = Issuer::from_ca_cert_pem(&ca_pem, ca_key)?;
    let key_pair = KeyPair::generate()?;
    let mut params = valid_for(vec![name.to_owned()], LIFE)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let made = params.signed_by(&key_pair, &issuer)?;
    atomic_file::write(key, key_pair.serialize_pem().as_bytes(), atomic_file::PRIVATE)?;
    atomic_file::write(certificate, format!("{}{ca_pem}", made.pem()).as_bytes(), CERTIFICATE_MODE)?;
    Ok(())
}

fn valid_for(names: Vec<String>, life: Duration) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(names)?;
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_LAG).into();
    params.not_after = (now + life).into();
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_kept_and_replaced_for_another_name() {
        let dir = tempfile::tempdir().expect("a folder");
        let (certificate, _) = ensure(dir.path(), "edge.example.com:8443").expect("makes");
        let first = fs::read(&certificate).expect("reads");
        let ca = fs::read(dir.path().join("ca.pem")).expect("reads");
        ensure(dir.path(), "edge.example.com:8443").expect("keeps");
        assert_eq!(fs::read(&certificate).expect("reads"), first);
        ensure(dir.path(), "127.0.0.1:8443").expect("makes");
        assert_ne!(fs::read(&certificate).expect("reads"), first);
        assert_eq!(fs::read(dir.path().join("ca.pem")).expect("reads"), ca);
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(dir.path().join("tls.key")).expect("is there").permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }
}
