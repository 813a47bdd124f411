//! TCP keep-alive: silent connections stay known to what lies between, and dead peers are noticed.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// A connection is asked whether it lives after so much silence. Load balancers forget flows after 240 s
/// (Azure) to 350 s (AWS), and home routers after as little as 60 s.
const IDLE: Duration = Duration::from_secs(30);

/// Between two such questions.
const INTERVAL: Duration = Duration::from_secs(15);

/// Unanswered questions after which the peer counts as dead.
const RETRIES: u32 = 4;

/// Has the kernel keep a connection alive: it asks the peer after 30 s of silence, and breaks the connection
/// after four questions without an answer.
///
/// # Errors
/// The kernel refuses.
pub fn keepalive(stream: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new().with_time(IDLE).with_interval(INTERVAL).with_retries(RETRIES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
