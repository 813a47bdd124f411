//! What went wrong, in words: the likely cause, and the fix. Pure.

mod store;
mod tls;

use std::fmt;
use std::io;
use std::time::Duration;

use backends::Error;

use super::step::Name;

/// The likely cause of a failure, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// Why, most likely.
    pub cause: String,
    /// What mends it.
    pub fix: String,
}

impl Advice {
    pub(super) fn new(cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { cause: cause.into(), fix: fix.into() }
    }
}

/// Who failed.
#[derive(Debug, Clone, Default)]
pub(super) struct Peer {
    /// A zone's driver; `None` for the registry.
    pub(super) driver: Option<String>,
    /// Its bucket or container, if it has one, such as ``bucket `blobs` ``.
    pub(super) bucket: Option<String>,
    /// Whether it is spoken to over TLS.
    pub(super) tls: bool,
}

impl Peer {
    fn is(&self, driver: &str) -> bool {
        self.driver.as_deref() == Some(driver)
    }

    fn bucket(&self) -> &str {
        self.bucket.as_deref().unwrap_or("such bucket")
    }

    /// The parameter that says where it is.
    fn place(&self) -> &'static str {
        match self.driver.as_deref() {
            None => "`registry.url`",
            Some("SwiftStorage") => "`auth_url`",
            Some("AzureStorage") => "`endpoint_url` or `azure_account_name`",
            Some("RadosGWStorage" | "RHOCSStorage" | "IBMCloudStorage") => "`hostname` and `port`",
            Some(_) => "the zone's host, port or `endpoint_url`",
        }
    }

    /// The parameters that it knows us by.
    fn credentials(&self) -> &'static str {
        match self.driver.as_deref() {
            Some("SwiftStorage") => "`swift_user` and `swift_password`",
            Some("AzureStorage") => "`azure_account_name` and `azure_account_key`",
            Some("STSS3Storage") => "`sts_user_access_key` and `sts_user_secret_key`",
            Some("RadosGWStorage" | "RHOCSStorage" | "IBMCloudStorage" | "GoogleCloudStorage") => {
                "`access_key` and `secret_key`"
            }
            _ => "`s3_access_key` and `s3_secret_key`",
        }
    }
}

/// Why a step failed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It was not done within its bound.
    Late(Duration),
    /// No address of a host, and what the resolver said.
    Resolve(String, String),
    /// No TCP connection to host and port.
    Connect(String, u16, io::Error),
    /// No TLS with a server of that name.
    Tls(String, io::Error),
    /// The store's error.
    Store(Error),
    /// Something whose cause is known where it was found.
    Told(String, Advice),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late(bound) => write!(f, "not done within {}", humantime::format_duration(*bound)),
            Self::Resolve(host, said) => write!(f, "{host}: {said}"),
            Self::Connect(host, port, error) => write!(f, "{host}:{port}: {error}"),
            Self::Tls(name, error) => write!(f, "{name}: {error}"),
            Self::Store(error) => error.fmt(f),
            Self::Told(said, _) => f.write_str(said),
        }
    }
}

/// What to say of `trouble` at `step`.
pub(super) fn advise(step: Name, peer: &Peer, trouble: &Trouble) -> Advice {
    match trouble {
        Trouble::Told(_, advice) => advice.clone(),
        Trouble::Late(_) => late(step, peer),
        Trouble::Resolve(host, _) => Advice::new(
            "the name is not known to this machine's resolver",
            format!(
                "`getent hosts {host}` must give an address here: mend {}, or the resolver (in a cluster: the \
                 pod's DNS)",
                peer.place()
            ),
        ),
        Trouble::Connect(host, port, error) => unconnected(peer, &format!("{host}:{port}"), error.kind()),
        Trouble::Tls(name, error) => tls::advise(peer, name, error),
        Trouble::Store(error) => store::advise(step, peer, error),
    }
}

fn late(step: Name, peer: &Peer) -> Advice {
    match step {
        Name::Resolve => Advice::new(
            "the resolver does not answer",
            "see /etc/resolv.conf, and whether its servers answer",
        ),
        Name::Connect => unconnected(peer, "its port", io::ErrorKind::TimedOut),
        Name::Tls => Advice::new(
            "it takes the connection and then says nothing: no TLS server, or one that hangs",
            format!("see {}, and the server's log", peer.place()),
        ),
        _ => Advice::new(
            "it is too slow, or hangs",
            "see its log and load; `--timeout` gives each step another bound",
        ),
    }
}

fn unconnected(peer: &Peer, address: &str, kind: io::ErrorKind) -> Advice {
    let place = peer.place();
    match kind {
        io::ErrorKind::ConnectionRefused => {
            Advice::new("nothing listens there", format!("start it, or mend {place}"))
        }
        io::ErrorKind::TimedOut => Advice::new(
            "the host is down, or a firewall drops what is sent to it",
            format!("let {address} be reached from this machine, or mend {place}"),
        ),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Advice::new(
            "there is no way to its network from here",
            format!("see the routes and network policies between, or mend {place}"),
        ),
        _ => Advice::new(
            "the connection is refused on the way",
            format!("see the network policies of this machine, or mend {place}"),
        ),
    }
}

#[cfg(test)]
mod tests;
