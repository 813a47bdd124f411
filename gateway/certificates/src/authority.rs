//! A certificate authority that signs certificates for the gateway.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use backends::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::expiry;
use crate::facts::CertificateFacts;
use crate::key_type::KeyType;
use crate::pair::Pair;
use crate::pem_file;
use crate::subject_name::SubjectName;

/// Validity begins this long before now, because clocks of clients may be behind.
pub(crate) const CLOCK_LAG: Duration = Duration::from_secs(24 * 3600);

/// The most characters of a common name (RFC 5280, `ub-common-name`).
const COMMON_NAME_MAX: usize = 64;

/// The common name of a certificate whose first name is too long for one.
const COMMON_NAME: &str = "quay-gateway";

/// A certificate that was just made, and its key.
#[derive(Debug)]
pub struct Issued {
    /// The chain in PEM, leaf first.
    pub chain: String,
    /// The private key in PEM.
    pub key: Secret,
}

/// Makes a CA with an EC P-256 key. It may sign certificates of servers, and no further CA.
///
/// # Errors
/// No key can be made.
pub fn make_ca(common_name: &str, life: Duration) -> anyhow::Result<Issued> {
    let key = KeyType::EcP256.generate()?;
    let chain = certificate_of_ca(&key, common_name, life)?;
    Ok(Issued { chain, key: Secret::new(key.serialize_pem()) })
}

/// The certificate of a CA with this key, in PEM.
///
/// # Errors
/// The key cannot sign.
pub(crate) fn certificate_of_ca(key: &KeyPair, common_name: &str, life: Duration) -> anyhow::Result<String> {
    let mut params = valid_for(life);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name.push(DnType::CommonName, common_name);
    Ok(params.self_signed(key)?.pem())
}

/// Reads a key that signs certificates.
///
/// # Errors
/// The file cannot be read, or has no key that can sign.
pub(crate) fn signing_key(key: &Path) -> anyhow::Result<KeyPair> {
    // The parser's error may hold a part of the key.
    KeyPair::try_from(&pem_file::private_key(key)?)
        .map_err(|_| anyhow::anyhow!("the private key in {} cannot sign: use EC P-256 or RSA", key.display()))
}

/// A CA that can sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// In PEM.
    certificate: String,
    facts: CertificateFacts,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl Authority {
    /// Reads the certificate and the key of a CA.
    ///
    /// # Errors
    /// A file cannot be read, the certificate is no CA's or has expired, or the key does not belong to it.
    pub fn read(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let pair = Pair::read(certificate, key)?;
        let facts = pair.leaf().clone();
        let shown = certificate.display();
        anyhow::ensure!(facts.is_ca, "{shown} is no CA's certificate: `quay-gateway certs ca` makes one");
        anyhow::ensure!(facts.not_after >= expiry::now(), "the CA in {shown} has expired: make another one");
        let issuer = Issuer::from_ca_cert_der(&pair.chain()[0], signing_key(key)?)
            .with_context(|| format!("the CA in {shown} cannot sign"))?;
        Ok(Self { issuer, certificate: pem_file::chain_to_pem(pair.chain()), facts })
    }

    /// What its certificate says.
    #[must_use]
    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// Issues a certificate of a server for `names`, at least one, with a key of its own. The chain ends with the CA.
    ///
    /// # Errors
    /// There is no name, the certificate would outlive the CA, or no key can be made.
    pub fn issue(&self, names: &[SubjectName], key_type: KeyType, life: Duration) -> anyhow::Result<Issued> {
        let first = names.first().context("a certificate needs at least one name")?.to_string();
        let mut params = valid_for(life);
        anyhow::ensure!(
            params.not_after.unix_timestamp() <= self.facts.not_after,
            "the certificate would outlive its CA, so clients would refuse it before its end: ask for fewer days, or \
             make another CA"
        );
        params.subject_alt_names = names.iter().map(alternative_name).collect::<Result<_, _>>()?;
        let common_name = if first.len() <= COMMON_NAME_MAX { &first } else { COMMON_NAME };
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if key_type != KeyType::EcP256 {
            // Old clients of RSA look for it.
            params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = key_type.generate()?;
        let made = params.signed_by(&key, &self.issuer)?;
        let chain = format!("{}{}", made.pem(), self.certificate);
        Ok(Issued { chain, key: Secret::new(key.serialize_pem()) })
    }
}

fn alternative_name(name: &SubjectName) -> Result<SanType, rcgen::Error> {
    Ok(match name {
        SubjectName::Host(name) => SanType::DnsName(name.as_str().try_into()?),
        SubjectName::Address(address) => SanType::IpAddress(*address),
    })
}

fn valid_for(life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    // The default common name says that a library made it.
    params.distinguished_name = rcgen::DistinguishedName::new();
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_LAG).into();
    params.not_after = (now + life).into();
    params
}
