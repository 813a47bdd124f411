//! What a certificate says.

use std::net::IpAddr;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use sha2::{Digest as _, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::{OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::printable::printable;

/// What a certificate says. All texts are on one line and without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Whom it is for, such as `CN=registry.example.com`.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// The host names and addresses that it is for, in its order.
    pub names: Vec<String>,
    /// The type of its key, such as `EC P-256` or `RSA 2048`.
    pub key: String,
    /// From when it is valid, in seconds since 1970.
    pub not_before: i64,
    /// Until when it is valid, in seconds since 1970.
    pub not_after: i64,
    /// Whether it is a CA.
    pub is_ca: bool,
    /// The SHA-256 of the whole certificate, as `AB:CD:…`.
    pub fingerprint: String,
    /// The names are compared as they are encoded: two names may be printed alike.
    is_self_issued: bool,
}

/// These bytes are no X.509 certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no X.509 certificate")]
pub struct NoCertificate;

impl CertificateFacts {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// It is no X.509 certificate.
    pub fn of(der: &[u8]) -> Result<Self, NoCertificate> {
        let (_, parsed) = x509_parser::parse_x509_certificate(der).map_err(|_| NoCertificate)?;
        Ok(Self {
            subject: printable(&parsed.subject().to_string()),
            issuer: printable(&parsed.issuer().to_string()),
            names: names(&parsed),
            key: key(parsed.public_key()),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            is_ca: parsed.is_ca(),
            fingerprint: fingerprint(der),
            is_self_issued: parsed.issuer().as_raw() == parsed.subject().as_raw(),
        })
    }

    /// Whether it names itself as its issuer, as a root does.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.is_self_issued
    }
}

/// Whether a client that dials `host`, a name or an address without a port, accepts the names of this certificate.
#[must_use]
pub fn covers_host(der: &CertificateDer<'_>, host: &str) -> bool {
    let Ok(server_name) = ServerName::try_from(host) else { return false };
    let Ok(parsed) = ParsedCertificate::try_from(der) else { return false };
    rustls::client::verify_server_name(&parsed, &server_name).is_ok()
}

/// Whether two certificates have the same public key, so that one private key fits both.
#[must_use]
pub fn same_key(one: &CertificateDer<'_>, other: &CertificateDer<'_>) -> bool {
    let key = |der: &CertificateDer<'_>| {
        ParsedCertificate::try_from(der).ok().map(|parsed| parsed.subject_public_key_info())
    };
    key(one).is_some_and(|one| key(other) == Some(one))
}

fn names(parsed: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(found)) = parsed.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(printable(&name.to_ascii_lowercase())),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    };
    found.value.general_names.iter().filter_map(name).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

fn key(info: &SubjectPublicKeyInfo<'_>) -> String {
    let curve = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    match info.parsed() {
        Ok(PublicKey::RSA(key)) => format!("RSA {}", key.key_size()),
        Ok(PublicKey::EC(_)) => match curve {
            Some(curve) if curve == OID_EC_P256 => "EC P-256".to_owned(),
            Some(curve) if curve == OID_NIST_EC_P384 => "EC P-384".to_owned(),
            Some(curve) if curve == OID_NIST_EC_P521 => "EC P-521".to_owned(),
            _ => "EC".to_owned(),
        },
        _ => printable(&info.algorithm.algorithm.to_id_string()),
    }
}

fn fingerprint(der: &[u8]) -> String {
    let pairs: Vec<_> = Sha256::digest(der).iter().map(|byte| hex::encode_upper([*byte])).collect();
    pairs.join(":")
}

#[cfg(test)]
mod tests {
    use rcgen::string::PrintableString;
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, DnValue, IsCa,
        KeyPair,
    };

    use super::*;

    fn params(name: DnValue) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    /// The names of issuer and subject are encoded in other ways, so they are other names (RFC 5280, section 7.1).
    #[test]
    fn names_that_are_printed_alike_may_differ() {
        let printable = DnValue::PrintableString(PrintableString::try_from("quay").expect("letters"));
        let mut ca = params(printable);
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().expect("a key")).expect("a CA");
        let leaf = params(DnValue::Utf8String("quay".to_owned()));
        let leaf = leaf.signed_by(&KeyPair::generate().expect("a key"), &ca).expect("signed");
        let (ca, leaf) = (
            CertificateFacts::of(ca.der()).expect("a CA"),
            CertificateFacts::of(leaf.der()).expect("a leaf"),
        );
        assert_eq!(leaf.subject, leaf.issuer);
        assert!(ca.is_self_issued() && !leaf.is_self_issued());
    }
}
