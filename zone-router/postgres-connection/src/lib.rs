#![doc = include_str!("../README.md")]

mod connect;
mod database;
mod error;
mod shared_connection;

pub use database::{Address, Database, InvalidUrl, Mode};
pub use error::PostgresError;
pub use shared_connection::{Parameter, Purpose, SharedConnection};
pub use tokio_postgres::types::Type;
pub use tokio_postgres::{Client, Error, Row};
