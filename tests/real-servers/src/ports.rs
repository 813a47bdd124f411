//! Ports for servers that cannot choose one themselves.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};

use parking_lot::Mutex;

/// The range of the ports. It is below the kernel's range for outgoing connections (32768 and higher by
/// default), which could otherwise take a port before the server binds it.
const PORTS: std::ops::Range<u16> = 15_000..32_000;
/// The number of ports that are tried.
const TRIES: usize = 1000;

static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A loopback port that nobody listens on and that this process has not used before.
///
/// # Panics
/// There is no free port in `TRIES` tries.
#[must_use]
pub fn free_port() -> u16 {
    let mut taken = TAKEN.lock();
    let taken = taken.get_or_insert_default();
    (0..TRIES)
        .map(|_| fastrand::u16(PORTS))
        .find(|port| !taken.contains(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .inspect(|port| {
            taken.insert(*port);
        })
        .expect("a free port on loopback")
}
