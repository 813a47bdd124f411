#![doc = include_str!("../README.md")]

mod admin;
mod app;
mod authorize;
mod copies;
mod drains;
mod forward;
mod gateway;
mod index_manifests;
mod log_queue;
mod metrics;
mod permissions;
mod pull;
mod push;
mod request;
mod route;
mod server;
mod shared_uploads;
mod spans;
mod sweep;

pub use app::{App, Reloader, authority, rehearse};
pub use gateway::Gateway;
pub use log_queue::{LastLines, LogQueue};
