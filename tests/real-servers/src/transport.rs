//! The transport of drivers under test to servers on loopback.

use std::sync::Arc;
use std::time::Duration;

use backends::{Timeouts, Transport};

/// Timeouts for tests whose subject is not a timeout. A real store on a busy machine may take many seconds for an
/// answer.
pub const PATIENT: Timeouts = Timeouts {
    connect: Duration::from_secs(60),
    first_byte: Duration::from_secs(60),
    stall: Duration::from_secs(60),
};

/// A transport for servers on loopback: plain HTTP, without trusted roots.
///
/// # Panics
/// The TLS provider lacks its own default versions.
#[must_use]
pub fn plain_transport(timeouts: Timeouts) -> Transport {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Transport::new(Arc::new(tls), timeouts)
}
