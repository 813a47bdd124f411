//! What a failed handshake means.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use super::{Advice, Peer};

/// What to say of a handshake with a server of this name.
pub(super) fn advise(peer: &Peer, name: &str, error: &io::Error) -> Advice {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidCertificate(why)) => certificate(peer, name, why),
        Some(Error::InvalidMessage(_)) => no_tls(peer),
        Some(Error::AlertReceived(AlertDescription::CertificateRequired)) => Advice::new(
            "it wants a certificate of its clients, which the gateway has not got",
            "let the server take clients without one",
        ),
        Some(Error::AlertReceived(AlertDescription::UnrecognisedName)) => {
            Advice::new("it serves nobody of that name", format!("mend {}", server_name(peer)))
        }
        Some(Error::AlertReceived(_) | Error::PeerIncompatible(_)) => Advice::new(
            "server and gateway have no version or cipher in common; the gateway speaks TLS 1.2 and 1.3",
            "let the server speak TLS 1.2 or 1.3",
        ),
        Some(_) => Advice::new("the handshake went wrong", "see the server's log"),
        None if error.kind() == io::ErrorKind::InvalidInput => {
            Advice::new("that can be no name in a certificate", format!("mend {}", server_name(peer)))
        }
        // It broke the connection off.
        None => no_tls(peer),
    }
}

fn certificate(peer: &Peer, name: &str, why: &CertificateError) -> Advice {
    match why {
        CertificateError::UnknownIssuer => {
            Advice::new("whoever signed its certificate is not trusted here", trust(peer))
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Advice::new(
            "its certificate has expired, or this machine's clock is ahead",
            "renew the certificate on the server; compare `date -u` on both",
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Advice::new(
            "its certificate begins in the future, or this machine's clock is behind",
            "compare `date -u` on both machines",
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Advice::new(
            format!("its certificate is not for {name}"),
            format!("mend {} to a name in the certificate, or have one made for {name}", server_name(peer)),
        ),
        CertificateError::Revoked => {
            Advice::new("its certificate has been revoked", "renew the certificate on the server")
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => Advice::new(
            "its certificate is not for servers",
            "have one made with the extended key usage serverAuth",
        ),
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => Advice::new(
            "it shows the certificate of a CA as its own",
            "give the server a certificate that the CA has signed",
        ),
        _ => Advice::new("its certificate is not sound", "have it made anew"),
    }
}

fn trust(peer: &Peer) -> &'static str {
    if peer.is("SwiftStorage") {
        "put the signer's PEM file into `ca_cert_path`, or, without that, into `ca` or `extra_ca_certs` beside \
         Quay's config.yaml; a server must send its intermediate certificates along"
    } else {
        "put the signer's PEM file into `ca`, or into `extra_ca_certs` beside Quay's config.yaml; a server must \
         send its intermediate certificates along"
    }
}

fn server_name(peer: &Peer) -> &'static str {
    match peer.driver {
        None => "`registry.server_name`",
        Some(_) => peer.place(),
    }
}

fn no_tls(peer: &Peer) -> Advice {
    let how = match peer.driver.as_deref() {
        None => "`http://` in `registry.url`",
        Some("RadosGWStorage" | "RHOCSStorage" | "IBMCloudStorage") => "`is_secure: false`",
        Some(_) => "`http://` in the zone's URL",
    };
    Advice::new(
        "it does not speak TLS on this port, or something between breaks it off",
        format!("mend {}, or, if it is meant to be plain HTTP, write {how}", peer.place()),
    )
}
