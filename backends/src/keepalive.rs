//! TCP keep-alive: idle connections stay open in load balancers, and dead peers are detected.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// The idle time after which the first probe is sent. Load balancers drop idle flows after 240 s (Azure) to
/// 350 s (AWS), and home routers after as little as 60 s.
const IDLE: Duration = Duration::from_secs(30);

/// The time between two probes.
const INTERVAL: Duration = Duration::from_secs(15);

/// The number of unanswered probes after which the connection counts as dead.
const RETRIES: u32 = 4;

/// Turns TCP keep-alive on. The kernel sends the first probe after 30 s of silence. It breaks the connection
/// after four probes without an answer.
///
/// # Errors
/// The kernel refuses one of the socket options.
pub fn keepalive(stream: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new().with_time(IDLE).with_interval(INTERVAL).with_retries(RETRIES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
