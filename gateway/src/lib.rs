#![doc = include_str!("../README.md")]

mod access_log;
mod admin;
mod app;
mod authorize;
mod copies;
mod drains;
mod forward;
mod gateway;
mod index_manifests;
mod links;
mod log_queue;
mod manifest_answer;
mod metrics;
mod offline;
mod otlp;
mod permissions;
mod pins;
mod pull;
mod push;
mod read_along;
mod request;
mod route;
mod server;
mod shared_uploads;
mod spans;
mod sweep;
mod traffic;

pub use app::{App, Reloaded, Reloader, authority, rehearse};
pub use gateway::Gateway;
pub use log_queue::{LastLines, LogQueue};
pub use otlp::Traces;
