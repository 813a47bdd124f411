//! `tls`: the certificates that clients see, and those that clients must show.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ConfigError;
use super::env::keys;
use super::files::{existing, existing_secret};
use super::located::Located;

/// The most certificates that the gateway serves.
const PAIRS_MAX: usize = 64;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TlsEntry {
    pub certificate: Option<Located<PathBuf>>,
    pub key: Option<Located<PathBuf>>,
    pub more: Option<Located<Vec<PairEntry>>>,
    pub client_ca: Option<Located<PathBuf>>,
}

/// A further certificate and its key.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PairEntry {
    pub certificate: Option<Located<PathBuf>>,
    pub key: Option<Located<PathBuf>>,
}

keys!(TlsEntry { certificate, key, more, client_ca });

/// What the gateway shows to clients, and what they must show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// The pairs, at most 64. The first is for clients that name no host, or a host that no certificate is for. If
    /// there is none, a certificate is made in `state_dir`.
    pub pairs: Vec<TlsPair>,
    /// A file of CAs, if every client must show a certificate that one of them signed.
    pub client_ca: Option<PathBuf>,
}

/// The PEM files of a certificate chain and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsPair {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Checks `tls`.
///
/// # Errors
/// A pair is not complete, a file does not exist, a certificate is named twice, or there are too many.
pub(super) fn tls(path: &Path, entry: &TlsEntry) -> Result<TlsSettings, ConfigError> {
    let client_ca = entry.client_ca.as_ref().map(|file| existing(path, "tls.client_ca", file)).transpose()?;
    let pairs = match (&entry.certificate, &entry.key) {
        (None, None) => Vec::new(),
        (Some(certificate), Some(key)) => vec![TlsPair {
            certificate: existing(path, "tls.certificate", certificate)?,
            key: existing_secret(path, "tls.key", key)?,
        }],
        (Some(given), None) => {
            let why = "tls.certificate without tls.key: set both, or neither to have a certificate made";
            return Err(ConfigError::new(path, given.line, why));
        }
        (None, Some(given)) => {
            let why = "tls.key without tls.certificate: set both, or neither to have a certificate made";
            return Err(ConfigError::new(path, given.line, why));
        }
    };
    let pairs = with_more(path, pairs, entry.more.as_ref())?;
    Ok(TlsSettings { pairs, client_ca })
}

/// Adds the pairs of `tls.more`.
fn with_more(
    path: &Path,
    mut pairs: Vec<TlsPair>,
    more: Option<&Located<Vec<PairEntry>>>,
) -> Result<Vec<TlsPair>, ConfigError> {
    let Some(more) = more else { return Ok(pairs) };
    let fail = |why: &str| Err(ConfigError::new(path, more.line, why));
    if pairs.is_empty() && !more.value.is_empty() {
        return fail(
            "tls.more without tls.certificate: write the first pair as tls.certificate and tls.key; clients that name \
             no host get it",
        );
    }
    for entry in &more.value {
        let (certificate, key) = match (&entry.certificate, &entry.key) {
            (Some(certificate), Some(key)) => (certificate, key),
            (Some(given), None) => {
                let why = "tls.more: an entry has no key: each needs certificate and key";
                return Err(ConfigError::new(path, given.line, why));
            }
            (None, Some(given)) => {
                let why = "tls.more: an entry has no certificate: each needs certificate and key";
                return Err(ConfigError::new(path, given.line, why));
            }
            (None, None) => return fail("tls.more: an entry is empty: each needs certificate and key"),
        };
        pairs.push(TlsPair {
            certificate: existing(path, "tls.more", certificate)?,
            key: existing_secret(path, "tls.more: key", key)?,
        });
    }
    if pairs.len() > PAIRS_MAX {
        return fail(&format!(
            "tls.more: {} certificates, but the limit is {PAIRS_MAX}: put more names into one certificate",
            pairs.len()
        ));
    }
    let mut seen = HashSet::new();
    match pairs.iter().find(|pair| !seen.insert(&pair.certificate)) {
        Some(twice) => fail(&format!("tls.more: {} is named twice: remove one", twice.certificate.display())),
        None => Ok(pairs),
    }
}
