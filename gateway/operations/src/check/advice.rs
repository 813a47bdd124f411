//! The likely cause of a failed step, and the fix. Pure.

mod store;
mod tls;

use std::io;
use std::time::Duration;

use backends::Error;

use super::step::StepName;

/// The likely cause of a failure, and how to fix it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// The likely cause.
    pub cause: String,
    /// How to fix it.
    pub fix: String,
}

impl Advice {
    pub(super) fn new(cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { cause: cause.into(), fix: fix.into() }
    }
}

/// The server at which a step failed.
#[derive(Debug, Clone, Default)]
pub(super) struct Peer {
    /// The driver of a zone. `None` for the registry.
    pub(super) driver: Option<String>,
    /// The bucket or container, if there is one, such as ``bucket `blobs` ``.
    pub(super) bucket: Option<String>,
    /// Whether the connection uses TLS.
    pub(super) tls: bool,
    /// The proxy that leads to it.
    pub(super) proxy: Option<String>,
}

impl Peer {
    fn is(&self, driver: &str) -> bool {
        self.driver.as_deref() == Some(driver)
    }

    fn bucket(&self) -> &str {
        self.bucket.as_deref().unwrap_or("such bucket")
    }

    /// The parameter that sets the server's address.
    fn place(&self) -> &'static str {
        match self.driver.as_deref() {
            None => "`registry.url`",
            Some("SwiftStorage") => "`auth_url`",
            Some("AzureStorage") => "`endpoint_url` or `azure_account_name`",
            Some("RadosGWStorage" | "RHOCSStorage" | "IBMCloudStorage") => "`hostname` and `port`",
            Some(_) => "the zone's host, port or `endpoint_url`",
        }
    }

    /// The parameters that set the credentials.
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
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    /// The step did not finish within its timeout.
    #[error("not done within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    /// A host name cannot be resolved. The second text is the resolver's message.
    #[error("{0}: {1}")]
    Resolve(String, String),
    /// There is no TCP connection to this host and port.
    #[error("{0}:{1}: {2}")]
    Connect(String, u16, #[source] io::Error),
    /// A proxy opens no connection to the server. The text names the proxy.
    #[error("{0}")]
    Tunnel(String),
    /// The TLS handshake with the server of this name failed.
    #[error("{0}: {1}")]
    Tls(String, #[source] io::Error),
    /// The store returned an error.
    #[error(transparent)]
    Store(#[from] Error),
    /// Another failure. The place that found it knows the advice.
    #[error("{0}")]
    Explained(String, Advice),
}

/// The advice for `error` at `step`.
pub(super) fn advise(step: StepName, peer: &Peer, error: &StepError) -> Advice {
    if let (Some(proxy), false) = (&peer.proxy, matches!(error, StepError::Explained(..)))
        && matches!(step, StepName::Resolve | StepName::Connect)
    {
        return at_proxy(proxy, error);
    }
    match error {
        StepError::Explained(_, advice) => advice.clone(),
        StepError::Tunnel(_) => at_proxy("in `proxy`", error),
        StepError::Timeout(_) => timed_out(step, peer),
        StepError::Resolve(host, _) => Advice::new(
            "this machine's resolver does not know the name",
            format!(
                "`getent hosts {host}` must print an address on this machine: correct {}, or the resolver (in a \
                 cluster: the pod's DNS)",
                peer.place()
            ),
        ),
        StepError::Connect(host, port, error) => unconnected(peer, &format!("{host}:{port}"), error.kind()),
        StepError::Tls(name, error) => tls::advise(peer, name, error),
        StepError::Store(error) => store::advise(step, peer, error),
    }
}

/// The advice for a failure on the way to the proxy, or in it. The server behind it was not asked.
fn at_proxy(proxy: &str, error: &StepError) -> Advice {
    let cause = match error {
        StepError::Resolve(..) => {
            format!("this machine's resolver does not know the host of the proxy {proxy}")
        }
        StepError::Connect(..) => format!("the proxy {proxy} is down, or a firewall is before it"),
        StepError::Timeout(_) => format!("the proxy {proxy} does not answer, or cannot reach the server"),
        _ => format!("the proxy {proxy} refuses the gateway, or cannot reach the server"),
    };
    Advice::new(
        cause,
        "check the proxy and its log, and correct `proxy`; if no proxy is meant to lead to this server, name its host in \
         `proxy.no_proxy` (or in NO_PROXY)",
    )
}

fn timed_out(step: StepName, peer: &Peer) -> Advice {
    match step {
        StepName::Resolve => Advice::new(
            "the resolver does not answer",
            "check /etc/resolv.conf, and whether the servers in it answer",
        ),
        StepName::Connect => unconnected(peer, "its port", io::ErrorKind::TimedOut),
        StepName::Tls => Advice::new(
            "the server accepts the connection and then sends nothing: it does not speak TLS, or it hangs",
            format!("check {}, and the server's log", peer.place()),
        ),
        _ => Advice::new(
            "the server is too slow, or hangs",
            "check its log and its load; `--timeout` sets another timeout for each step",
        ),
    }
}

fn unconnected(peer: &Peer, address: &str, kind: io::ErrorKind) -> Advice {
    let place = peer.place();
    match kind {
        io::ErrorKind::ConnectionRefused => {
            Advice::new("nothing listens at this address", format!("start the server, or correct {place}"))
        }
        io::ErrorKind::TimedOut => Advice::new(
            "the host is down, or a firewall drops the packets",
            format!("allow connections from this machine to {address}, or correct {place}"),
        ),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Advice::new(
            "there is no route to its network from this machine",
            format!("check the routes and network policies, or correct {place}"),
        ),
        _ => Advice::new(
            "the connection failed on the way to the server",
            format!("check the network policies of this machine, or correct {place}"),
        ),
    }
}

#[cfg(test)]
mod tests;
