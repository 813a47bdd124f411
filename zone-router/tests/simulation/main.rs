//! The router in thousands of worlds: zones as seeded scripts of delay, loss, brown-out, partition,
//! flapping and lies, on a paused clock, through the code that runs in earnest.
//!
//! A seed that breaks a law prints the command that replays it.

mod history;
mod laws;
mod script;
mod seeds;
mod store;
mod trace;
mod world;
