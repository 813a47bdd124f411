//! Accepting clients: TLS, HTTP/1.1 and HTTP/2, with a bound on everything.

mod activity;
mod bounded_io;
mod connection;
mod cost;
pub(crate) mod descriptors;
mod inbox;
mod pace;
mod roster;
mod send_buffer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::bounded_io::BoundedIo;
use self::connection::{Connection, Protocols};
pub(crate) use self::inbox::{Inbox, Reader};
pub(crate) use self::roster::Roster;
use self::roster::Seat;
use self::send_buffer::SendBuffer;
use crate::Gateway;
use crate::request::is_trusted;
use limits::memory::{CONNECTION, Holder, Use};
use limits::pool::{Identity, Pool, Slot};

/// After a failed accept, such as for want of file descriptors: long enough for some to be
/// closed, short enough that clients do not notice.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Clients that wait for one of `limits.connections`.
pub(crate) const WAITING_MAX: usize = 256;

/// So small a part of all connections makes room at once, where there is none: looking for them is not free.
const SHED_PART: usize = 256;

/// A connection has this part of `timeouts.handshake` for its handshake and its first request before it counts as
/// idle where others wait.
const FIRST_REQUEST_PART: u32 = 8;

/// Until one that waits looks again whether another has become idle.
const SHED_PAUSE: Duration = Duration::from_millis(100);

/// Accepts clients until `shutdown`, then lets requests under way finish within
/// `timeouts.drain`; returns when that ends.
pub(crate) async fn serve(
    gateway: Arc<Gateway>,
    listener: TcpListener,
    tls: TlsAcceptor,
    shutdown: CancellationToken,
) -> Instant {
    let limits = &gateway.settings.limits;
    let protocols = Arc::new(Protocols::new(limits, &gateway.settings.timeouts));
    let roster = Arc::new(Roster::default());
    let clients = TaskTracker::new();
    while let Some(accepted) = next(&listener, &shutdown).await {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a client");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let proxy = is_trusted(peer.ip(), &gateway.settings.trusted_proxies);
        let who = Identity::peer(peer.ip(), proxy);
        let seat = roster.enter(who);
        // A proxy speaks for many clients.
        let holder = (!proxy).then(|| Holder { address: peer.ip(), connection: Some(seat.number()) });
        let memory = &gateway.memory;
        let (Some(held), Some(larger)) =
            (memory.reserve(Use::Connections, holder, CONNECTION), memory.reserve(Use::Answers, holder, 0))
        else {
            // Counted, and logged now and then. The client sees its connection closed.
            continue;
        };
        let connection = Connection {
            gateway: Arc::clone(&gateway),
            tls: tls.clone(),
            protocols: Arc::clone(&protocols),
            peer,
            seat,
            shutdown: shutdown.clone(),
            inbox: Inbox::new(held),
            buffer: SendBuffer::new(larger),
        };
        let roster = Arc::clone(&roster);
        clients.spawn(async move {
            let gateway = &connection.gateway;
            let handshake = gateway.settings.timeouts.handshake;
            if let Some(_slot) = slot(&gateway.connections, &roster, &connection.seat, &who, handshake).await
            {
                connection.serve(stream).await;
            }
        });
    }
    drop(listener);
    clients.close();
    let drain = gateway.settings.timeouts.drain;
    let end = Instant::now() + drain;
    tracing::info!(
        clients = clients.len(),
        seconds = drain.as_secs(),
        "no new clients; requests under way may finish"
    );
    if tokio::time::timeout_at(end, clients.wait()).await.is_err() {
        tracing::warn!(clients = clients.len(), "cut: still busy when timeouts.drain ended");
    }
    end
}

/// The next client; `None` on shutdown.
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

/// One of `limits.connections`, within `timeouts.handshake`: where there is none to be had, idle connections make
/// room.
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
        // It is first in the queue before another makes room.
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

    /// One that asks for something as soon as it is served, and then stays; whether it was answered.
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
            // Those who still stay are idle, and go for others.
            let more = [7, 8].map(|address| client(Arc::clone(&pool), Arc::clone(&roster), address));
            let more = more.map(tokio::spawn);
            for client in waiting {
                assert!(client.await.expect("it ends"), "{addresses:?}");
            }
            more.iter().for_each(tokio::task::JoinHandle::abort);
        }
    }
}
