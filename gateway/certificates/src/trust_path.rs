//! Whether a chain leads to a root, as clients look for it.

use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use crate::facts::CertificateFacts;

/// Verifies that a chain, leaf first, leads to one of `roots`, for the first of its names. Dates of the leaf do not
/// matter here: they are looked at apart.
///
/// # Errors
/// It leads to no root, or a certificate of it may not be used for a server.
pub fn verify(
    chain: &[CertificateDer<'static>],
    facts: &CertificateFacts,
    roots: RootCertStore,
) -> Result<(), rustls::Error> {
    let Some((leaf, rest)) = chain.split_first() else { return Err(rustls::Error::NoCertificatesPresented) };
    let name = facts.names.first().map_or("localhost", String::as_str);
    let name = ServerName::try_from(name.replacen('*', "any", 1))
        .map_err(|_| rustls::Error::General("its first name is no host name and no address".into()))?;
    let verifier = WebPkiServerVerifier::builder(Arc::new(roots))
        .build()
        .map_err(|_| rustls::Error::General("no root is known".into()))?;
    let at = crate::expiry::now().clamp(facts.not_before, facts.not_after.max(facts.not_before));
    let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at).unwrap_or(0)));
    match verifier.verify_server_cert(leaf, rest, &name, &[], at) {
        // A certificate without names is reported as that.
        Err(rustls::Error::InvalidCertificate(
            rustls::CertificateError::NotValidForName
            | rustls::CertificateError::NotValidForNameContext { .. },
        )) if facts.names.is_empty() => Ok(()),
        done => done.map(drop),
    }
}
