//! Runs the router in thousands of worlds: zones that follow seeded scripts of delay, loss, brown-out, partition,
//! flapping and wrong bytes, on a paused clock. The code is the one that runs in production.
//!
//! If a seed breaks a law, the test prints the command that replays it.

mod history;
mod laws;
mod script;
mod seeds;
mod store;
mod trace;
mod world;
