//! Accepting clients: TLS, HTTP/1.1 and HTTP/2, with a bound on everything.

mod activity;
mod bounded_io;
mod connection;
mod cost;
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
pub(crate) use self::roster::Roster;
use self::roster::Seat;
use self::send_buffer::SendBuffer;
use crate::Gateway;
use crate::client::is_trusted;
use crate::memory::{CONNECTION, Use};
use crate::share::{Identity, Slot};

/// After a failed accept, such as for want of file descriptors: long enough for some to be
/// closed, short enough that clients do not notice.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Clients that wait for one of `limits.connections`.
pub(crate) const WAITING_MAX: usize = 256;

/// So small a part of all connections makes room at once, where there is none: looking for them is not free.
const SHED_PART: usize = 256;

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
        // A proxy speaks for many clients.
        let address = (!proxy).then(|| peer.ip());
        let memory = &gateway.memory;
        let (Some(held), Some(larger)) =
            (memory.reserve(Use::Connections, address, CONNECTION), memory.reserve(Use::Answers, address, 0))
        else {
            // Counted, and logged now and then. The client sees its connection closed.
            continue;
        };
        let connection = Connection {
            gateway: Arc::clone(&gateway),
            tls: tls.clone(),
            protocols: Arc::clone(&protocols),
            peer,
            seat: roster.enter(who),
            shutdown: shutdown.clone(),
            buffer: SendBuffer::new(larger),
        };
        let roster = Arc::clone(&roster);
        clients.spawn(async move {
            if let Some(_slot) = slot(&connection.gateway, &roster, &connection.seat, &who).await {
                connection.serve(stream).await;
            }
            drop(held);
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
async fn slot(gateway: &Gateway, roster: &Roster, seat: &Seat, who: &Identity) -> Option<Slot> {
    let mut slot = std::pin::pin!(gateway.connections.take(who, gateway.settings.timeouts.handshake));
    loop {
        // It is first in the queue before another makes room.
        if let Poll::Ready(taken) = futures_util::poll!(slot.as_mut()) {
            return taken.ok();
        }
        roster.shed(seat, gateway.settings.limits.connections.div_ceil(SHED_PART));
        if let Ok(taken) = tokio::time::timeout(SHED_PAUSE, slot.as_mut()).await {
            return taken.ok();
        }
    }
}
