//! `certs ca`: makes a CA.

use std::path::Path;

use anyhow::Context as _;
use certificates::{CertificateFacts, make_ca, pem_file};

use super::{days, files};

/// The most days of a CA: thirty years.
pub const CA_DAYS_MAX: u32 = 10_950;

/// The most characters of its name (RFC 5280, `ub-common-name`).
const NAME_MAX: usize = 64;

/// The files of a CA in its folder.
pub(super) const CERTIFICATE: &str = "ca.crt";
pub(super) const KEY: &str = "ca.key";

/// What `certs ca` is asked for.
#[derive(Debug)]
pub struct CaRequest<'a> {
    /// The folder of `ca.crt` and `ca.key`.
    pub out: &'a Path,
    /// The name that clients show for it.
    pub name: &'a str,
    /// For how many days it is valid, at most [`CA_DAYS_MAX`].
    pub days: u32,
}

/// Makes a CA. Returns what was done, as text.
///
/// # Errors
/// The name cannot be used, or a file exists already or cannot be written.
pub fn create_ca(request: &CaRequest<'_>) -> anyhow::Result<String> {
    certificates::install_provider();
    let name = request.name.trim();
    anyhow::ensure!(
        (1..=NAME_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control),
        "the name of a CA has 1 to {NAME_MAX} characters, none of them a control character"
    );
    let made = make_ca(name, days(request.days))?;
    let (certificate, key) = files::write_new(request.out, CERTIFICATE, KEY, &made)?;
    let chain = pem_file::chain(&certificate)?;
    let facts = CertificateFacts::of(chain.first().context("a chain is never empty")?)?;
    Ok(format!(
        "{} is the CA {name}, SHA-256 {}. Give it to clients: `quay-gateway certs trust --ca {0} --host HOST` says how.\n\
         {} is its key. Whoever has it can impersonate any host to those clients: keep it offline, and put it into no \
         Secret.\n",
        certificate.display(),
        facts.fingerprint,
        key.display()
    ))
}
