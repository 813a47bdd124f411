#![doc = include_str!("../README.md")]

pub mod body;
pub mod certs;
pub mod client;
pub mod fault;
pub mod frames;
pub mod gateway;
pub mod gzip;
mod http_client;
pub mod image;
pub mod port;
pub mod proxy;
pub mod quay;
pub mod raw;
pub mod record;
pub mod server;
pub mod site;
pub mod zone;

pub use http_client::http_client;
