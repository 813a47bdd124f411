//! Which zone, in which order.
//!
//! A *zone* is one object store with a name. This crate knows zones and time; it knows no HTTP
//! server and no registry: what a blob's key is, and who may have it, is decided above.

mod blob;
mod board;
mod doubts;
mod failing;
pub mod health;
mod hedge;
mod inquiry;
mod lag;
pub mod latency;
pub mod leader;
mod observation;
mod open;
mod overdue;
mod pace;
mod pieces;
mod policy;
mod probe;
pub mod rank;
mod read;
mod recents;
mod router;
mod settings;
mod signs;
mod size_class;
pub mod snapshot;
mod suspects;
mod tries;
mod unread;
mod unsized_body;
mod wait;
mod watch;
mod zone;

pub use blob::Blob;
pub use policy::Policy;
pub use router::{Answer, NotOpened, Reading, Router};
pub use settings::Settings;
pub use size_class::SizeClass;
pub use snapshot::{Snapshot, ZoneView};
pub use zone::Zone;
