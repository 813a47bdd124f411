//! Pulls through the whole gateway: cache, zones, ranges, and the registry fallback.

mod answers;
mod cache;
mod fallback;
mod fixture;
mod ranges;
