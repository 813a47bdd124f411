//! How to speak to one object store.
//!
//! One [`Store`] per protocol, each folder of the same shape (`config`, `request`, `sign`, `mod`),
//! so that who has read one has read all. This crate knows no zones and no registry: a store has a
//! root, keys below it, and errors sorted by what they mean to whoever chooses between stores.

mod answer;
pub mod azure;
mod backoff;
mod clock;
pub mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
mod copy_source;
mod dial;
mod digest;
mod error;
pub mod faulty;
pub mod fs;
mod headers;
mod keepalive;
mod key;
pub mod memory;
mod nearest;
mod object;
mod pages;
mod params;
mod parts;
mod persist;
mod proof;
mod reason;
mod resolver;
pub mod s3;
mod secret;
mod source;
mod store;
pub mod swift;
mod timestamp;
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
pub use error::{Error, Kind, Result};
pub use keepalive::keepalive;
pub use key::Key;
pub use nearest::nearest;
pub use object::{ByteStream, Meta, Object};
pub use proof::Proof;
pub use reason::{MAX_REASON, reason};
pub use resolver::Resolver;
pub use secret::Secret;
pub use source::{Open, Source};
pub use store::{MARKER, Store};
pub use transport::{Timeouts, Transport};
pub use unusable::UnusableStore;
pub use user_agent::{PROBES, as_probe};
