//! The gateway: TLS, HTTP, the registry's ways, the disk cache, and the operators' side.
//!
//! [`App::bind`] builds the parts in order, [`App::run`] serves until told to stop. `pull` and
//! `push` are the two stories, each readable from top to bottom.

mod admin;
mod app;
pub mod audit;
mod auth;
pub mod bench;
mod cache;
pub mod check;
pub mod config;
mod csv;
mod descriptors;
mod follow;
mod forward;
mod gateway;
pub mod http;
mod metrics;
mod proven;
mod pull;
mod push;
pub mod queue;
mod read_along;
pub mod registry;
mod reload;
mod repairs;
mod route;
mod running;
mod server;
mod sticky;
pub mod tls;
mod upstream;
pub mod zones;

pub use app::{App, rehearse};
pub use cache::{Cache, CacheStatus, DirectoryLock};
pub use gateway::Gateway;
pub use reload::Reloader;
pub use running::Running;
