//! What all HTTP drivers share: TLS, time bounds, and a client of its own per store.

use std::sync::Arc;
use std::time::Duration;

/// Time bounds of one store. None covers a whole body: a large blob on a slow line is no fault.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// To a TCP connection and its TLS handshake.
    pub connect: Duration,
    /// From the request to the answer's headers.
    pub first_byte: Duration,
    /// Between two pieces of a body.
    pub stall: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            first_byte: Duration::from_secs(5),
            stall: Duration::from_secs(10),
        }
    }
}

/// What a driver needs to speak HTTP: one TLS policy for all of them, and the time bounds.
#[derive(Debug, Clone)]
pub struct Transport {
    /// Roots and protocol versions; the caller's one TLS policy.
    pub tls: Arc<rustls::ClientConfig>,
    /// Time bounds.
    pub timeouts: Timeouts,
}
