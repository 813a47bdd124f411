//! Loopback ports that stay reserved while nobody listens.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// The length of a listener's queue.
const BACKLOG: u32 = 1024;

/// A free loopback port, reserved for the lifetime of this value.
///
/// A bound socket that does not listen reserves the port: connections to it are refused, and the kernel gives
/// the port to nobody else. A server that binds the port by number with `SO_REUSEADDR`, as tokio and std do,
/// can listen on it any number of times.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    _held: TcpSocket,
}

impl Port {
    /// Reserves a free port of 127.0.0.1.
    ///
    /// # Errors
    /// No socket can be opened.
    pub fn free() -> io::Result<Self> {
        let held = TcpSocket::new_v4()?;
        held.set_reuseaddr(true)?;
        held.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        Ok(Self { address: held.local_addr()?, _held: held })
    }

    /// The address: 127.0.0.1 and the port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens on the port. After the listener is dropped, connections are refused again.
    ///
    /// # Errors
    /// Another listener uses the port.
    pub fn listen(&self) -> io::Result<TcpListener> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(self.address)?;
        socket.listen(BACKLOG)
    }
}

/// An address at which connections are neither accepted nor refused, as behind a firewall that drops packets.
/// The queue of the listener is full, so the kernel drops new connections.
#[derive(Debug)]
pub struct BlackHole {
    _listener: TcpListener,
    _waiting: TcpStream,
}

impl BlackHole {
    /// Creates one at this loopback address.
    ///
    /// # Errors
    /// Another listener uses the address.
    pub async fn at(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(0)?;
        let waiting = TcpStream::connect(address).await?;
        Ok(Self { _listener: listener, _waiting: waiting })
    }
}
