//! Where a redirect of the registry may lead.
//!
//! The registry is trusted with who may read, and not with choosing whom the gateway dials: it may be led
//! astray itself, and what answers in a cluster's own networks was never meant for clients. Names are
//! judged by the addresses that are then dialled, so a name cannot change between the look and the call.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use config::{Patterns, Settings};

/// Names of clouds' metadata services, which hand out credentials to whoever asks.
const METADATA_NAMES: [&str; 7] = [
    "instance-data",
    "instance-data.ec2.internal",
    "metadata",
    "metadata.goog",
    "metadata.google.internal",
    "metadata.packet.net",
    "metadata.tencentyun.com",
];

/// Their addresses that are not link-local: Alibaba's, Oracle's, Azure's.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192), Ipv4Addr::new(168, 63, 129, 16)];

/// Amazon's, Google's, Oracle's.
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
];

/// Why a redirect is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// `registry.redirects_to` does not name it.
    #[error("registry.redirects_to does not name this host")]
    NotNamed,
    /// Link-local, or a cloud's metadata.
    #[error("link-local and metadata addresses are never followed")]
    Metadata,
    /// No address of one machine.
    #[error("this is no address of a single host")]
    NoHost,
    /// This machine, where neither the registry nor a store is.
    #[error("it leads to loopback, where neither the registry nor a configured store is")]
    Loopback,
    /// This very process.
    #[error("it leads to this gateway's own listener")]
    Own,
}

/// What redirects are judged by.
#[derive(Debug)]
pub(super) struct Guard {
    /// Hosts of the registry and of the stores, as they are configured.
    configured: HashSet<String>,
    /// `registry.redirects_to`.
    named: Option<Patterns>,
    /// The gateway's listeners.
    own: [SocketAddr; 2],
}

impl Guard {
    pub(super) fn new(settings: &Settings) -> Self {
        let registry = settings.instances.iter().map(|instance| instance.url.clone());
        let stores = settings.zones.iter().flat_map(|zone| zone.store.endpoints());
        let hosts = registry.chain(stores).filter_map(|url| Some(plain(&url.host()?)));
        Self {
            configured: hosts.collect(),
            named: settings.redirects_to.clone(),
            own: [settings.listen, settings.admin.listen],
        }
    }

    /// Whether a URL may be asked for as far as its name tells; where it names an address, whether that may
    /// be dialled.
    pub(super) fn url(&self, url: &Url) -> Result<(), Refusal> {
        let host = url.host().ok_or(Refusal::NoHost)?;
        let name = plain(&host);
        if METADATA_NAMES.contains(&&*name) {
            return Err(Refusal::Metadata);
        }
        let named = self.named.as_ref().is_none_or(|named| named.names(&name));
        if !named && !self.configured.contains(&name) {
            return Err(Refusal::NotNamed);
        }
        match host {
            Host::Domain(_) => Ok(()),
            Host::Ipv4(ip) => self.address(&name, ip.into(), self.has_own_port(url)),
            Host::Ipv6(ip) => self.address(&name, ip.into(), self.has_own_port(url)),
        }
    }

    /// Whether one of the gateway's listeners has the URL's port.
    pub(super) fn has_own_port(&self, url: &Url) -> bool {
        let port = url.port_or_known_default();
        self.own.iter().any(|own| Some(own.port()) == port)
    }

    /// Whether this address of a host may be dialled, at a port that a listener of ours has or not.
    fn address(&self, name: &str, ip: IpAddr, own_port: bool) -> Result<(), Refusal> {
        let all = [Some(ip.to_canonical()), embedded(ip)];
        all.into_iter().flatten().try_for_each(|ip| self.one_address(name, ip, own_port))
    }

    fn one_address(&self, name: &str, ip: IpAddr, own_port: bool) -> Result<(), Refusal> {
        if is_metadata(ip) {
            return Err(Refusal::Metadata);
        }
        if !is_host(ip) {
            return Err(Refusal::NoHost);
        }
        if own_port && is_local(ip) {
            return Err(Refusal::Own);
        }
        match ip.is_loopback() && !self.loopback_is_meant(name, ip) {
            true => Err(Refusal::Loopback),
            false => Ok(()),
        }
    }

    /// Whether the registry or a store is on loopback, under this name or at this address; or the operator
    /// names it, not merely by a pattern.
    fn loopback_is_meant(&self, name: &str, ip: IpAddr) -> bool {
        let there = self.configured.iter().any(|host| {
            host == name || host == "localhost" || host.parse::<IpAddr>().is_ok_and(|host| host == ip)
        });
        there || self.named.as_ref().is_some_and(|named| named.names_exactly(name))
    }
}

/// A name or an address in lower case, without brackets and without the dot of a full name.
fn plain<S: AsRef<str>>(host: &Host<S>) -> String {
    match host {
        Host::Domain(name) => name.as_ref().trim_end_matches('.').to_ascii_lowercase(),
        Host::Ipv4(ip) => ip.to_string(),
        Host::Ipv6(ip) => ip.to_canonical().to_string(),
    }
}

/// The IPv4 address that an IPv6 one leads to: NAT64 (RFC 6052), 6to4 (RFC 3056), IPv4-compatible
/// (RFC 4291 section 2.5.5.1).
fn embedded(ip: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(ip) = ip else { return None };
    let s = ip.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d).into())
    };
    match s {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => v4(high, low),
        _ => None,
    }
}

fn is_metadata(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local() || METADATA_V4.contains(&ip),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || METADATA_V6.contains(&ip),
    }
}

/// Whether one machine can have it: 0.0.0.0 leads to loopback.
fn is_host(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[0] != 0 && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    }
}

/// Whether it is this machine's own: only then can a socket have it.
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

/// Resolves names to those of their addresses that may be dialled.
#[derive(Debug)]
pub(super) struct Resolver {
    pub(super) guard: Arc<Guard>,
    /// For URLs whose port a listener of ours has.
    pub(super) own_port: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (guard, own_port) = (Arc::clone(&self.guard), self.own_port);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let host = name.as_str().trim_end_matches('.').to_ascii_lowercase();
            let mut refused = None;
            let mut may = Vec::new();
            for address in found {
                match guard.address(&host, address.ip(), own_port) {
                    Ok(()) => may.push(address),
                    Err(refusal) => refused = Some(refusal),
                }
            }
            match refused.filter(|_| may.is_empty()) {
                Some(refusal) => Err(refusal.into()),
                None => Ok(Box::new(may.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    fn guard(configured: &[&str], named: Option<&[&str]>) -> Guard {
        let named = named
            .map(|all| Patterns::new(all.iter().map(|one| (*one).to_owned()).collect()).expect("patterns"));
        let own = ["0.0.0.0:8443", "127.0.0.1:9090"].map(|own| own.parse().expect("an address"));
        Guard { configured: configured.iter().map(|host| (*host).to_owned()).collect(), named, own }
    }

    fn asked(guard: &Guard, url: &str) -> Result<(), Refusal> {
        guard.url(&url.parse().expect("a URL"))
    }

    /// As the resolver does with a name that has this address.
    fn resolved(guard: &Guard, name: &str, ip: &str) -> Result<(), Refusal> {
        guard.address(name, ip.parse().expect("an address"), false)
    }

    #[test]
    fn metadata_is_never_asked() {
        let everything = guard(&["127.0.0.1", "169.254.169.254"], Some(&["*.internal", "169.254.169.254"]));
        for guard in [guard(&["127.0.0.1"], None), everything] {
            for host in [
                "169.254.169.254",
                "169.254.170.2",
                "2852039166",
                "0xa9fea9fe",
                "[fe80::1]",
                "[::ffff:169.254.169.254]",
                "[64:ff9b::169.254.169.254]",
                "[fd00:ec2::254]",
                "100.100.100.200",
                "metadata.google.internal",
                "METADATA.google.internal.",
            ] {
                let refused = asked(&guard, &format!("http://{host}/latest/meta-data/"));
                assert!(matches!(refused, Err(Refusal::Metadata | Refusal::NotNamed)), "{host}: {refused:?}");
            }
            for ip in ["169.254.169.254", "fe80::1", "fd00:ec2::254", "::ffff:169.254.1.1"] {
                let refused = resolved(&guard, "store.example.com", ip);
                assert_eq!(refused, Err(Refusal::Metadata), "{ip}");
            }
        }
    }

    #[test]
    fn loopback_only_where_something_is_meant_to_be() {
        let elsewhere = guard(&["quay.example.com", "s3.example.com"], None);
        for ip in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1"] {
            assert_eq!(resolved(&elsewhere, "rebound.example.com", ip), Err(Refusal::Loopback), "{ip}");
        }
        assert_eq!(asked(&elsewhere, "http://127.0.0.1:39001/b"), Err(Refusal::Loopback));
        for nowhere in ["0.0.0.0", "[::]", "224.0.0.1", "255.255.255.255"] {
            assert_eq!(asked(&elsewhere, &format!("http://{nowhere}/")), Err(Refusal::NoHost), "{nowhere}");
        }
        assert_eq!(resolved(&elsewhere, "s3.example.com", "127.0.0.1"), Ok(()));
        assert_eq!(asked(&guard(&["127.0.0.1"], None), "http://127.0.0.1:39001/b"), Ok(()));
        assert_eq!(resolved(&guard(&["localhost"], None), "other", "::1"), Ok(()));
        let named = guard(&["quay.example.com"], Some(&["store", "*.example.com"]));
        assert_eq!(resolved(&named, "store", "127.0.0.1"), Ok(()));
        assert_eq!(resolved(&named, "x.example.com", "127.0.0.1"), Err(Refusal::Loopback));
    }

    #[test]
    fn never_to_itself() {
        let guard = guard(&["127.0.0.1"], None);
        for own in ["http://127.0.0.1:9090/status", "https://127.0.0.1:8443/v2/", "https://[::1]:8443/"] {
            assert_eq!(asked(&guard, own), Err(Refusal::Own), "{own}");
        }
        let by_name = |ip| guard.address("edge.example.com", IpAddr::from_str(ip).expect("an address"), true);
        assert_eq!(by_name("127.0.0.1"), Err(Refusal::Own));
        // An address that no machine has for its own.
        assert_eq!(by_name("203.0.113.7"), Ok(()));
    }

    #[test]
    fn named_hosts() {
        let guard = guard(&["s3.example.com"], Some(&["*.cdn.example.com", "store.example.com"]));
        for named in ["a.cdn.example.com", "STORE.example.com", "s3.example.com", "a.b.cdn.example.com"] {
            assert_eq!(asked(&guard, &format!("https://{named}/b")), Ok(()), "{named}");
        }
        for other in ["cdn.example.com", "evilcdn.example.com", "evil.example.com", "10.0.0.1"] {
            assert_eq!(asked(&guard, &format!("https://{other}/b")), Err(Refusal::NotNamed), "{other}");
        }
    }

    #[tokio::test]
    async fn names_are_judged_by_what_is_dialled() {
        let resolver = |configured| Resolver { guard: Arc::new(guard(&[configured], None)), own_port: false };
        let name = || Name::from_str("localhost").expect("a name");
        let refused = resolver("quay.example.com").resolve(name()).await.err().expect("refused");
        assert_eq!(refused.downcast_ref::<Refusal>(), Some(&Refusal::Loopback));
        let mut found = resolver("127.0.0.1").resolve(name()).await.expect("resolved");
        assert!(found.all(|address| address.ip().is_loopback()));
    }
}
