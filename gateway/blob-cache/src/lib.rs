//! The disk cache: whole, proven blobs as files named by their digest.
//!
//! moka is the index and decides what goes; the files are the truth, and a restart reads them
//! again. A blob on its way in is a [`Fill`](fill::Fill): one task that streams from a zone and
//! writes, and any number of clients that read behind it.

mod admission;
mod at_hand;
mod demand;
mod entry;
mod file_body;
mod files;
mod fill;
mod follower;
mod layout;
mod lock;
mod outcome;
mod part;
mod prove;
pub mod proven;
mod reaper;
mod room;
mod store;
#[cfg(test)]
mod tests;

pub use at_hand::AtHand;
pub use file_body::FileBody;
pub use fill::{Opened, Origin, Resume};
pub use follower::Follower;
pub use lock::DirectoryLock;
pub use outcome::CacheStatus;
pub use outcome::{CachedBlob, Filled, Lookup, NotKept};
pub use part::proven_part;
pub use store::Cache;
