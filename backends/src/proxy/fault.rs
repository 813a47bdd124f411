//! What went wrong at or behind a proxy, in words for an operator.

use std::error::Error;

use super::Proxy;

/// The texts with which hyper-util says why it got no tunnel. Its error has no public type.
const TUNNEL: &str = "tunnel error: ";
const REFUSED_CREDENTIALS: &str = "proxy authorization required";
const NOT_REACHED: &str = "failed to create underlying connection";
const NO_TUNNEL: &str = "unsuccessful";

/// Why a proxy passed no request on. The text names the proxy, and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyFault {
    /// There is no connection to the proxy itself.
    #[error("the proxy {0} cannot be reached")]
    Unreachable(String),
    /// The proxy wants a login, or another one.
    #[error(
        "the proxy {0} refuses the gateway's credentials (407): correct `proxy.credentials_file` or `proxy.url`"
    )]
    Credentials(String),
    /// The proxy answers by itself, and not with what it was asked for.
    #[error(
        "the proxy {proxy} opens no connection to {host}{}: allow the host and its port there, or name the host in \
         `proxy.no_proxy`", answered(*.status)
    )]
    NoTunnel {
        /// The proxy.
        proxy: String,
        /// The host that was to be reached.
        host: String,
        /// The status of the proxy's answer, if it is known.
        status: Option<u16>,
    },
    /// The request failed in another way, through this proxy.
    #[error("through the proxy {0}")]
    Behind(String),
}

fn answered(status: Option<u16>) -> String {
    status.map_or_else(String::new, |status| format!(" (it answers {status})"))
}

impl ProxyFault {
    /// What `error`, of a client of reqwest, says about the proxy. `host` was to be reached.
    pub(crate) fn of(proxy: &Proxy, host: &str, is_https: bool, error: &reqwest::Error) -> Self {
        let name = proxy.to_string();
        let first: Option<&(dyn Error + 'static)> = error.source();
        let causes = std::iter::successors(first, |&cause| cause.source());
        let why =
            causes.map(ToString::to_string).find_map(|text| text.strip_prefix(TUNNEL).map(str::to_owned));
        match why.as_deref() {
            Some(REFUSED_CREDENTIALS) => Self::Credentials(name),
            Some(NOT_REACHED) => Self::Unreachable(name),
            Some(NO_TUNNEL) => Self::NoTunnel { proxy: name, host: host.to_owned(), status: None },
            // Without a tunnel, the only connection is that to the proxy.
            None if error.is_connect() && !is_https => Self::Unreachable(name),
            _ => Self::Behind(name),
        }
    }
}
