//! `certs issue`: issues a certificate for the gateways.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use certificates::{Authority, KeyType, SubjectName};

use super::{authority, days, files};

/// The most days of a certificate. With the day before now from which it is valid, these are the 825 days beyond which
/// Apple's clients refuse it.
pub const DAYS_MAX: u32 = 824;

/// The most names in a certificate. It is sent in every handshake.
pub const NAMES_MAX: usize = 100;

/// The CA that the gateway itself makes in its `state_dir`.
const MADE_CERTIFICATE: &str = "ca.pem";

/// What `certs issue` is asked for.
#[derive(Debug)]
pub struct IssueRequest<'a> {
    /// The folder of the CA: `ca.crt` (or `ca.pem`) and `ca.key`.
    pub ca: &'a Path,
    /// The folder of `tls.crt` and `tls.key`.
    pub out: &'a Path,
    /// The names; at least one, at most [`NAMES_MAX`].
    pub names: Vec<SubjectName>,
    /// The type of the key.
    pub key_type: KeyType,
    /// For how many days it is valid, at most [`DAYS_MAX`].
    pub days: u32,
}

/// Issues a certificate. Returns what was done, as text.
///
/// # Errors
/// There are too many names, the CA cannot be used, or a file exists already or cannot be written.
pub fn issue(request: &IssueRequest<'_>) -> anyhow::Result<String> {
    certificates::install_provider();
    let names = distinct(&request.names);
    anyhow::ensure!(!names.is_empty(), "a certificate needs at least one name: give --san or --config");
    anyhow::ensure!(
        names.len() <= NAMES_MAX,
        "{} names, but a certificate has at most {NAMES_MAX}, because it is sent in every handshake: use a wildcard such \
         as *.apps.example.com, or several certificates (tls.more)",
        names.len()
    );
    let authority = Authority::read(&certificate_of(request.ca), &request.ca.join(authority::KEY))?;
    let issued = authority.issue(&names, request.key_type, days(request.days))?;
    let (certificate, key) = files::write_new(request.out, "tls.crt", "tls.key", &issued)?;
    let shown: Vec<_> = names.iter().map(ToString::to_string).collect();
    Ok(format!(
        "{} is for {}, for {} days, signed by {}.\n{} is its key.\n\
         `quay-gateway certs secret --certificate {0} --key {4} --name NAME` makes a Secret of both.\n",
        certificate.display(),
        shown.join(", "),
        request.days,
        authority.facts().subject,
        key.display()
    ))
}

fn certificate_of(folder: &Path) -> PathBuf {
    let (usual, made) = (folder.join(authority::CERTIFICATE), folder.join(MADE_CERTIFICATE));
    if !usual.exists() && made.exists() { made } else { usual }
}

fn distinct(names: &[SubjectName]) -> Vec<SubjectName> {
    let mut seen = HashSet::new();
    names.iter().filter(|name| seen.insert(*name)).cloned().collect()
}
