//! Real object stores: the conformance suite of `backends`, interoperation with other clients, and faults
//! that need a whole server. There are one or two tests per server, because starting a server takes most of
//! the time.

mod azurite;
mod checks;
mod gated;
mod google;
mod interop;
mod radosgw;
mod radosgw_swift;
mod s3;
mod s3api;
mod seaweedfs;
mod server_side_copy;
mod swift;
mod swift_keystone;
mod swift_tempauth;
mod transfers;

use std::sync::Arc;

use anyhow::Result;
use backends::{Store, StoreConfig, Timeouts};
use real_servers::plain_transport;
use serde_json::Value;

/// Builds the store of an entry in Quay's configuration.
fn build(entry: Value, timeouts: Timeouts) -> Result<Arc<dyn Store>> {
    let entry: StoreConfig = serde_json::from_value(entry)?;
    Ok(entry.build(&plain_transport(timeouts))?)
}
