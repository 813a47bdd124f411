//! Loopback ports that stay ours while nobody listens.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections waiting to be accepted.
const BACKLOG: u32 = 1024;

/// A free loopback port, held for as long as this lives.
///
/// A bound socket that does not listen keeps the port: connections to it are refused, the kernel
/// gives it to nobody else, and whoever binds it by number with `SO_REUSEADDR` (as tokio and std
/// do) can listen on it, any number of times.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    _held: TcpSocket,
}

impl Port {
    /// A free port of 127.0.0.1.
    ///
    /// # Errors
    /// Where no socket can be had.
    pub fn free() -> io::Result<Self> {
        let held = TcpSocket::new_v4()?;
        held.set_reuseaddr(true)?;
        held.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        Ok(Self { address: held.local_addr()?, _held: held })
    }

    /// 127.0.0.1 and the port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens on it. Dropping the listener refuses connections again.
    ///
    /// # Errors
    /// Where another listener is already there.
    pub fn listen(&self) -> io::Result<TcpListener> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(self.address)?;
        socket.listen(BACKLOG)
    }
}

/// An address at which connections are neither taken nor refused, as where a firewall drops packets: the
/// queue of a listener is full, so that the kernel drops what would begin another.
#[derive(Debug)]
pub struct BlackHole {
    _listener: TcpListener,
    _waiting: TcpStream,
}

impl BlackHole {
    /// One at this address of the loopback.
    ///
    /// # Errors
    /// Where another listener is already there.
    pub async fn at(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(0)?;
        let waiting = TcpStream::connect(address).await?;
        Ok(Self { _listener: listener, _waiting: waiting })
    }
}
