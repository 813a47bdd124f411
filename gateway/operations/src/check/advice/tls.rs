//! The advice for a failed TLS handshake.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use super::{Advice, Peer};

/// The advice for a failed handshake with the server of this name.
pub(super) fn advise(peer: &Peer, name: &str, error: &io::Error) -> Advice {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidCertificate(why)) => certificate(peer, name, why),
        Some(Error::InvalidMessage(_)) => no_tls(peer),
        Some(Error::AlertReceived(AlertDescription::CertificateRequired)) => Advice::new(
            "the server requires a client certificate, which the gateway does not have",
            "configure the server to accept clients without a certificate",
        ),
        Some(Error::AlertReceived(AlertDescription::UnrecognisedName)) => {
            Advice::new("the server does not serve this name", format!("correct {}", server_name(peer)))
        }
        Some(Error::AlertReceived(_) | Error::PeerIncompatible(_)) => Advice::new(
            "the server and the gateway have no version or cipher in common; the gateway speaks TLS 1.2 and 1.3",
            "configure the server for TLS 1.2 or 1.3",
        ),
        Some(_) => Advice::new("the TLS handshake failed", "check the server's log"),
        None if error.kind() == io::ErrorKind::InvalidInput => {
            Advice::new("a certificate cannot be for this name", format!("correct {}", server_name(peer)))
        }
        // The server closed the connection.
        None => no_tls(peer),
    }
}

fn certificate(peer: &Peer, name: &str, why: &CertificateError) -> Advice {
    match why {
        CertificateError::UnknownIssuer => {
            Advice::new("the CA that signed the server's certificate is not trusted here", trust(peer))
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Advice::new(
            "the server's certificate has expired, or this machine's clock is ahead",
            "renew the certificate on the server; compare `date -u` on both machines",
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Advice::new(
            "the server's certificate is not valid yet, or this machine's clock is behind",
            "compare `date -u` on both machines",
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Advice::new(
            format!("the server's certificate is not for {name}"),
            format!(
                "set {} to a name in the certificate, or issue a certificate for {name}",
                server_name(peer)
            ),
        ),
        CertificateError::Revoked => {
            Advice::new("the server's certificate has been revoked", "renew the certificate on the server")
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => Advice::new(
            "the server's certificate may not be used by a server",
            "issue a certificate with the extended key usage serverAuth",
        ),
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => Advice::new(
            "the server uses the certificate of a CA as its own",
            "give the server a certificate that the CA has signed",
        ),
        _ => Advice::new("the server's certificate is not valid", "issue a new certificate"),
    }
}

fn trust(peer: &Peer) -> &'static str {
    if peer.is("SwiftStorage") {
        "set `ca_cert_path` to the PEM file of that CA; without `ca_cert_path`, set `ca` to it, or put it into \
         `extra_ca_certs` beside Quay's config.yaml; the server must send its intermediate certificates"
    } else {
        "set `ca` to the PEM file of that CA, or put it into `extra_ca_certs` beside Quay's config.yaml; the \
         server must send its intermediate certificates"
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
        "the server does not speak TLS on this port, or something on the way closes the connection",
        format!("correct {}; if plain HTTP is intended, write {how}", peer.place()),
    )
}
