#![doc = include_str!("../README.md")]

pub mod admin_client;
mod admin_tls;
pub mod audit;
pub mod bench;
pub mod certs;
pub mod check;
pub mod clients;
pub mod config_diff;
pub mod contents;
pub mod csv;
mod gateway_client;
pub mod images;
pub mod oci_layout;
pub mod queue;
pub mod records;
pub mod reports;
pub mod support_bundle;
mod table;
pub mod top;
pub mod warm;
pub mod zones;

pub use admin_tls::AdminTls;
pub use table::may_colour;
