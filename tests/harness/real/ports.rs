//! Ports for servers that cannot be told to pick one themselves.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

/// Below the kernel's own range for outgoing connections (32768 and up by default), which would
/// otherwise take a port between its choice here and the server's bind.
const PORTS: std::ops::Range<u16> = 15_000..32_000;
/// Ports tried before giving up.
const TRIES: usize = 1000;

static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A loopback port that nobody listens on and that this process was not given before.
///
/// # Panics
/// No free port in `TRIES` tries.
#[must_use]
pub fn free_port() -> u16 {
    let mut taken = TAKEN.lock().expect("no panic under the lock");
    let taken = taken.get_or_insert_default();
    (0..TRIES)
        .map(|_| fastrand::u16(PORTS))
        .find(|port| !taken.contains(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .inspect(|port| {
            taken.insert(*port);
        })
        .expect("a free port on loopback")
}
