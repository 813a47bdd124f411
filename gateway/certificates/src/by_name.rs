//! Chooses the certificate for a client by the server name that it asks for (SNI).

use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::pair::Pair;

/// The pairs that are served. The first is for clients that name no host, or a host that no certificate is for.
#[derive(Debug)]
pub(crate) struct ByName(pub(crate) Vec<Arc<Pair>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let pair =
            self.choose(hello.server_name(), |pair| pair.certified().key.choose_scheme(schemes).is_some())?;
        Some(Arc::clone(pair.certified()))
    }
}

impl ByName {
    /// The first pair that is for this host and that the client can use. So a host may have an EC certificate, and an
    /// RSA certificate for old clients.
    fn choose(&self, host: Option<&str>, usable: impl Fn(&Pair) -> bool) -> Option<&Arc<Pair>> {
        let first = self.0.first()?;
        let named = |host: &str| self.0.iter().filter(|pair| pair.covers(host)).collect::<Vec<_>>();
        let mut fitting = host.map(|host| named(&host.to_ascii_lowercase())).unwrap_or_default();
        if fitting.is_empty() {
            fitting = self.0.iter().filter(|pair| pair.leaf().names == first.leaf().names).collect();
        }
        fitting.iter().find(|pair| usable(pair)).or_else(|| fitting.first()).copied().or(Some(first))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::authority::{Authority, make_ca};
    use crate::key_type::KeyType;

    #[test]
    fn a_host_gets_its_own_certificate_and_an_old_client_the_one_with_rsa() {
        crate::install_provider();
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        let ca = make_ca("test CA", Duration::from_secs(7200)).expect("a CA");
        fs::write(at("ca.crt"), &ca.chain).expect("written");
        fs::write(at("ca.key"), ca.key.reveal()).expect("written");
        let authority = Authority::read(&at("ca.crt"), &at("ca.key")).expect("a CA");
        let pair = |name: &str, key_type| {
            let name = name.parse().expect("a name");
            let issued = authority.issue(&[name], key_type, Duration::from_secs(3600)).expect("issued");
            fs::write(at("tls.crt"), &issued.chain).expect("written");
            fs::write(at("tls.key"), issued.key.reveal()).expect("written");
            Arc::new(Pair::read(&at("tls.crt"), &at("tls.key")).expect("a pair"))
        };
        let pairs = ByName(vec![
            pair("a.example.com", KeyType::EcP256),
            pair("*.b.example.com", KeyType::EcP256),
            pair("a.example.com", KeyType::Rsa2048),
        ]);
        let chosen = |host, old: bool| {
            let usable = |pair: &Pair| !old || pair.leaf().key.starts_with("RSA");
            let pair = pairs.choose(host, usable).expect("a pair");
            (pair.leaf().names[0].clone(), pair.leaf().key.clone())
        };
        for (host, old, name, key) in [
            (Some("A.example.com"), false, "a.example.com", "EC P-256"),
            (Some("a.example.com"), true, "a.example.com", "RSA 2048"),
            (Some("x.b.example.com"), false, "*.b.example.com", "EC P-256"),
            // Nothing that the client can use is for this host; the handshake then fails.
            (Some("x.b.example.com"), true, "*.b.example.com", "EC P-256"),
            (Some("unknown.example.com"), false, "a.example.com", "EC P-256"),
            (None, false, "a.example.com", "EC P-256"),
            (None, true, "a.example.com", "RSA 2048"),
        ] {
            assert_eq!(chosen(host, old), (name.to_owned(), key.to_owned()), "{host:?} {old}");
        }
        assert!(ByName(Vec::new()).choose(None, |_| true).is_none());
    }
}
