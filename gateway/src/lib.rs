//! The gateway: TLS, HTTP, the registry's ways, the disk cache, and the operators' side.
//!
//! [`App::bind`] builds the parts in order, [`App::run`] serves until told to stop. `pull` and
//! `push` are the two stories, each readable from top to bottom.

mod access;
mod admin;
mod app;
mod auth;
mod authority;
mod children;
mod client;
mod descriptors;
mod drains;
mod follow;
mod forgotten;
mod forward;
mod gateway;
mod metrics;
mod pull;
mod push;
mod queue_sampler;
mod read_along;
mod reload;
mod repairs;
mod request_body;
mod route;
mod server;
mod sizes;
mod spool;
mod sweep;

pub use app::{App, authority, rehearse};
pub use gateway::Gateway;
pub use reload::Reloader;
