//! Decisions about reads that the gateway makes by itself: how often it asks the registry, and that nobody reads what
//! the registry refuses.

mod away;
mod calls;
mod distribution;
mod keys;
mod links;
mod matrix;
