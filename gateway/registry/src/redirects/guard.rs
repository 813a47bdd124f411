//! Decides to which hosts a redirect of the registry may lead.
//!
//! The registry decides who may read. It does not decide to which machines the gateway connects: the registry may be
//! deceived itself, and services inside the cluster's networks are not meant for clients. A host name is judged by the
//! addresses to which the gateway then connects, so it cannot resolve to another address between the check and the
//! connection. Behind a proxy, it is the proxy that resolves the name: then only the name is judged here, and the proxy's
//! own rules decide about addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use backends::{is_metadata_address, is_metadata_name};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use config::{Patterns, Settings};

/// Why a redirect is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `registry.redirects_to` does not name the host.
    #[error("registry.redirects_to does not name this host")]
    NotNamed,
    /// The address is link-local, or a cloud's metadata service.
    #[error("link-local and metadata addresses are never followed")]
    Metadata,
    /// The address cannot be that of one machine.
    #[error("this is not the address of a single host")]
    NoHost,
    /// The address is loopback, with a port at which neither the registry nor a store is configured.
    #[error("it leads to loopback, where neither the registry nor a configured store is")]
    Loopback,
    /// The address and port are those of a listener of this gateway.
    #[error("it leads to this gateway's own listener")]
    Own,
}

/// The rules by which redirects are judged.
#[derive(Debug)]
pub(super) struct Guard {
    /// The host and port of each of the registry's instances and of each store, as configured.
    configured: BTreeSet<(String, u16)>,
    /// `registry.redirects_to`.
    named: Option<Patterns>,
    /// The gateway's listeners.
    own: [SocketAddr; 2],
}

/// What the port of a redirect means for the addresses to which the gateway may connect. A resolver does not
/// know the port, so there is one resolver for each kind of port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Port {
    /// A listener of the gateway has this port: connections to this machine are refused.
    Own,
    /// The registry or a store is configured with this port. A loopback address may be meant.
    Configured(u16),
    /// Nothing is configured with this port.
    Other,
}

impl Guard {
    pub(super) fn new(settings: &Settings) -> Self {
        let registry = settings.instances.iter().map(|instance| instance.url.clone());
        let stores = settings.zones.iter().flat_map(|zone| zone.store.endpoints());
        let places = registry.chain(stores);
        let places = places.filter_map(|url| Some((plain(&url.host()?), url.port_or_known_default()?)));
        Self {
            configured: places.collect(),
            named: settings.redirects_to.clone(),
            own: [settings.listen, settings.admin.listen],
        }
    }

    /// All kinds of ports, each once.
    pub(super) fn ports(&self) -> impl Iterator<Item = Port> {
        let configured: BTreeSet<u16> = self.configured.iter().map(|(_, port)| *port).collect();
        [Port::Own, Port::Other].into_iter().chain(configured.into_iter().map(Port::Configured))
    }

    /// The kind of a URL's port.
    pub(super) fn port(&self, url: &Url) -> Port {
        match url.port_or_known_default() {
            Some(port) if self.own.iter().any(|own| own.port() == port) => Port::Own,
            Some(port) if self.configured.iter().any(|(_, configured)| *configured == port) => {
                Port::Configured(port)
            }
            _ => Port::Other,
        }
    }

    /// Judges a URL by its host name, and by its address if the host is an address.
    ///
    /// # Errors
    /// The gateway must not request the URL.
    pub(super) fn url(&self, url: &Url) -> Result<(), Refusal> {
        let host = url.host().ok_or(Refusal::NoHost)?;
        let name = plain(&host);
        if is_metadata_name(&name) {
            return Err(Refusal::Metadata);
        }
        let named = self.named.as_ref().is_none_or(|named| named.names(&name));
        if !named && !self.configured.iter().any(|(host, _)| *host == name) {
            return Err(Refusal::NotNamed);
        }
        match host {
            Host::Domain(_) => Ok(()),
            Host::Ipv4(ip) => self.address(&name, ip.into(), self.port(url)),
            Host::Ipv6(ip) => self.address(&name, ip.into(), self.port(url)),
        }
    }

    /// Judges an address of a host, and the IPv4 addresses that it may stand for.
    fn address(&self, name: &str, ip: IpAddr, port: Port) -> Result<(), Refusal> {
        let all = std::iter::once(ip.to_canonical()).chain(embedded(ip));
        all.into_iter().try_for_each(|ip| self.one_address(name, ip, port))
    }

    fn one_address(&self, name: &str, ip: IpAddr, port: Port) -> Result<(), Refusal> {
        if is_metadata_address(ip) {
            return Err(Refusal::Metadata);
        }
        if !is_host(ip) {
            return Err(Refusal::NoHost);
        }
        if port == Port::Own && is_local(ip) {
            return Err(Refusal::Own);
        }
        match ip.is_loopback() && !self.loopback_is_meant(name, ip, port) {
            true => Err(Refusal::Loopback),
            false => Ok(()),
        }
    }

    /// Whether a loopback address is intended: the registry or a store is configured on loopback at this
    /// port, under this name or address, or the operator names the host itself and not only a pattern.
    fn loopback_is_meant(&self, name: &str, ip: IpAddr, port: Port) -> bool {
        let is_there = |(host, configured): &(String, u16)| {
            let is_host =
                host == name || host == "localhost" || host.parse().is_ok_and(|host: IpAddr| host == ip);
            is_host && port == Port::Configured(*configured)
        };
        self.configured.iter().any(is_there)
            || self.named.as_ref().is_some_and(|named| named.names_exactly(name))
    }
}

/// A name or an address in lower case, without brackets and without the final dot of a full name.
fn plain<S: AsRef<str>>(host: &Host<S>) -> String {
    match host {
        Host::Domain(name) => name.as_ref().trim_end_matches('.').to_ascii_lowercase(),
        Host::Ipv4(ip) => ip.to_string(),
        Host::Ipv6(ip) => ip.to_canonical().to_string(),
    }
}

/// The IPv4 addresses to which a translator may send packets for this IPv6 address: NAT64 (RFC 6052), 6to4
/// (RFC 3056), SIIT (RFC 7915 and its predecessor RFC 2765, section 2.1), IPv4-compatible addresses (RFC 4291
/// section 2.5.5.1). A network chooses the length of its own NAT64 prefix below 64:ff9b:1::/48 (RFC 8215), so
/// there are several.
fn embedded(ip: IpAddr) -> Vec<IpAddr> {
    let IpAddr::V6(ip) = ip else { return Vec::new() };
    let o = ip.octets();
    let v4 = |places: [usize; 4]| IpAddr::V4(places.map(|place| o[place]).into());
    let last = v4([12, 13, 14, 15]);
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => vec![last],
        // Octet 8 is always zero (RFC 6052 section 2.2).
        [0x64, 0xff9b, 1, ..] => {
            let all = [v4([6, 7, 9, 10]), v4([7, 9, 10, 11]), v4([9, 10, 11, 12]), last];
            // A wrong guess of the length rarely gives the address of a host.
            all.into_iter().filter(|ip| is_host(*ip)).collect()
        }
        [0x2002, ..] => vec![v4([2, 3, 4, 5])],
        [0, 0, 0, 0, 0, 0, high, _] if high != 0 => vec![last],
        _ => Vec::new(),
    }
}

/// Whether one machine can have this address. 0.0.0.0 leads to loopback.
fn is_host(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[0] != 0 && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    }
}

/// Whether the address is this machine's own. A socket can be bound only to such an address.
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

/// Resolves host names, and returns only addresses to which the gateway may connect.
#[derive(Debug)]
pub(super) struct Resolver {
    pub(super) guard: Arc<Guard>,
    /// The kind of port of the URLs that use this resolver.
    pub(super) port: Port,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (guard, port) = (Arc::clone(&self.guard), self.port);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let host = name.as_str().trim_end_matches('.').to_ascii_lowercase();
            let mut refused = None;
            let mut allowed = Vec::new();
            for address in found {
                match guard.address(&host, address.ip(), port) {
                    Ok(()) => allowed.push(address),
                    Err(refusal) => refused = Some(refusal),
                }
            }
            match refused.filter(|_| allowed.is_empty()) {
                Some(refusal) => Err(refusal.into()),
                None => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    /// The port of everything that is configured.
    const STORE: u16 = 39001;

    fn guard(configured: &[&str], named: Option<&[&str]>) -> Guard {
        let named = named
            .map(|all| Patterns::new(all.iter().map(|one| (*one).to_owned()).collect()).expect("patterns"));
        let own = ["0.0.0.0:8443", "127.0.0.1:9090"].map(|own| own.parse().expect("an address"));
        Guard { configured: configured.iter().map(|host| ((*host).to_owned(), STORE)).collect(), named, own }
    }

    fn asked(guard: &Guard, url: &str) -> Result<(), Refusal> {
        guard.url(&url.parse().expect("a URL"))
    }

    /// Judges the address as the resolver does.
    fn resolved(guard: &Guard, name: &str, ip: &str) -> Result<(), Refusal> {
        guard.address(name, ip.parse().expect("an address"), Port::Configured(STORE))
    }

    #[test]
    fn metadata_services_are_never_requested() {
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
                "[64:ff9b:1::169.254.169.254]",
                "[64:ff9b:1:a9fe:a9:fe00::]",
                "[::ffff:0:169.254.169.254]",
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
    fn loopback_is_allowed_only_where_something_is_configured() {
        let elsewhere = guard(&["quay.example.com", "s3.example.com"], None);
        for ip in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b:1::127.0.0.1",
            "64:ff9b:1:7f00:0:100::",
            "::ffff:0:127.0.0.1",
        ] {
            assert_eq!(resolved(&elsewhere, "rebound.example.com", ip), Err(Refusal::Loopback), "{ip}");
        }
        assert_eq!(asked(&elsewhere, "http://127.0.0.1:39001/b"), Err(Refusal::Loopback));
        for nowhere in ["0.0.0.0", "[::]", "224.0.0.1", "255.255.255.255"] {
            assert_eq!(asked(&elsewhere, &format!("http://{nowhere}/")), Err(Refusal::NoHost), "{nowhere}");
        }
        assert_eq!(resolved(&elsewhere, "s3.example.com", "127.0.0.1"), Ok(()));
        assert_eq!(asked(&guard(&["127.0.0.1"], None), "http://127.0.0.1:39001/b"), Ok(()));
        assert_eq!(resolved(&guard(&["localhost"], None), "other", "::1"), Ok(()));
        // Another port of loopback is another service.
        for port in [":80", ":39002", ":2375", ""] {
            let (store, url) = (guard(&["127.0.0.1"], None), format!("http://127.0.0.1{port}/b"));
            assert_eq!(asked(&store, &url), Err(Refusal::Loopback), "{url}");
        }
        let other = |name, ip: &str| elsewhere.address(name, ip.parse().expect("an address"), Port::Other);
        assert_eq!(other("s3.example.com", "127.0.0.1"), Err(Refusal::Loopback));
        assert_eq!(other("s3.example.com", "192.0.2.7"), Ok(()));
        let named = guard(&["quay.example.com"], Some(&["store", "*.example.com"]));
        assert_eq!(resolved(&named, "store", "127.0.0.1"), Ok(()));
        assert_eq!(resolved(&named, "x.example.com", "127.0.0.1"), Err(Refusal::Loopback));
    }

    /// A network's own NAT64 prefix may have any length. The other readings of the address are not hosts.
    #[test]
    fn other_addresses_behind_a_translator_are_followed() {
        let guard = guard(&["s3.example.com"], None);
        for ip in ["64:ff9b:1::192.0.2.7", "64:ff9b:1:c000:2:700::", "::ffff:0:192.0.2.7", "2002:c000:207::1"]
        {
            assert_eq!(resolved(&guard, "s3.example.net", ip), Ok(()), "{ip}");
        }
    }

    #[test]
    fn the_gateway_never_connects_to_itself() {
        let guard = guard(&["127.0.0.1"], None);
        for own in ["http://127.0.0.1:9090/status", "https://127.0.0.1:8443/v2/", "https://[::1]:8443/"] {
            assert_eq!(asked(&guard, own), Err(Refusal::Own), "{own}");
        }
        let by_name =
            |ip| guard.address("edge.example.com", IpAddr::from_str(ip).expect("an address"), Port::Own);
        assert_eq!(by_name("127.0.0.1"), Err(Refusal::Own));
        // No machine has this address.
        assert_eq!(by_name("203.0.113.7"), Ok(()));
    }

    #[test]
    fn only_named_hosts_are_allowed() {
        let guard = guard(&["s3.example.com"], Some(&["*.cdn.example.com", "store.example.com"]));
        for named in ["a.cdn.example.com", "STORE.example.com", "s3.example.com", "a.b.cdn.example.com"] {
            assert_eq!(asked(&guard, &format!("https://{named}/b")), Ok(()), "{named}");
        }
        for other in ["cdn.example.com", "evilcdn.example.com", "evil.example.com", "10.0.0.1"] {
            assert_eq!(asked(&guard, &format!("https://{other}/b")), Err(Refusal::NotNamed), "{other}");
        }
    }

    #[tokio::test]
    async fn names_are_judged_by_their_addresses() {
        let port = Port::Configured(STORE);
        let resolver = |configured| Resolver { guard: Arc::new(guard(&[configured], None)), port };
        let name = || Name::from_str("localhost").expect("a name");
        let refused = resolver("quay.example.com").resolve(name()).await.err().expect("refused");
        assert_eq!(refused.downcast_ref::<Refusal>(), Some(&Refusal::Loopback));
        let elsewhere = Resolver { port: Port::Other, ..resolver("127.0.0.1") };
        assert!(elsewhere.resolve(name()).await.is_err(), "another port");
        let mut found = resolver("127.0.0.1").resolve(name()).await.expect("resolved");
        assert!(found.all(|address| address.ip().is_loopback()));
    }
}
