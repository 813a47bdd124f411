//! The CA and the certificate that the gateway makes when the configuration names none.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use config::bare_host;

use crate::authority::{Authority, certificate_of_ca, make_ca, signing_key};
use crate::expiry;
use crate::facts::{CertificateFacts, covers_host};
use crate::key_type::KeyType;
use crate::pair::Pair;
use crate::pem_file;
use crate::subject_name::SubjectName;

/// How long the CA is valid. Every client must be told to trust it, so it lasts.
const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How long a certificate is valid. Some clients refuse more than 825 days.
const LIFE: Duration = Duration::from_secs(800 * 24 * 3600);

/// If a certificate is valid for less than this, it is replaced.
const LIFE_LEFT_MIN: Duration = Duration::from_secs(30 * 24 * 3600);

/// A certificate ends this long before its CA, at most.
const BEFORE_CA: Duration = Duration::from_secs(24 * 3600);

/// Everybody may read a certificate, only its owner may replace it.
pub(crate) const CERTIFICATE_MODE: u32 = 0o644;

/// The name of the CA.
const CA_NAME: &str = "quay-gateway CA";

/// The files in a folder.
struct Files {
    ca: PathBuf,
    ca_key: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn of(dir: &Path) -> Self {
        let at = |name: &str| dir.join(name);
        Self { ca: at("ca.pem"), ca_key: at("ca.key"), certificate: at("tls.crt"), key: at("tls.key") }
    }
}

/// The paths of the certificate and the key in `dir` for these names, as `host[:port]`.
///
/// They are made if they are missing, expire soon, are for other names, or are of another CA than `ca.pem`. The CA is
/// made once and kept. If this fails, but there is a certificate that has not expired, that one is served: [`renew`]
/// returns the error again.
///
/// # Errors
/// A file cannot be read or written, or a part of the CA is missing.
pub(super) fn ensure<S: AsRef<str>>(dir: &Path, hostnames: &[S]) -> anyhow::Result<(PathBuf, PathBuf)> {
    let files = Files::of(dir);
    let hosts = hosts(hostnames);
    if !is_usable(&files, &hosts) {
        let made = ensure_ca(&files).and_then(|()| write_certificate(&files, &hosts));
        match made.with_context(|| cannot_create(dir)) {
            Err(error) if !is_servable(&files, &hosts) => return Err(error),
            // Whoever follows the files reports it.
            Ok(()) | Err(_) => {}
        }
    }
    let hostname = hostnames.first().map_or("", AsRef::as_ref);
    tracing::info!(
        "clients must trust this gateway's CA. podman and skopeo: copy {ca} to /etc/containers/certs.d/{hostname}/ca.crt; \
         docker: /etc/docker/certs.d/{hostname}/ca.crt; containerd: `ca = \"{ca}\"` in certs.d/{hostname}/hosts.toml; \
         OpenShift: additionalTrustedCA of image.config.openshift.io/cluster",
        ca = files.ca.display()
    );
    Ok((files.certificate, files.key))
}

/// Makes the certificate in `dir` again if it is missing, expires soon, or is of another CA than `ca.pem`. The CA must
/// be there. Other names are a reason only at the start ([`ensure`]): they do not change while the gateway runs.
pub(super) fn renew<S: AsRef<str>>(dir: &Path, hostnames: &[S]) -> anyhow::Result<()> {
    let files = Files::of(dir);
    if is_usable(&files, &[]) {
        return Ok(());
    }
    write_certificate(&files, &hosts(hostnames)).with_context(|| cannot_create(dir))
}

fn cannot_create(dir: &Path) -> String {
    format!("cannot create a certificate in {}", dir.display())
}

fn hosts<S: AsRef<str>>(hostnames: &[S]) -> Vec<&str> {
    hostnames.iter().map(|name| bare_host(name.as_ref())).collect()
}

/// Makes a CA if there is none. A CA of which a part is missing is not replaced, because clients trust it.
fn ensure_ca(files: &Files) -> anyhow::Result<()> {
    let lost = |missing: &Path, other: &Path| {
        let (missing, other) = (missing.display(), other.display());
        anyhow::anyhow!(
            "{missing} is missing, and clients may trust the CA of {other}: restore {missing}, or move {other} away so \
             that another CA is made, which all clients must then trust"
        )
    };
    match (files.ca.exists(), files.ca_key.exists()) {
        (true, true) => Ok(()),
        (true, false) => Err(lost(&files.ca_key, &files.ca)),
        (false, true) if files.certificate.exists() => Err(lost(&files.ca, &files.ca_key)),
        (_, has_key) => {
            // A key alone is what a crash in `write_ca` leaves, or a backup of keys. Clients may trust it.
            if has_key {
                write_ca_of_key(files)?
            } else {
                write_ca(files)?
            }
            tracing::info!(ca = %files.ca.display(), "created a CA for this gateway");
            Ok(())
        }
    }
}

/// Whether the pair fits, is for these hosts, is signed by the CA and does not expire soon.
fn is_usable(files: &Files, hosts: &[&str]) -> bool {
    let Ok(pair) = Pair::read(&files.certificate, &files.key) else { return false };
    // Clients are told to trust `ca.pem`.
    let of_this_ca =
        !files.ca.exists() || pem_file::chain(&files.ca).is_ok_and(|ca| ca.as_slice() == &pair.chain()[1..]);
    let ends = pair.leaf().not_after;
    // With a CA that ends, another certificate would end no later.
    let ca_ends =
        pair.chain().last().and_then(|ca| CertificateFacts::of(ca).ok()).map_or(i64::MAX, |ca| ca.not_after);
    let lasts = ends.saturating_sub(expiry::now()) > seconds(LIFE_LEFT_MIN);
    covers_all(&pair, hosts) && of_this_ca && (lasts || ends.saturating_add(seconds(BEFORE_CA)) >= ca_ends)
}

/// Whether clients accept the pair now, at least those that trust the CA that signed it.
fn is_servable(files: &Files, hosts: &[&str]) -> bool {
    Pair::read(&files.certificate, &files.key)
        .is_ok_and(|pair| covers_all(&pair, hosts) && pair.leaf().not_after > expiry::now())
}

fn covers_all(pair: &Pair, hosts: &[&str]) -> bool {
    hosts.iter().all(|host| covers_host(&pair.chain()[0], host))
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn write_ca(files: &Files) -> anyhow::Result<()> {
    let made = make_ca(CA_NAME, CA_LIFE)?;
    atomic_file::write(&files.ca_key, made.key.reveal().as_bytes(), atomic_file::PRIVATE)?;
    atomic_file::write(&files.ca, made.chain.as_bytes(), CERTIFICATE_MODE)?;
    Ok(())
}

/// Makes another certificate of a CA whose key is there.
fn write_ca_of_key(files: &Files) -> anyhow::Result<()> {
    let made = certificate_of_ca(&signing_key(&files.ca_key)?, CA_NAME, CA_LIFE)?;
    atomic_file::write(&files.ca, made.as_bytes(), CERTIFICATE_MODE)?;
    Ok(())
}

fn write_certificate(files: &Files, hosts: &[&str]) -> anyhow::Result<()> {
    let authority = Authority::read(&files.ca, &files.ca_key)?;
    // The configuration accepts names that are no host names, such as those with an underscore.
    let name = |host: &&str| host.parse().unwrap_or_else(|_| SubjectName::Host((*host).to_owned()));
    let names: Vec<_> = hosts.iter().map(name).collect();
    let ca_left = authority.facts().not_after.saturating_sub(expiry::now() + seconds(BEFORE_CA) / 2);
    let life = LIFE.min(Duration::from_secs(u64::try_from(ca_left).unwrap_or(0)));
    let made = authority.issue(&names, KeyType::EcP256, life)?;
    atomic_file::write(&files.key, made.key.reveal().as_bytes(), atomic_file::PRIVATE)?;
    atomic_file::write(&files.certificate, made.chain.as_bytes(), CERTIFICATE_MODE)?;
    tracing::info!(certificate = %files.certificate.display(), names = hosts.join(" "), "created a certificate");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_certificate_is_kept_and_replaced_for_another_name() {
        crate::install_provider();
        let dir = tempfile::tempdir().expect("a folder");
        let (certificate, key) = ensure(dir.path(), &["edge.example.com:8443"]).expect("makes");
        let first = fs::read(&certificate).expect("reads");
        let ca = fs::read(dir.path().join("ca.pem")).expect("reads");
        ensure(dir.path(), &["edge.example.com:8443"]).expect("keeps");
        assert_eq!(fs::read(&certificate).expect("reads"), first);
        ensure(dir.path(), &["127.0.0.1:8443"]).expect("makes");
        assert_ne!(fs::read(&certificate).expect("reads"), first);
        assert_eq!(fs::read(dir.path().join("ca.pem")).expect("reads"), ca);
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(dir.path().join("tls.key")).expect("is there").permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
        // A crash between the two files leaves a key that does not fit.
        fs::write(&key, rcgen::KeyPair::generate().expect("a key").serialize_pem()).expect("written");
        ensure(dir.path(), &["127.0.0.1:8443"]).expect("makes");
        Pair::read(&certificate, &key).expect("they fit");
    }

    #[test]
    fn a_certificate_ends_with_its_ca_and_is_not_made_again_and_again() {
        crate::install_provider();
        let dir = tempfile::tempdir().expect("a folder");
        let files = Files::of(dir.path());
        let ca = make_ca(CA_NAME, Duration::from_secs(10 * 24 * 3600)).expect("a CA");
        fs::write(&files.ca, ca.chain).expect("written");
        fs::write(&files.ca_key, ca.key.reveal()).expect("written");
        ensure(dir.path(), &["edge.example.com"]).expect("makes");
        let first = fs::read(&files.certificate).expect("reads");
        renew(dir.path(), &["edge.example.com"]).expect("keeps");
        assert_eq!(fs::read(&files.certificate).expect("reads"), first);
    }

    #[test]
    fn a_certificate_is_for_all_names() {
        crate::install_provider();
        let dir = tempfile::tempdir().expect("a folder");
        let names = ["edge.example.com:8443", "[::1]:8443", "registry.example.com"];
        let (certificate, key) = ensure(dir.path(), &names).expect("makes");
        let pair = Pair::read(&certificate, &key).expect("a pair");
        assert!(hosts(&names).iter().all(|host| covers_host(&pair.chain()[0], host)), "{:?}", pair.leaf());
        let first = fs::read(&certificate).expect("reads");
        ensure(dir.path(), &names[..2]).expect("keeps");
        assert_eq!(fs::read(&certificate).expect("reads"), first, "it is for more than is needed");
        ensure(dir.path(), &["another.example.com"]).expect("makes");
        assert_ne!(fs::read(&certificate).expect("reads"), first);
    }

    /// Clients trust the CA: it must not be replaced because its other half is missing.
    #[test]
    fn half_a_ca_is_not_replaced() {
        crate::install_provider();
        for (lost, kept) in [("ca.key", "ca.pem"), ("ca.pem", "ca.key")] {
            let dir = tempfile::tempdir().expect("a folder");
            ensure(dir.path(), &["edge.example.com"]).expect("makes");
            let read = |name: &str| fs::read(dir.path().join(name)).expect("reads");
            let before = (read(kept), read("tls.crt"));
            fs::remove_file(dir.path().join(lost)).expect("removed");
            ensure(dir.path(), &["edge.example.com"]).expect("the certificate is usable");
            let error = ensure(dir.path(), &["other.example.com"]).expect_err("nothing can be signed");
            assert!(format!("{error:#}").contains(&format!("{lost} is missing")), "{error:#}");
            assert_eq!((read(kept), read("tls.crt")), before);
        }
    }

    /// A crash between the two files of a new CA leaves its key, and so does a backup of keys alone.
    #[test]
    fn a_key_without_its_ca_gets_a_ca_and_is_kept() {
        crate::install_provider();
        let dir = tempfile::tempdir().expect("a folder");
        let files = Files::of(dir.path());
        let key = KeyType::EcP256.generate().expect("a key").serialize_pem();
        fs::write(&files.ca_key, &key).expect("written");
        ensure(dir.path(), &["edge.example.com"]).expect("makes");
        assert_eq!(fs::read_to_string(&files.ca_key).expect("reads"), key);
        Pair::read(&files.ca, &files.ca_key).expect("the CA is that key's");
        // What is no key is not overwritten.
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("ca.key"), "half").expect("written");
        ensure(dir.path(), &["edge.example.com"]).expect_err("it is no key");
        assert_eq!(fs::read(dir.path().join("ca.key")).expect("reads"), b"half");
    }

    /// Clients are told to trust `ca.pem`.
    #[test]
    fn a_certificate_of_another_ca_is_replaced() {
        crate::install_provider();
        let dir = tempfile::tempdir().expect("a folder");
        let files = Files::of(dir.path());
        ensure(dir.path(), &["edge.example.com"]).expect("makes");
        let first = fs::read(&files.certificate).expect("reads");
        let ca = make_ca(CA_NAME, CA_LIFE).expect("a CA");
        fs::write(&files.ca, &ca.chain).expect("written");
        // Without the key, the certificate that there is stays in use, and the error is reported.
        ensure(dir.path(), &["edge.example.com"]).expect("serves");
        renew(dir.path(), &["edge.example.com"]).expect_err("the key is another CA's");
        assert_eq!(fs::read(&files.certificate).expect("reads"), first);
        fs::write(&files.ca_key, ca.key.reveal()).expect("written");
        renew(dir.path(), &["edge.example.com"]).expect("makes");
        let chain = Pair::read(&files.certificate, &files.key).expect("a pair").chain().to_vec();
        assert_eq!(chain[1..], pem_file::chain(&files.ca).expect("a CA"));
    }

    /// A certificate of a CA that is valid until then, for a gateway that has lost the CA's key.
    fn without_ca_key(days: u64) -> (tempfile::TempDir, Files) {
        crate::install_provider();
        let dir = tempfile::tempdir().expect("a folder");
        let files = Files::of(dir.path());
        write_ca(&files).expect("a CA");
        let authority = Authority::read(&files.ca, &files.ca_key).expect("a CA");
        let names = ["edge.example.com".parse().expect("a name")];
        let life = Duration::from_secs(days * 24 * 3600);
        let made = authority.issue(&names, KeyType::EcP256, life).expect("issued");
        fs::write(&files.certificate, made.chain).expect("written");
        fs::write(&files.key, made.key.reveal()).expect("written");
        fs::remove_file(&files.ca_key).expect("removed");
        (dir, files)
    }

    #[test]
    fn a_valid_certificate_is_served_although_it_cannot_be_renewed() {
        let (dir, _files) = without_ca_key(20);
        ensure(dir.path(), &["edge.example.com"]).expect("serves");
        let error = renew(dir.path(), &["edge.example.com"]).expect_err("there is no key");
        assert!(format!("{error:#}").contains("cannot create a certificate in"), "{error:#}");
        ensure(dir.path(), &["other.example.com"]).expect_err("it is for another name");
        let (dir, _files) = without_ca_key(0);
        let error = ensure(dir.path(), &["edge.example.com"]).expect_err("it has expired");
        let error = format!("{error:#}");
        assert!(error.contains("ca.key is missing") && !error.contains("cannot create a CA"), "{error}");
    }

    /// For some names nothing that is issued is good enough.
    #[test]
    fn a_running_gateway_makes_no_certificate_for_other_names() {
        crate::install_provider();
        let dir = tempfile::tempdir().expect("a folder");
        let (certificate, _) = ensure(dir.path(), &["edge.example.com."]).expect("makes");
        let first = fs::read(&certificate).expect("reads");
        renew(dir.path(), &["edge.example.com."]).expect("keeps");
        assert_eq!(fs::read(&certificate).expect("reads"), first);
    }

    /// Clients trust the CA. Without it, no other one is made while the gateway runs.
    #[test]
    fn a_renewal_makes_no_ca() {
        crate::install_provider();
        let dir = tempfile::tempdir().expect("a folder");
        let (certificate, _) = ensure(dir.path(), &["edge.example.com"]).expect("makes");
        fs::remove_file(&certificate).expect("removed");
        renew(dir.path(), &["edge.example.com"]).expect("made again");
        fs::remove_file(dir.path().join("ca.key")).expect("removed");
        renew(dir.path(), &["edge.example.com"]).expect("is usable");
        fs::remove_file(&certificate).expect("removed");
        renew(dir.path(), &["edge.example.com"]).expect_err("there is no CA");
    }
}
