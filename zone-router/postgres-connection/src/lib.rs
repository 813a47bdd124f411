#![doc = include_str!("../README.md")]

mod connect;
mod database;
mod error;
mod line;

pub use database::{Address, Database, InvalidUrl, Mode};
pub use error::PostgresError;
pub use line::{Line, Parameter, Purpose};
pub use tokio_postgres::types::Type;
pub use tokio_postgres::{Client, Error, Row};
