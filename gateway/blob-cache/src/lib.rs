#![doc = include_str!("../README.md")]

mod admission;
mod bypass;
mod cache;
mod cached_blob;
mod census;
mod cleanup;
mod contents;
mod copy_source;
mod demand;
mod directory_lock;
mod disk;
mod entry;
mod file_body;
mod fill;
mod follower;
mod index;
mod layout;
mod lookup;
mod part;
mod recheck;
mod reservation;
mod space;
#[cfg(test)]
mod tests;
mod unremoved;
mod writer;

pub use bypass::{Bypass, BypassReason};
pub use cache::{Cache, CacheStatus};
pub use cached_blob::CachedBlob;
pub use census::{CachedBlobFacts, Census};
pub use contents::{Evicted, ListedBlob, Verdict};
pub use copy_source::CopySource;
pub use directory_lock::DirectoryLock;
pub use disk::Disk;
pub use file_body::FileBody;
pub use follower::{Follower, Interrupted, Join, NoFill, Remainder};
pub use lookup::Lookup;
pub use part::part_of;
pub use writer::{NotKept, Writer};
