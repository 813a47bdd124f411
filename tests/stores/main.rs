//! Real object stores: the conformance suite of `backends`, what other clients wrote and read, and
//! faults that only a whole server shows. One or two tests a server, for its start takes the time.

mod checks;
mod gated;
mod google;
mod interop;
mod radosgw;
mod s3;
mod s3api;
mod seaweedfs;
mod transfers;

use std::sync::Arc;

use anyhow::Result;
use backends::{Store, StoreConfig, Timeouts, Transport};
use serde_json::Value;

/// The store that Quay's file describes.
fn build(entry: Value, timeouts: Timeouts) -> Result<Arc<dyn Store>> {
    let entry: StoreConfig = serde_json::from_value(entry)?;
    Ok(entry.build(&transport(timeouts)?)?)
}

/// Plain HTTP: nobody is trusted.
fn transport(timeouts: Timeouts) -> Result<Transport> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Ok(Transport::new(Arc::new(tls), timeouts))
}
