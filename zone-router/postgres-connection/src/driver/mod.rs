//! The connection over the driver `tokio-postgres`.

mod connect;
mod database;
mod failures;
mod shared_connection;

pub use database::Database;
pub use shared_connection::SharedConnection;
pub use tokio_postgres::types::{ToSql, Type};
pub use tokio_postgres::{Client, Error, Row};
