//! The gateway: TLS, HTTP, the registry's ways, the disk cache, and the operators' side.
//!
//! [`App::bind`] builds the parts in order, [`App::run`] serves until told to stop. `pull` and
//! `push` are the two stories, each readable from top to bottom.

mod access;
mod account;
mod admin;
mod app;
pub mod audit;
mod auth;
mod authority;
pub mod bench;
mod cache;
pub mod check;
mod children;
mod client;
pub mod config;
mod csv;
mod descriptors;
mod follow;
mod forgotten;
mod forward;
mod gateway;
pub mod http;
mod memory;
mod metrics;
mod proven;
mod pull;
mod push;
mod quay_database;
pub mod queue;
mod read_along;
mod redis;
pub mod registry;
mod reload;
mod repairs;
mod request_body;
mod route;
mod running;
mod server;
mod share;
mod sizes;
mod spool;
mod sticky;
mod sweep;
pub mod tls;
mod upstream;
pub mod zones;

pub use app::{App, authority, rehearse};
pub use cache::{Cache, CacheStatus, DirectoryLock};
pub use gateway::Gateway;
pub use reload::Reloader;
pub use running::Running;
pub use sweep::SweepReport;
