//! The sender of a request.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use limits::memory::{Holder, Reservation};
use limits::pool::{Identity, Slot};
use registry::GatewayName;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The sender of a request. It also holds the request's slot of `limits.requests` and the request's memory.
/// All work for the request holds a clone of it to its end.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// For logs and for the registry.
    pub(crate) address: IpAddr,
    /// The name of the gateway that the client dialled.
    pub(crate) dialled: GatewayName,
    /// The number of the connection. `None` behind a trusted proxy, because its connections are not the
    /// client's.
    connection: Option<u64>,
    /// Identifies the client for its share of pools.
    pub(crate) identity: Identity,
    _request: Option<Arc<(Slot, Arc<Reservation>)>>,
}

impl Client {
    /// The peer of connection `number`. If the peer is a trusted proxy, the client that the proxy names.
    pub(crate) fn of_request(
        peer: IpAddr,
        number: u64,
        headers: &HeaderMap,
        trusted: &[IpNet],
        dialled: GatewayName,
    ) -> Self {
        let (address, connection) = match is_trusted(peer, trusted) {
            true => (forwarded_for(headers, trusted).unwrap_or(peer), None),
            false => (peer, Some(number)),
        };
        let identity = Identity::of_request(address, headers, connection);
        Self { address, dialled, connection, identity, _request: None }
    }

    /// Identifies the client for its share of memory.
    pub(crate) fn holder(&self) -> Holder {
        Holder { address: self.address, connection: self.connection }
    }

    /// The same client, which also holds this slot and this memory while any clone of it lives.
    pub(crate) fn holding(self, request: Slot, memory: Arc<Reservation>) -> Self {
        Self { _request: Some(Arc::new((request, memory))), ..self }
    }
}

/// Whether a peer is a trusted proxy, whose claims about its clients are believed.
pub(crate) fn is_trusted(peer: IpAddr, trusted: &[IpNet]) -> bool {
    let peer = peer.to_canonical();
    trusted.iter().any(|network| network.contains(&peer))
}

/// The last address in `X-Forwarded-For` that is not a trusted proxy. Each proxy appends the address of its
/// own peer. Everything before the entry of the first trusted proxy is the client's own claim.
fn forwarded_for(headers: &HeaderMap, trusted: &[IpNet]) -> Option<IpAddr> {
    let mut client = None;
    let values = headers.get_all(X_FORWARDED_FOR).iter().rev();
    // Entries are parsed one by one, because the client may have put any bytes before the proxy's entry.
    for entry in values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b',')) {
        // A trusted proxy writes only addresses.
        let Some(address) = std::str::from_utf8(entry).ok().and_then(|entry| address(entry.trim())) else {
            break;
        };
        client = Some(address);
        if !is_trusted(address, trusted) {
            break;
        }
    }
    client
}

/// Parses an address with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = || text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    bare().or_else(with_port).or_else(bracketed).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use limits::memory::{Memory, Use};
    use limits::pool::Pool;

    use super::*;

    const PEER: &str = "10.0.0.1";

    fn dialled() -> GatewayName {
        GatewayName::new("edge.example.com").expect("a name")
    }

    fn client(peer: &str, forwarded: &[&str]) -> String {
        let trusted = ["10.0.0.0/8".parse().expect("a network"), "fd00::/8".parse().expect("a network")];
        let headers = forwarded
            .iter()
            .map(|value| (X_FORWARDED_FOR, HeaderValue::from_bytes(value.as_bytes()).expect("a value")));
        let peer = peer.parse().expect("an address");
        let client = Client::of_request(peer, 1, &headers.collect(), &trusted, dialled());
        client.address.to_string()
    }

    /// A task that outlives the answer keeps the request's memory, and not only its slot.
    #[test]
    fn work_after_the_answer_keeps_the_slot_and_the_memory() {
        let (pool, memory) = (Pool::new("limits.requests", 1, 0), Memory::new(1000));
        let client = Client::of_request([192, 0, 2, 1].into(), 1, &HeaderMap::new(), &[], dialled());
        let slot = pool.try_take(&client.identity).expect("free");
        let reserved =
            Arc::new(memory.reserve(Use::Requests, Some(client.holder()), 100).expect("there is room"));
        let client = client.holding(slot, Arc::clone(&reserved));
        let task = client.clone();
        drop((client, reserved));
        assert_eq!((pool.status().used, memory.status().reserved.iter().sum()), (1, 100));
        drop(task);
        assert_eq!((pool.status().used, memory.status().reserved.iter().sum::<u64>()), (0, 0));
    }

    #[test]
    fn a_trusted_proxy_names_the_client() {
        assert_eq!(client(PEER, &["192.0.2.7"]), "192.0.2.7");
        assert_eq!(client(PEER, &["192.0.2.7:4711"]), "192.0.2.7");
        assert_eq!(client(PEER, &["[2001:db8::1]:4711, 10.2.3.4"]), "2001:db8::1");
        assert_eq!(client("::ffff:10.0.0.1", &["192.0.2.7"]), "192.0.2.7");
        // The client's claims stand before what the proxy appended.
        assert_eq!(client(PEER, &["198.51.100.1, 192.0.2.7"]), "192.0.2.7");
        assert_eq!(client(PEER, &["198.51.100.1", "192.0.2.7, 10.9.9.9"]), "192.0.2.7");
        assert_eq!(client(PEER, &["198.51.100.1\u{e9}, 192.0.2.7"]), "192.0.2.7");
        assert_eq!(client(PEER, &["\u{e9}", "192.0.2.7, 10.9.9.9"]), "192.0.2.7");
        // If all entries are proxies, the first one counts.
        assert_eq!(client(PEER, &["10.1.1.1, 10.2.2.2"]), "10.1.1.1");
    }

    #[test]
    fn other_peers_do_not_name_the_client() {
        assert_eq!(client("192.0.2.9", &["198.51.100.1"]), "192.0.2.9");
        assert_eq!(client(PEER, &[]), PEER);
        assert_eq!(client(PEER, &["unknown"]), PEER);
        assert_eq!(client(PEER, &["198.51.100.1, unknown, 10.2.2.2"]), "10.2.2.2");
    }

    #[test]
    fn a_connection_of_a_proxy_does_not_identify_a_client() {
        let trusted = ["10.0.0.0/8".parse().expect("a network")];
        let of = |peer: &str, number| {
            let headers = [(X_FORWARDED_FOR, "192.0.2.7".parse().expect("a value"))].into_iter().collect();
            let peer = peer.parse().expect("an address");
            Client::of_request(peer, number, &headers, &trusted, dialled()).identity
        };
        assert_eq!(of(PEER, 1), of(PEER, 2));
        assert_ne!(of("192.0.2.7", 1), of("192.0.2.7", 2));
    }
}
