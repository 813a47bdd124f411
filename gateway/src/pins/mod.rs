//! Pinned images: the gateway keeps them in its cache, on a schedule, and does not evict them.
//!
//! [`keep_pins`] reads manifests with the service account and brings blobs into the cache. [`Pins`] remembers which blobs
//! belong to which image. [`schedule`] and [`pace`] say when, and how fast.

mod blob;
mod keep;
mod media_type;
mod pace;
mod schedule;
mod sets;

pub(crate) use self::keep::keep_pins;
pub(crate) use self::sets::{Pins, PinsStatus};
