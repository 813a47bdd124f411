//! The gateway: TLS, HTTP, the registry's ways, the disk cache, and the operators' side.
//!
//! [`App::bind`] builds the parts in order, [`App::run`] serves until told to stop. `pull` and
//! `push` are the two stories, each readable from top to bottom.

mod admin;
mod app;
mod authorize;
mod copies;
mod drains;
mod forward;
mod gateway;
mod index_manifests;
mod metrics;
mod permissions;
mod pull;
mod push;
mod request;
mod route;
mod server;
mod sweep;

pub use app::{App, Reloader, authority, rehearse};
pub use gateway::Gateway;
