//! A certificate chain and its private key, as the gateway serves them.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use crate::facts::CertificateFacts;
use crate::server_names::ServerNames;
use crate::{expiry, pem_file};

/// How far, in seconds, the clock of whoever signed a certificate may be ahead of this one.
const CLOCK_SKEW: i64 = 300;

/// A certificate chain and the private key that fits.
#[derive(Debug)]
pub struct Pair {
    certified: Arc<CertifiedKey>,
    leaf: CertificateFacts,
    names: ServerNames,
    expires: i64,
}

impl Pair {
    /// Reads a chain, leaf first, and its key. The result is of one generation of the files, because the key fits.
    ///
    /// # Errors
    /// A file cannot be read, has no certificate or no key, or the key does not belong to the certificate.
    pub fn read(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let chain = pem_file::chain(certificate)?;
        let private = pem_file::private_key(key)?;
        let shown = certificate.display();
        let facts: Result<Vec<_>, _> = chain.iter().map(|der| CertificateFacts::of(der)).collect();
        let facts = facts.with_context(|| format!("{shown} is damaged: copy the whole chain again"))?;
        let leaf = facts.first().context("a chain is never empty")?.clone();
        let provider = CryptoProvider::get_default().context("no TLS provider is installed")?;
        let certified = CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => anyhow::anyhow!(
                "the key in {} does not belong to the certificate in {shown}: replace both files together, and begin \
                 the file of certificates with the one of the key",
                key.display()
            ),
            error => anyhow::Error::new(error).context(format!(
                "the certificate in {shown} with the key in {} cannot be used: an X.509 certificate of version 3 is \
                 expected, with EC P-256, or RSA of 2048 bits or more",
                key.display()
            )),
        })?;
        // A client uses its own copy of a root, and looks at no dates of the one that is sent.
        let sent = facts.iter().skip(1).filter(|one| !one.is_self_issued()).map(|one| one.not_after);
        let expires = sent.fold(leaf.not_after, i64::min);
        let names = ServerNames::new(&leaf.names);
        Ok(Self { certified: Arc::new(certified), leaf, names, expires })
    }

    /// What the certificate says.
    #[must_use]
    pub fn leaf(&self) -> &CertificateFacts {
        &self.leaf
    }

    /// The certificates, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// When the first certificate of the chain expires, in seconds since 1970. A root in the chain does not count.
    #[must_use]
    pub fn expires(&self) -> i64 {
        self.expires
    }

    /// What TLS needs of it.
    pub(crate) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// Whether it is for this server name.
    pub(crate) fn covers(&self, host: &str) -> bool {
        self.names.cover(host)
    }

    /// Refuses a pair that must not replace one that works.
    ///
    /// # Errors
    /// The leaf has expired, or is not valid yet. Others of the chain do not matter: clients may know another way to a
    /// root.
    pub(crate) fn valid_now(self, certificate: &Path) -> anyhow::Result<Self> {
        let (now, shown) = (expiry::now(), certificate.display());
        anyhow::ensure!(self.leaf.not_after >= now, "the certificate in {shown} has expired: renew it");
        anyhow::ensure!(
            self.leaf.not_before <= now.saturating_add(CLOCK_SKEW),
            "the certificate in {shown} is not valid yet: it is taken as soon as it is"
        );
        Ok(self)
    }
}
