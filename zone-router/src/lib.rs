//! Which zone, in which order; and copies to the others.
//!
//! A *zone* is one object store with a name. This crate knows zones and time; it knows no HTTP
//! server and no registry: what a blob's key is, and who may have it, is decided above.

mod blob;
pub mod fanout;
mod zone;

pub use blob::Blob;
pub use zone::Zone;
