//! Accepts clients: TLS, HTTP/1.1 and HTTP/2, with a bound on everything.

mod activity;
mod bounded_io;
mod connection;
mod cost;
pub(crate) mod descriptors;
mod inbox;
mod pace;
mod proxy_header;
mod roster;
mod send_buffer;
mod timed_heads;
mod waiting;

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::bounded_io::BoundedIo;
use self::connection::Connection;
pub(crate) use self::connection::Protocols;
pub(crate) use self::inbox::{Inbox, Reader};
use self::proxy_header::NoHeader;
pub(crate) use self::roster::Roster;
use self::roster::Seat;
use self::send_buffer::SendBuffer;
use self::waiting::Waiting;
use crate::gateway::Current;
use crate::request::is_trusted;
use limits::memory::{CONNECTION, Holder, Use};
use limits::pool::{Identity, Pool, Slot};

/// The pause after a failed accept, for example for lack of file descriptors. It is long enough for some of them to be
/// closed, and too short for clients to notice.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How many clients may wait for one of `limits.connections`.
pub(crate) const WAITING_MAX: usize = 256;

/// How many connections of trusted proxies may wait for their PROXY header. HAProxy sends it at once. Some balancers send
/// it with the first bytes of their client, which may be silent.
const PROXY_HEADERS_MAX: usize = 256;

/// How long connections of proxies without a header are not reported again.
const NO_HEADER_PAUSE: Duration = Duration::from_secs(60);

/// If no connection is free, at most this part of all connections is asked to go at once. The search for them has a
/// cost.
const SHED_PART: usize = 256;

/// A new connection has this part of `timeouts.handshake` for its handshake and its first request. After that, it
/// counts as idle if other clients wait.
const FIRST_REQUEST_PART: u32 = 8;

/// How long a waiting client waits before it again looks for connections that have become idle.
const SHED_PAUSE: Duration = Duration::from_millis(100);

/// Accepts clients until `shutdown`. Then requests under way may finish within `timeouts.drain`. Returns the time at
/// which that bound ends.
pub(crate) async fn serve(
    current: Arc<Current>,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Instant {
    let entrance = Arc::new(Entrance {
        current,
        roster: Arc::default(),
        clients: TaskTracker::new(),
        headers: Waiting::new(PROXY_HEADERS_MAX),
        warned: Mutex::default(),
        shutdown,
    });
    while let Some(accepted) = next(&listener, &entrance.shutdown).await {
        match accepted {
            Ok((stream, peer)) if entrance.sends_header(peer) => {
                let entered = Arc::clone(&entrance);
                entrance.clients.spawn(async move { entered.enter_by_proxy(stream, peer).await });
            }
            Ok((stream, peer)) => {
                let proxy = is_trusted(peer.ip(), &entrance.current.load().settings.trusted_proxies);
                entrance.enter(stream, peer, proxy);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a client");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    entrance.drain().await
}

/// Where clients enter, and what their connections share.
struct Entrance {
    current: Arc<Current>,
    roster: Arc<Roster>,
    clients: TaskTracker,
    /// The connections whose PROXY header has not arrived.
    headers: Waiting,
    /// When a proxy without a header was last reported.
    warned: Mutex<Option<Instant>>,
    shutdown: CancellationToken,
}

impl Entrance {
    /// Whether this peer must begin with a PROXY header.
    fn sends_header(&self, peer: SocketAddr) -> bool {
        let gateway = self.current.load();
        let settings = &gateway.settings;
        settings.proxy_protocol && is_trusted(peer.ip(), &settings.trusted_proxies)
    }

    /// Lets a client in that the proxy names first. The proxy's header must arrive within `timeouts.handshake`.
    async fn enter_by_proxy(self: Arc<Self>, mut stream: TcpStream, peer: SocketAddr) {
        let bound = self.current.load().settings.timeouts.handshake;
        let place = self.headers.enter();
        let read = tokio::select! {
            read = tokio::time::timeout(bound, proxy_header::read(&mut stream)) => {
                read.unwrap_or(Err(NoHeader::Late))
            }
            () = place.makes_room() => Err(NoHeader::TooMany),
            () = self.shutdown.cancelled() => return,
        };
        match read {
            // Whoever the header names is a client, and no proxy that may name others.
            Ok(Some(client)) => self.enter(stream, client, false),
            Ok(None) => self.enter(stream, peer, true),
            Err(error) => self.report_no_header(peer, &error),
        }
    }

    /// Counts a proxy's connection without a header. Logs it at most once in [`NO_HEADER_PAUSE`], because each client of
    /// the proxy causes one. A proxy that only looks whether the port is open sends nothing.
    fn report_no_header(&self, peer: SocketAddr, error: &NoHeader) {
        self.current.load().metrics.handshake_failed("proxy-header");
        let mut warned = self.warned.lock();
        let quiet = warned.is_some_and(|warned| warned.elapsed() < NO_HEADER_PAUSE);
        if quiet || matches!(error, NoHeader::Broken(_)) {
            return tracing::debug!(%peer, %error, "a trusted proxy named no client");
        }
        *warned = Some(Instant::now());
        drop(warned);
        tracing::warn!(%peer, %error, "a trusted proxy named no client: its connection is closed");
    }

    fn enter(&self, stream: TcpStream, peer: SocketAddr, proxy: bool) {
        let who = Identity::peer(peer.ip(), proxy);
        let seat = self.roster.enter(who);
        // A proxy's connection carries requests of many clients, so no single client holds its memory.
        let holder = (!proxy).then(|| Holder { address: peer.ip(), connection: Some(seat.number()) });
        let gateway = self.current.load();
        let memory = &gateway.memory;
        let (Some(held), Some(larger)) =
            (memory.reserve(Use::Connections, holder, CONNECTION), memory.reserve(Use::Answers, holder, 0))
        else {
            // `Memory` counts the refusal and logs it now and then. The client's connection is closed.
            return;
        };
        let connection = Connection {
            current: Arc::clone(&self.current),
            peer,
            proxy,
            seat,
            shutdown: self.shutdown.clone(),
            inbox: Inbox::new(held),
            buffer: SendBuffer::new(larger),
        };
        let roster = Arc::clone(&self.roster);
        self.clients.spawn(async move {
            let handshake = gateway.settings.timeouts.handshake;
            let pool = Arc::clone(&gateway.connections);
            drop(gateway);
            if let Some(_slot) = slot(&pool, &roster, &connection.seat, &who, handshake).await {
                connection.serve(stream).await;
            }
        });
    }

    /// Waits until all clients have gone, at most `timeouts.drain`. Returns the time at which that bound ends.
    async fn drain(&self) -> Instant {
        self.clients.close();
        let drain = self.current.load().settings.timeouts.drain;
        let end = Instant::now() + drain;
        tracing::info!(
            clients = self.clients.len(),
            seconds = drain.as_secs(),
            "no new clients; requests under way may finish"
        );
        if tokio::time::timeout_at(end, self.clients.wait()).await.is_err() {
            tracing::warn!(clients = self.clients.len(), "cut: still busy when timeouts.drain ended");
        }
        end
    }
}

/// Waits for the next client. Returns `None` on shutdown.
async fn next(
    listener: &TcpListener,
    shutdown: &CancellationToken,
) -> Option<std::io::Result<(TcpStream, SocketAddr)>> {
    tokio::select! {
        biased;
        () = shutdown.cancelled() => None,
        accepted = listener.accept() => Some(accepted),
    }
}

/// Takes one of `limits.connections`, and waits for it at most `timeouts.handshake`. If none is free, asks idle
/// connections to make room.
async fn slot(
    pool: &Arc<Pool>,
    roster: &Roster,
    seat: &Seat,
    who: &Identity,
    handshake: Duration,
) -> Option<Slot> {
    let most = pool.status().slots.div_ceil(SHED_PART);
    let mut slot = std::pin::pin!(pool.take(who, handshake));
    loop {
        // This client must stand in the queue before another connection makes room.
        let taken = match futures_util::poll!(slot.as_mut()) {
            Poll::Ready(taken) => Ok(taken),
            Poll::Pending => {
                roster.shed(most, handshake / FIRST_REQUEST_PART, SHED_PAUSE);
                tokio::time::timeout(SHED_PAUSE, slot.as_mut()).await
            }
        };
        if let Ok(taken) = taken {
            return taken.ok().inspect(|_| seat.admitted());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDSHAKE: Duration = Duration::from_secs(10);

    /// Plays a client that sends a request as soon as it is served, and then stays. Returns whether it was answered.
    async fn client(pool: Arc<Pool>, roster: Arc<Roster>, address: u8) -> bool {
        let who = Identity::peer([192, 0, 2, address].into(), false);
        let seat = roster.enter(who);
        let Some(_slot) = slot(&pool, &roster, &seat, &who, HANDSHAKE).await else { return false };
        tokio::select! {
            () = tokio::time::sleep(SHED_PAUSE * 2) => {}
            () = seat.asked_to_go() => return false,
        }
        drop(seat.activity().begin());
        seat.asked_to_go().await;
        true
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_do_not_shed_each_other() {
        for addresses in [[1, 1, 1], [1, 2, 3]] {
            let (pool, roster) = (Pool::new("limits.connections", 2, 256), Arc::new(Roster::default()));
            let who = Identity::peer([192, 0, 2, 9].into(), false);
            let mut held = Vec::new();
            for _ in 0..2 {
                let seat = roster.enter(who);
                let slot = slot(&pool, &roster, &seat, &who, HANDSHAKE).await.expect("there is room");
                held.push((seat.activity().begin(), slot, seat));
            }
            let waiting = addresses.map(|address| client(Arc::clone(&pool), Arc::clone(&roster), address));
            let waiting = waiting.map(tokio::spawn);
            tokio::time::sleep(SHED_PAUSE * 5).await;
            drop(held);
            tokio::time::sleep(HANDSHAKE).await;
            // The clients that still stay are idle, and make room for others.
            let more = [7, 8].map(|address| client(Arc::clone(&pool), Arc::clone(&roster), address));
            let more = more.map(tokio::spawn);
            for client in waiting {
                assert!(client.await.expect("it ends"), "{addresses:?}");
            }
            more.iter().for_each(tokio::task::JoinHandle::abort);
        }
    }
}
