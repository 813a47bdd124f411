//! A CA and a certificate of the gateway's own, for when none is given.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
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

/// How long the CA lives: clients are told to trust it once.
const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How long a certificate lives; more than 825 days some clients refuse.
const LIFE: Duration = Duration::from_secs(800 * 24 * 3600);

/// A certificate with less life left is made anew at start.
const LIFE_LEFT_MIN: Duration = Duration::from_secs(30 * 24 * 3600);

/// Clocks of clients may run behind ours.
const CLOCK_LAG: Duration = Duration::from_secs(24 * 3600);

/// The certificate and key in `dir` for `hostname`, made if they are not there, will not last, or
/// are for another name. The CA is made once and kept.
pub(super) fn ensure(dir: &Path, hostname: &str) -> anyhow::Result<(PathBuf, PathBuf)> {
    let name = without_port(hostname).trim_matches(['[', ']']);
    let (ca, ca_key) = (dir.join("ca.pem"), dir.join("ca.key"));
    let (certificate, key) = (dir.join("tls.crt"), dir.join("tls.key"));
    if !ca.exists() || !ca_key.exists() {
        make_ca(&ca, &ca_key).with_context(|| format!("cannot make a CA in {}", dir.display()))?;
        tracing::info!(ca = %ca.display(), "made a CA of this gateway's own");
    }
    if !still_good(&certificate, name) || !key.exists() {
        make_certificate(&ca, &ca_key, name, &certificate, &key)
            .with_context(|| format!("cannot make a certificate in {}", dir.display()))?;
        tracing::info!(certificate = %certificate.display(), name, "made a certificate");
    }
    tracing::info!(
        "clients trust this gateway by its CA: podman and skopeo: copy {ca} to /etc/containers/certs.d/{hostname}/ca.crt; \
         docker: /etc/docker/certs.d/{hostname}/ca.crt; containerd: `ca = \"{ca}\"` in certs.d/{hostname}/hosts.toml; \
         OpenShift: additionalTrustedCA of image.config.openshift.io/cluster",
        ca = ca.display()
    );
    Ok((certificate, key))
}

fn still_good(certificate: &Path, name: &str) -> bool {
    let Ok(der) = CertificateDer::from_pem_file(certificate) else { return false };
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(&der) else { return false };
    let left = parsed.validity().time_to_expiration().map_or(0, |left| left.whole_seconds());
    let named = webpki_name(&der, name);
    named && left > LIFE_LEFT_MIN.as_secs() as i64
}

fn webpki_name(der: &CertificateDer<'_>, name: &str) -> bool {
    let Ok(server_name) = rustls::pki_types::ServerName::try_from(name) else { return false };
    let Ok(parsed) = rustls::server::ParsedCertificate::try_from(der) else { return false };
    rustls::client::verify_server_name(&parsed, &server_name).is_ok()
}

fn make_ca(certificate: &Path, key: &Path) -> anyhow::Result<()> {
    let key_pair = KeyPair::generate()?;
    let mut params = lasting(Vec::new(), CA_LIFE)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name.push(DnType::CommonName, "quay-gateway CA");
    let made = params.self_signed(&key_pair)?;
    write(key, &key_pair.serialize_pem(), 0o600)?;
    write(certificate, &made.pem(), 0o644)
}

fn make_certificate(
    ca: &Path,
    ca_key: &Path,
    name: &str,
    certificate: &Path,
    key: &Path,
) -> anyhow::Result<()> {
    let ca_pem = fs::read_to_string(ca).with_context(|| ca.display().to_string())?;
    let ca_key =
        KeyPair::from_pem(&fs::read_to_string(ca_key).with_context(|| ca_key.display().to_string())?)?;
    let issuer = Issuer::from_ca_cert_pem(&ca_pem, ca_key)?;
    let key_pair = KeyPair::generate()?;
    let mut params = lasting(vec![name.to_owned()], LIFE)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let made = params.signed_by(&key_pair, &issuer)?;
    write(key, &key_pair.serialize_pem(), 0o600)?;
    write(certificate, &format!("{}{ca_pem}", made.pem()), 0o644)
}

fn lasting(names: Vec<String>, life: Duration) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(names)?;
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_LAG).into();
    params.not_after = (now + life).into();
    Ok(params)
}

/// Whole or not at all: a crash leaves the old file or none.
fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    let _ = fs::remove_file(&temporary);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_and_again_for_another_name() {
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
