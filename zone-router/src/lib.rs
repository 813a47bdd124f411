//! Which zone, in which order; and copies to the others.
//!
//! A *zone* is one object store with a name. This crate knows zones and time; it knows no HTTP
//! server and no registry: what a blob's key is, and who may have it, is decided above.

mod blob;
pub mod fanout;
pub mod rank;
mod read;
mod router;
mod suspects;
mod zone;

pub use blob::Blob;
pub use fanout::FanOut;
pub use router::{Answer, NotOpened, Reading, Router};
pub use zone::Zone;
