#![doc = include_str!("../README.md")]

pub mod azure;
mod backoff;
pub mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
mod copy_source;
mod dial;
mod digest;
pub mod faulty;
pub mod fs;
mod headers;
mod keepalive;
mod key;
pub mod memory;
mod metadata;
mod nearest;
mod object;
mod pages;
mod params;
mod parts;
mod pem;
mod proof;
pub mod proxy;
mod reason;
mod request_id;
mod resolver;
pub mod s3;
mod source;
mod store;
pub mod swift;
mod transport;
mod unusable;
mod upload;
mod urls;
mod user_agent;

pub use backoff::Backoff;
pub use config::StoreConfig;
pub use copy_source::CopySource;
pub use dial::{dial, dial_any, reachable, shun};
pub use digest::{Digest, DigestError, Hasher};
pub use keepalive::keepalive;
pub use key::Key;
pub use metadata::{is_metadata_address, is_metadata_name};
pub use nearest::nearest;
pub use object::{ByteStream, Meta, Object};
pub use pem::PemError;
pub use proof::Proof;
pub use reason::{MAX_REASON, reason};
pub use request_id::{
    REQUEST_ID_MAX, RequestId, TRACE_PARENT, X_REQUEST_ID, in_current_request, name_request,
};
pub use resolver::Resolver;
pub use source::{Open, Source};
pub use store::{MARKER, Store};
pub use store_answers::{Error, Kind, Result, Secret};
pub use transport::{Timeouts, Transport};
pub use unusable::UnusableStore;
pub use user_agent::{PROBES, as_probe};

use store_answers::{answer, clock, error, persist, timestamp};
