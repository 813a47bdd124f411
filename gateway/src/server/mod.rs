//! Accepting clients: TLS, HTTP/1.1 and HTTP/2, with a bound on everything.

mod activity;
mod bounded_io;
mod connection;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::bounded_io::BoundedIo;
use self::connection::{Client, Protocols};
use crate::Gateway;

/// After a failed accept, such as for want of file descriptors: long enough for some to be
/// closed, short enough that clients do not notice.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
    let connections = Arc::new(Semaphore::new(limits.connections));
    let clients = TaskTracker::new();
    while let Some((permit, accepted)) = next(&listener, &connections, &shutdown).await {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a client");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let client = Client {
            gateway: Arc::clone(&gateway),
            tls: tls.clone(),
            protocols: Arc::clone(&protocols),
            peer,
            shutdown: shutdown.clone(),
        };
        clients.spawn(async move {
            client.serve(stream).await;
            drop(permit);
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

type Accepted = (OwnedSemaphorePermit, std::io::Result<(TcpStream, SocketAddr)>);

/// The next client, once there is room for it; `None` on shutdown.
async fn next(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
    shutdown: &CancellationToken,
) -> Option<Accepted> {
    tokio::select! {
        biased;
        () = shutdown.cancelled() => None,
        accepted = async {
            let permit = Arc::clone(connections).acquire_owned().await.ok()?;
            Some((permit, listener.accept().await))
        } => accepted,
    }
}
