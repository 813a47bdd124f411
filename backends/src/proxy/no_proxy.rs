//! Hosts that are not reached through a proxy: `proxy.no_proxy`, or `NO_PROXY`.
//!
//! The rules are those of Go's `golang.org/x/net/http/httpproxy`, which Kubernetes and OpenShift use. curl differs in one
//! point: there, `.example.com` also means `example.com` itself.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use url::Host;

/// The most entries.
const ENTRIES_MAX: usize = 1024;

/// Why an entry is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoProxyError {
    /// The entry, counted from 1, is not one of the accepted forms. It is not shown: it may be a secret.
    #[error(
        "entry {0} is not a host name, a domain such as .example.com, an address or a network such as 10.0.0.0/8; all but \
         networks may have a port, none has a scheme or a path"
    )]
    Entry(usize),
    /// There are too many entries.
    #[error("more than {ENTRIES_MAX} entries")]
    TooMany,
}

/// The hosts to which the gateway connects by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NoProxy(Vec<Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    /// `*`
    All,
    /// `10.0.0.0/8`
    Network(IpNet),
    /// `10.0.0.1` or `10.0.0.1:9000`
    Address(IpAddr, Option<u16>),
    Name {
        /// Lower case, without a leading dot.
        name: String,
        /// `.example.com` and `*.example.com` name only what is below.
        below_only: bool,
        port: Option<u16>,
    },
}

impl NoProxy {
    /// Parses entries.
    ///
    /// # Errors
    /// An entry is not valid, or there are too many.
    pub fn parse<T: AsRef<str>>(entries: impl IntoIterator<Item = T>) -> Result<Self, NoProxyError> {
        let entries = entries.into_iter().take(ENTRIES_MAX + 1).enumerate();
        let entries = entries.map(|(at, text)| entry(text.as_ref()).ok_or(NoProxyError::Entry(at + 1)));
        let parsed: Vec<_> = entries.collect::<Result<_, _>>()?;
        match parsed.len() > ENTRIES_MAX {
            true => Err(NoProxyError::TooMany),
            false => Ok(Self(parsed)),
        }
    }

    /// Parses the value of `NO_PROXY`: entries with commas between them. As in Go, an entry that is not valid names no
    /// host, and entries beyond the limit are left out.
    #[must_use]
    pub fn from_variable(text: &str) -> Self {
        let entries = text.split(',').map(str::trim).filter(|text| !text.is_empty());
        Self(entries.filter_map(entry).take(ENTRIES_MAX).collect())
    }

    /// Whether the gateway connects to this host and port by itself.
    pub(super) fn names(&self, host: &Host<&str>, port: u16) -> bool {
        self.0.iter().any(|entry| match host {
            Host::Domain(name) => entry.names_domain(&name.trim_end_matches('.').to_ascii_lowercase(), port),
            Host::Ipv4(address) => entry.names_address((*address).into(), port),
            Host::Ipv6(address) => entry.names_address(IpAddr::from(*address).to_canonical(), port),
        })
    }

    /// Whether it names no host.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Entry {
    fn names_domain(&self, host: &str, at: u16) -> bool {
        match self {
            Self::All => true,
            Self::Network(_) | Self::Address(..) => false,
            Self::Name { name, below_only, port } => {
                let is_below = || host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'));
                port.is_none_or(|port| port == at) && (!below_only && host == name || is_below())
            }
        }
    }

    fn names_address(&self, address: IpAddr, at: u16) -> bool {
        match self {
            Self::All => true,
            Self::Network(network) => network.contains(&address),
            Self::Address(named, port) => *named == address && port.is_none_or(|port| port == at),
            Self::Name { .. } => false,
        }
    }
}

fn entry(text: &str) -> Option<Entry> {
    let text = text.trim();
    if text == "*" {
        return Some(Entry::All);
    }
    if let Ok(network) = text.parse::<IpNet>() {
        return Some(Entry::Network(network.trunc()));
    }
    let unbracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = unbracketed.parse::<IpAddr>() {
        return Some(Entry::Address(address.to_canonical(), None));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (text, None),
    };
    let unbracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = unbracketed.parse::<IpAddr>() {
        return Some(Entry::Address(address.to_canonical(), port));
    }
    let below = host.strip_prefix("*.").or_else(|| host.strip_prefix('.'));
    // Turns international names into the form that URLs have, and refuses what cannot be a host.
    match Host::parse(below.unwrap_or(host)) {
        Ok(Host::Domain(name)) if !name.contains('*') => {
            let name = name.trim_end_matches('.').to_owned();
            Some(Entry::Name { name, below_only: below.is_some(), port })
        }
        _ => None,
    }
}

impl fmt::Display for NoProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, entry) in self.0.iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            write!(f, "{comma}{entry}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = |port: &Option<u16>| port.map_or_else(String::new, |port| format!(":{port}"));
        match self {
            Self::All => f.write_str("*"),
            Self::Network(network) => write!(f, "{network}"),
            Self::Address(IpAddr::V6(address), at @ Some(_)) => write!(f, "[{address}]{}", port(at)),
            Self::Address(address, at) => write!(f, "{address}{}", port(at)),
            Self::Name { name, below_only, port: at } => {
                write!(f, "{}{name}{}", if *below_only { "." } else { "" }, port(at))
            }
        }
    }
}
