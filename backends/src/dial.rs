//! Connects to a host that may have several addresses, some of them unreachable: Happy Eyeballs (RFC 8305).
//!
//! The addresses are tried one after the other. If an attempt has no result after a short delay, the next
//! attempt starts beside it. The first connection wins. An address whose packets are dropped therefore costs
//! a quarter of a second instead of the whole timeout. The winner is remembered for a minute and tried first.
//! An address that accepts connections but fails TLS is also remembered for a minute, and tried last.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::{Mutex, MutexGuard};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::keepalive;

/// The delay between two attempts ("Connection Attempt Delay", RFC 8305, section 8).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The maximum number of addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// How long the fastest or the unusable address of a name is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// The maximum number of names that are remembered.
const NAMES_MAX: usize = 256;

static REMEMBERED: LazyLock<KnownAddresses> = LazyLock::new(KnownAddresses::default);

/// Connects to the first address of a host that accepts the connection. Nagle's algorithm is off and TCP
/// keep-alive is on. The caller must set a timeout.
///
/// # Errors
/// The name cannot be resolved, or no address accepts the connection. The second case returns the error of
/// the last attempt.
pub async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let found: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
    dial_any(host, &found).await
}

/// Like [`dial`], with addresses of `host` that are already resolved.
///
/// # Errors
/// `addresses` is empty, or none of them accepts the connection. The second case returns the error of the
/// last attempt.
pub async fn dial_any(host: &str, addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let (_, stream) = first(host, addresses).await?;
    stream.set_nodelay(true)?;
    keepalive(&stream)?;
    Ok(stream)
}

/// The address of a host that answers first, for a client that opens its own connections. If the host has
/// several addresses, this function connects to them to find out. The result is remembered for a minute.
///
/// # Errors
/// As [`dial`].
pub async fn reachable(host: &str, port: u16) -> io::Result<IpAddr> {
    let found: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
    match (found.as_slice(), REMEMBERED.get(host, port)) {
        ([only], _) => Ok(only.ip()),
        (found, Some(Known::Fastest(best))) if found.iter().any(|address| address.ip() == best) => Ok(best),
        (found, _) => first(host, found).await.map(|(address, _)| address.ip()),
    }
}

/// Marks an address as unusable, for example because TLS failed there. For a minute the other addresses of
/// the host are tried first.
pub fn shun(host: &str, port: u16, address: IpAddr) {
    match REMEMBERED.get(host, port) {
        // Another address has become the best one meanwhile.
        Some(Known::Fastest(best)) if best != address => {}
        _ => REMEMBERED.insert(host, port, Known::Unusable(address)),
    }
}

/// Like [`shun`], for the address that is remembered as the best one, if there is one.
pub(crate) fn shun_best(host: &str, port: u16) {
    if let Some(Known::Fastest(best)) = REMEMBERED.get(host, port) {
        shun(host, port, best);
    }
}

/// All addresses of a host. The one that answers first comes first.
pub(crate) async fn best_first(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
    let best = match found.len() {
        0 | 1 => None,
        _ => reachable(host, port).await.ok().map(Known::Fastest),
    };
    Ok(ordered(&found, best))
}

async fn first(host: &str, addresses: &[SocketAddr]) -> io::Result<(SocketAddr, TcpStream)> {
    let port = addresses.first().map_or(0, SocketAddr::port);
    let ordered = ordered(addresses, REMEMBERED.get(host, port));
    let won = race(&ordered, TcpStream::connect).await;
    if ordered.len() > 1 {
        match &won {
            Ok((address, _)) => REMEMBERED.insert(host, port, Known::Fastest(address.ip())),
            Err(_) => REMEMBERED.remove(host, port),
        }
    }
    won
}

/// Tries addresses in order and returns the first connection. The next attempt starts if the last one failed
/// or [`ATTEMPT_DELAY`] has passed.
async fn race<T, F: Future<Output = io::Result<T>>>(
    addresses: &[SocketAddr],
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<(SocketAddr, T)> {
    let mut error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut left = addresses.iter().copied();
    let mut under_way = FuturesUnordered::new();
    let attempt = |address| {
        let connecting = connect(address);
        async move { (address, connecting.await) }
    };
    loop {
        let more = match left.next() {
            Some(address) => {
                under_way.push(attempt(address));
                true
            }
            None => false,
        };
        let next = Instant::now() + ATTEMPT_DELAY;
        loop {
            tokio::select! {
                ended = under_way.next() => match ended {
                    Some((address, Ok(connection))) => return Ok((address, connection)),
                    Some((_, Err(failed))) => {
                        error = failed;
                        if more {
                            break;
                        }
                    }
                    None => return Err(error),
                },
                () = tokio::time::sleep_until(next), if more => break,
            }
        }
    }
}

/// The order in which addresses are tried. The best known address comes first. Then the address families
/// alternate, starting with the family of the first address (RFC 8305, section 4); within a family the order
/// of the resolver is kept (RFC 6724). An unusable address comes last.
fn ordered(addresses: &[SocketAddr], known: Option<Known>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let family =
        |same: bool| addresses.iter().copied().filter(move |it| (it.is_ipv6() == first_is_v6) == same);
    let (mut own, mut other) = (family(true), family(false));
    let mut ordered: Vec<SocketAddr> = Vec::new();
    ordered.extend(addresses.iter().filter(|address| known == Some(Known::Fastest(address.ip()))));
    loop {
        let pair = [own.next(), other.next()];
        if pair == [None, None] {
            break;
        }
        for address in pair.into_iter().flatten() {
            if !ordered.contains(&address) {
                ordered.push(address);
            }
        }
    }
    // The sort is stable, so all other addresses keep their places.
    ordered.sort_by_key(|address| known == Some(Known::Unusable(address.ip())));
    ordered.truncate(ADDRESSES_MAX);
    ordered
}

/// What is known about one address of a host and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// It was the first to answer.
    Fastest(IpAddr),
    /// It accepted a connection that could not be used.
    Unusable(IpAddr),
}

/// What is known about hosts and ports, and since when.
#[derive(Debug, Default)]
struct KnownAddresses(Mutex<HashMap<(String, u16), (Known, Instant)>>);

impl KnownAddresses {
    fn lock(&self) -> MutexGuard<'_, HashMap<(String, u16), (Known, Instant)>> {
        self.0.lock()
    }

    fn get(&self, host: &str, port: u16) -> Option<Known> {
        let names = self.lock();
        names
            .get(&(host.to_owned(), port))
            .filter(|(_, at)| at.elapsed() < REMEMBERED_FOR)
            .map(|(known, _)| *known)
    }

    fn remove(&self, host: &str, port: u16) {
        self.lock().remove(&(host.to_owned(), port));
    }

    fn insert(&self, host: &str, port: u16, known: Known) {
        let mut names = self.lock();
        if names.len() >= NAMES_MAX {
            names.retain(|_, (_, at)| at.elapsed() < REMEMBERED_FOR);
        }
        let name = (host.to_owned(), port);
        if names.len() < NAMES_MAX || names.contains_key(&name) {
            names.insert(name, (known, Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn v4(last: u8) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(192, 0, 2, last), 443))
    }

    fn v6(last: u16) -> SocketAddr {
        SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last), 443))
    }

    /// The result of an attempt: it connects or fails after this many milliseconds, or it never ends.
    #[derive(Debug, Clone, Copy)]
    enum Attempt {
        Connects(u64),
        Fails(u64),
        Hangs,
    }

    async fn raced(fates: &[Attempt]) -> (Option<usize>, Duration) {
        let addresses: Vec<_> = (0..fates.len()).map(|at| v4(at as u8)).collect();
        let start = Instant::now();
        let won = race(&addresses, |address| {
            let at = addresses.iter().position(|other| *other == address).unwrap_or_default();
            let fate = fates[at];
            async move {
                match fate {
                    Attempt::Connects(ms) => {
                        tokio::time::sleep(Duration::from_millis(ms)).await;
                        Ok(at)
                    }
                    Attempt::Fails(ms) => {
                        tokio::time::sleep(Duration::from_millis(ms)).await;
                        Err(io::ErrorKind::ConnectionRefused.into())
                    }
                    Attempt::Hangs => std::future::pending().await,
                }
            }
        })
        .await;
        (won.ok().map(|(_, at)| at), start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreachable_address_costs_a_quarter_of_a_second() {
        use Attempt::{Connects, Fails, Hangs};
        let ms = Duration::from_millis;
        assert_eq!(raced(&[Connects(10), Connects(0)]).await, (Some(0), ms(10)));
        assert_eq!(raced(&[Hangs, Connects(10)]).await, (Some(1), ms(260)));
        assert_eq!(raced(&[Hangs, Hangs, Connects(10)]).await, (Some(2), ms(510)));
        assert_eq!(
            raced(&[Fails(5), Connects(10)]).await,
            (Some(1), ms(15)),
            "the next attempt starts at once"
        );
        assert_eq!(
            raced(&[Connects(300), Connects(100)]).await,
            (Some(0), ms(300)),
            "the first attempt still counts"
        );
        assert_eq!(raced(&[Connects(400), Connects(100)]).await, (Some(1), ms(350)));
        assert_eq!(raced(&[Fails(5), Fails(7)]).await, (None, ms(12)));
        assert_eq!(raced(&[]).await, (None, ms(0)));
    }

    #[test]
    fn families_alternate_and_the_best_address_comes_first() {
        let found = [v6(1), v6(2), v4(1), v4(2)];
        assert_eq!(ordered(&found, None), [v6(1), v4(1), v6(2), v4(2)]);
        assert_eq!(ordered(&found, Some(Known::Fastest(v4(2).ip()))), [v4(2), v6(1), v4(1), v6(2)]);
        assert_eq!(
            ordered(&found, Some(Known::Fastest(v4(9).ip()))),
            [v6(1), v4(1), v6(2), v4(2)],
            "it is gone"
        );
        assert_eq!(ordered(&found, Some(Known::Unusable(v6(1).ip()))), [v4(1), v6(2), v4(2), v6(1)]);
        assert_eq!(ordered(&[v4(1), v4(2)], None), [v4(1), v4(2)]);
    }

    proptest! {
        #[test]
        fn each_is_tried_once(v4s in 0u8..6, v6s in 0u16..6, best in 0u8..8) {
            let mut found: Vec<_> = (0..v6s).map(v6).chain((0..v4s).map(v4)).collect();
            let mut order = ordered(&found, Some(Known::Fastest(v4(best).ip())));
            prop_assert_eq!(order.len(), found.len().min(ADDRESSES_MAX));
            order.sort_unstable();
            order.dedup();
            found.sort_unstable();
            prop_assert!(order.iter().all(|address| found.contains(address)));
            prop_assert_eq!(order.len(), found.len().min(ADDRESSES_MAX));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn known_addresses_expire_and_are_bounded() {
        let memory = KnownAddresses::default();
        let address = Known::Fastest(v4(1).ip());
        memory.insert("a", 443, address);
        assert_eq!(memory.get("a", 443), Some(address));
        assert_eq!(memory.get("a", 80), None);
        for name in 0..2 * NAMES_MAX {
            memory.insert(&name.to_string(), 443, address);
        }
        assert_eq!(memory.lock().len(), NAMES_MAX);
        tokio::time::advance(REMEMBERED_FOR).await;
        assert_eq!(memory.get("a", 443), None);
        memory.insert("b", 443, address);
        assert_eq!(memory.lock().len(), 1, "expired entries make room");
    }

    #[tokio::test]
    async fn an_unusable_address_comes_last() {
        let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = dead.local_addr().expect("an address").port();
        let well = tokio::net::TcpListener::bind(("127.0.0.2", port)).await.expect("the same port");
        let addresses = [&dead, &well].map(|listener| listener.local_addr().expect("an address"));
        let peer = async || {
            let stream = dial_any("two.test", &addresses).await.expect("a connection");
            stream.peer_addr().expect("a peer")
        };
        assert_eq!(peer().await, addresses[0]);
        shun("two.test", port, addresses[0].ip());
        assert_eq!(peer().await, addresses[1]);
        shun("two.test", port, addresses[0].ip());
        assert_eq!(peer().await, addresses[1], "a late report about the first address changes nothing");
        shun_best("two.test", port);
        assert_eq!(peer().await, addresses[0], "both addresses are still tried");
    }

    #[tokio::test]
    async fn a_listening_address_is_reached() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let stream = dial("127.0.0.1", address.port()).await.expect("a connection");
        assert_eq!(stream.peer_addr().expect("a peer"), address);
        assert_eq!(reachable("127.0.0.1", address.port()).await.expect("an address"), address.ip());
        drop(listener);
        assert!(dial("127.0.0.1", address.port()).await.is_err());
    }
}
