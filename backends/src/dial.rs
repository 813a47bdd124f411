//! TCP to a name that may have several addresses, some of which lead nowhere: Happy Eyeballs (RFC 8305).
//!
//! All addresses are tried, one after the other with a short delay, beside those that have not failed yet;
//! the first connection wins. So an address whose packets are dropped costs a quarter of a second instead
//! of the whole bound, and which one won is remembered for a minute. So is one that takes connections and
//! gives no TLS: it is tried last.

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

/// From one attempt to the next ("Connection Attempt Delay", RFC 8305, section 8).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// For how long it is remembered which address of a name was the first to answer, or was of no use.
const MEMORY: Duration = Duration::from_secs(60);

/// Names that are remembered.
const NAMES_MAX: usize = 256;

static REMEMBERED: LazyLock<Memory> = LazyLock::new(Memory::default);

/// Connects to the first address of a host that takes it. Small pieces go out at once, and the connection is
/// kept alive. The caller bounds the wait.
///
/// # Errors
/// The name is not known, or what the last of its addresses said.
pub async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let found: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
    dial_any(host, &found).await
}

/// The same where the addresses of `host` are known already.
///
/// # Errors
/// There is none, or what the last of them said.
pub async fn dial_any(host: &str, addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let (_, stream) = first(host, addresses).await?;
    stream.set_nodelay(true)?;
    keepalive(&stream)?;
    Ok(stream)
}

/// The address of a host that answers first, for a client that makes its own connections: where there are
/// several, it is found by connecting to them, unless it was found within the last minute.
///
/// # Errors
/// As [`dial`].
pub async fn reachable(host: &str, port: u16) -> io::Result<IpAddr> {
    let found: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
    match (found.as_slice(), REMEMBERED.get(host, port)) {
        ([only], _) => Ok(only.ip()),
        (found, Some(Known::Best(best))) if found.iter().any(|address| address.ip() == best) => Ok(best),
        (found, _) => first(host, found).await.map(|(address, _)| address.ip()),
    }
}

/// A connection to this address of a host was of no use, such as for TLS: for a minute the others go first.
pub fn shun(host: &str, port: u16, address: IpAddr) {
    match REMEMBERED.get(host, port) {
        // Another one was found meanwhile.
        Some(Known::Best(best)) if best != address => {}
        _ => REMEMBERED.insert(host, port, Known::Worst(address)),
    }
}

/// The same of the address that was the best, if one was.
pub(crate) fn shun_best(host: &str, port: u16) {
    if let Some(Known::Best(best)) = REMEMBERED.get(host, port) {
        shun(host, port, best);
    }
}

/// All addresses of a host, the one that answers first before the others.
pub(crate) async fn best_first(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
    let best = match found.len() {
        0 | 1 => None,
        _ => reachable(host, port).await.ok().map(Known::Best),
    };
    Ok(ordered(&found, best))
}

async fn first(host: &str, addresses: &[SocketAddr]) -> io::Result<(SocketAddr, TcpStream)> {
    let port = addresses.first().map_or(0, SocketAddr::port);
    let ordered = ordered(addresses, REMEMBERED.get(host, port));
    let won = race(&ordered, TcpStream::connect).await;
    if ordered.len() > 1 {
        match &won {
            Ok((address, _)) => REMEMBERED.insert(host, port, Known::Best(address.ip())),
            Err(_) => REMEMBERED.remove(host, port),
        }
    }
    won
}

/// Tries addresses in their order, the next one when the last has failed or has had its time, and gives the
/// first connection.
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

/// The order in which addresses are tried: what was best, then the families in turn, beginning with that of
/// the first (RFC 8305, section 4), each in the order of the resolver (RFC 6724); what was of no use last.
fn ordered(addresses: &[SocketAddr], known: Option<Known>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let family =
        |same: bool| addresses.iter().copied().filter(move |it| (it.is_ipv6() == first_is_v6) == same);
    let (mut own, mut other) = (family(true), family(false));
    let mut ordered: Vec<SocketAddr> = Vec::new();
    ordered.extend(addresses.iter().filter(|address| known == Some(Known::Best(address.ip()))));
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
    // Stable: nothing else changes its place.
    ordered.sort_by_key(|address| known == Some(Known::Worst(address.ip())));
    ordered.truncate(ADDRESSES_MAX);
    ordered
}

/// What is known of one address of a host and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// It was the first to answer.
    Best(IpAddr),
    /// It answered, and was of no use.
    Worst(IpAddr),
}

/// What is known of hosts and ports, and since when.
#[derive(Debug, Default)]
struct Memory(Mutex<HashMap<(String, u16), (Known, Instant)>>);

impl Memory {
    fn lock(&self) -> MutexGuard<'_, HashMap<(String, u16), (Known, Instant)>> {
        self.0.lock()
    }

    fn get(&self, host: &str, port: u16) -> Option<Known> {
        let names = self.lock();
        names.get(&(host.to_owned(), port)).filter(|(_, at)| at.elapsed() < MEMORY).map(|(known, _)| *known)
    }

    fn remove(&self, host: &str, port: u16) {
        self.lock().remove(&(host.to_owned(), port));
    }

    fn insert(&self, host: &str, port: u16, known: Known) {
        let mut names = self.lock();
        if names.len() >= NAMES_MAX {
            names.retain(|_, (_, at)| at.elapsed() < MEMORY);
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

    /// What becomes of an attempt: after so many milliseconds it connects, or fails; or it never ends.
    #[derive(Debug, Clone, Copy)]
    enum Fate {
        Connects(u64),
        Fails(u64),
        Hangs,
    }

    async fn raced(fates: &[Fate]) -> (Option<usize>, Duration) {
        let addresses: Vec<_> = (0..fates.len()).map(|at| v4(at as u8)).collect();
        let start = Instant::now();
        let won = race(&addresses, |address| {
            let at = addresses.iter().position(|other| *other == address).unwrap_or_default();
            let fate = fates[at];
            async move {
                match fate {
                    Fate::Connects(ms) => {
                        tokio::time::sleep(Duration::from_millis(ms)).await;
                        Ok(at)
                    }
                    Fate::Fails(ms) => {
                        tokio::time::sleep(Duration::from_millis(ms)).await;
                        Err(io::ErrorKind::ConnectionRefused.into())
                    }
                    Fate::Hangs => std::future::pending().await,
                }
            }
        })
        .await;
        (won.ok().map(|(_, at)| at), start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_leads_nowhere_costs_a_quarter_of_a_second() {
        use Fate::{Connects, Fails, Hangs};
        let ms = Duration::from_millis;
        assert_eq!(raced(&[Connects(10), Connects(0)]).await, (Some(0), ms(10)));
        assert_eq!(raced(&[Hangs, Connects(10)]).await, (Some(1), ms(260)));
        assert_eq!(raced(&[Hangs, Hangs, Connects(10)]).await, (Some(2), ms(510)));
        assert_eq!(raced(&[Fails(5), Connects(10)]).await, (Some(1), ms(15)), "the next begins at once");
        assert_eq!(
            raced(&[Connects(300), Connects(100)]).await,
            (Some(0), ms(300)),
            "the first one is still heard"
        );
        assert_eq!(raced(&[Connects(400), Connects(100)]).await, (Some(1), ms(350)));
        assert_eq!(raced(&[Fails(5), Fails(7)]).await, (None, ms(12)));
        assert_eq!(raced(&[]).await, (None, ms(0)));
    }

    #[test]
    fn families_take_turns_and_what_was_best_comes_first() {
        let found = [v6(1), v6(2), v4(1), v4(2)];
        assert_eq!(ordered(&found, None), [v6(1), v4(1), v6(2), v4(2)]);
        assert_eq!(ordered(&found, Some(Known::Best(v4(2).ip()))), [v4(2), v6(1), v4(1), v6(2)]);
        assert_eq!(
            ordered(&found, Some(Known::Best(v4(9).ip()))),
            [v6(1), v4(1), v6(2), v4(2)],
            "it is gone"
        );
        assert_eq!(ordered(&found, Some(Known::Worst(v6(1).ip()))), [v4(1), v6(2), v4(2), v6(1)]);
        assert_eq!(ordered(&[v4(1), v4(2)], None), [v4(1), v4(2)]);
    }

    proptest! {
        #[test]
        fn each_is_tried_once(v4s in 0u8..6, v6s in 0u16..6, best in 0u8..8) {
            let mut found: Vec<_> = (0..v6s).map(v6).chain((0..v4s).map(v4)).collect();
            let mut order = ordered(&found, Some(Known::Best(v4(best).ip())));
            prop_assert_eq!(order.len(), found.len().min(ADDRESSES_MAX));
            order.sort_unstable();
            order.dedup();
            found.sort_unstable();
            prop_assert!(order.iter().all(|address| found.contains(address)));
            prop_assert_eq!(order.len(), found.len().min(ADDRESSES_MAX));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_is_short_and_bounded() {
        let memory = Memory::default();
        let address = Known::Best(v4(1).ip());
        memory.insert("a", 443, address);
        assert_eq!(memory.get("a", 443), Some(address));
        assert_eq!(memory.get("a", 80), None);
        for name in 0..2 * NAMES_MAX {
            memory.insert(&name.to_string(), 443, address);
        }
        assert_eq!(memory.lock().len(), NAMES_MAX);
        tokio::time::advance(MEMORY).await;
        assert_eq!(memory.get("a", 443), None);
        memory.insert("b", 443, address);
        assert_eq!(memory.lock().len(), 1, "what is over makes room");
    }

    #[tokio::test]
    async fn an_address_that_takes_connections_and_is_of_no_use_comes_last() {
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
        assert_eq!(peer().await, addresses[1], "a late word on the first one changes nothing");
        shun_best("two.test", port);
        assert_eq!(peer().await, addresses[0], "neither is lost");
    }

    #[tokio::test]
    async fn a_listener_is_reached() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let stream = dial("127.0.0.1", address.port()).await.expect("a connection");
        assert_eq!(stream.peer_addr().expect("a peer"), address);
        assert_eq!(reachable("127.0.0.1", address.port()).await.expect("an address"), address.ip());
        drop(listener);
        assert!(dial("127.0.0.1", address.port()).await.is_err());
    }
}
