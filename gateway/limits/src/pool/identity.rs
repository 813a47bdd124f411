//! The names under which a pool counts a client.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::OnceLock;

use http::HeaderMap;
use http::header::AUTHORIZATION;

/// One name of a client. It is never printed. A credential is a hash with a random key of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Name {
    /// An IPv4 address, or the /64 of an IPv6 address, which one machine has to itself.
    Network(IpAddr),
    /// The /48 of an IPv6 address, which one site may have (RFC 6177). It counts as one client, like an IPv4
    /// address.
    Site(Ipv6Addr),
    /// A proxy that the operator trusts. It represents many clients.
    Proxy,
    /// The gateway's own account.
    Gateway,
    /// The `Authorization` of a request.
    Credential(u64),
    /// A connection.
    Connection(u64),
}

impl Name {
    /// A request is refused if a name already holds this many times the free slots. A network or a credential
    /// alone can therefore use 15/16 of a pool; the rest is left to new clients. The nodes of a cluster may
    /// share both an address and a credential. A connection alone can use half of a pool, so that one node
    /// leaves room for the others. A connection that holds nothing may also use half of the rest.
    fn factor(self, new_connection: bool) -> usize {
        match self {
            Self::Proxy => usize::MAX,
            Self::Network(_) | Self::Site(_) | Self::Gateway | Self::Credential(_) if new_connection => 31,
            Self::Network(_) | Self::Site(_) | Self::Gateway | Self::Credential(_) => 15,
            Self::Connection(_) => 1,
        }
    }

    /// Whether a name that holds so many slots may have one of the free ones. A connection is `new_connection` if
    /// it holds none.
    pub(super) fn may_take(self, held: usize, free: usize, new_connection: bool) -> bool {
        held < free.saturating_mul(self.factor(new_connection))
    }
}

/// The widest network that is one client: an IPv4 address, or the /48 of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(Name);

/// All names of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    pub(super) network: Name,
    pub(super) site: Option<Name>,
    pub(super) credential: Option<Name>,
    pub(super) connection: Option<Name>,
}

impl Identity {
    /// The gateway itself.
    pub const GATEWAY: Self = Self { network: Name::Gateway, site: None, credential: None, connection: None };

    /// A connection that has not sent a request yet.
    pub fn peer(address: IpAddr, is_proxy: bool) -> Self {
        let (network, site) = if is_proxy { (Name::Proxy, None) } else { (network(address), site(address)) };
        Self { network, site, credential: None, connection: None }
    }

    /// The client that sends a request. `connection` is the number of the client's own connection. It is
    /// `None` behind a trusted proxy.
    pub fn of_request(address: IpAddr, headers: &HeaderMap, connection: Option<u64>) -> Self {
        Self {
            network: network(address),
            site: site(address),
            credential: credential(headers).map(Name::Credential),
            connection: connection.map(Name::Connection),
        }
    }

    /// The network of this client, for callers that count clients.
    #[must_use]
    pub fn network(&self) -> Network {
        Network(self.widest())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = Name> {
        [Some(self.network), self.site, self.credential, self.connection].into_iter().flatten()
    }

    /// The widest network that counts as one client. A site with many /64 networks therefore has no larger
    /// share.
    pub(super) fn widest(&self) -> Name {
        self.site.unwrap_or(self.network)
    }
}

fn network(address: IpAddr) -> Name {
    Name::Network(match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & (u128::MAX << 64)).into(),
    })
}

fn site(address: IpAddr) -> Option<Name> {
    match address.to_canonical() {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(Name::Site(Ipv6Addr::from(u128::from(address) & (u128::MAX << 80)))),
    }
}

/// A number for the credential. Equal credentials have equal numbers while this process runs.
fn credential(headers: &HeaderMap) -> Option<u64> {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    let mut values = headers.get_all(AUTHORIZATION).iter().peekable();
    values.peek()?;
    let mut hasher = KEY.get_or_init(RandomState::new).build_hasher();
    values.for_each(|value| value.as_bytes().hash(&mut hasher));
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_and_credentials_are_distinguished() {
        let of = |address: &str, token: Option<&str>| {
            let token = token.map(|token| (AUTHORIZATION, token.parse().expect("a value")));
            Identity::of_request(address.parse().expect("an address"), &token.into_iter().collect(), None)
        };
        assert_eq!(of("2001:db8::1", None), of("2001:db8::ffff:2", None), "one /64");
        assert_ne!(of("2001:db8::1", None), of("2001:db8:0:1::1", None));
        assert_eq!(of("2001:db8::1", None).widest(), of("2001:db8:0:ffff::1", None).widest(), "one /48");
        assert_eq!(of("2001:db8::1", None).network(), of("2001:db8:0:ffff::1", Some("Bearer a")).network());
        assert_ne!(of("2001:db8::1", None).widest(), of("2001:db8:1::1", None).widest());
        assert_eq!(of("192.0.2.1", None), of("::ffff:192.0.2.1", None), "one address in two forms");
        assert_ne!(of("192.0.2.1", None).widest(), of("192.0.2.2", None).widest());
        assert_ne!(of("192.0.2.1", None), of("192.0.2.2", None));
        assert_eq!(of("192.0.2.1", Some("Bearer a")), of("192.0.2.1", Some("Bearer a")));
        assert_ne!(of("192.0.2.1", Some("Bearer a")), of("192.0.2.1", Some("Bearer b")));
        assert!(!format!("{:?}", of("192.0.2.1", Some("Bearer hunter2"))).contains("hunter2"));
    }
}
