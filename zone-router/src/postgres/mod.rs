//! Speaking to PostgreSQL: which database, and a connection that is made again whenever it breaks.
//! What is kept there is the business of who asks.

mod connect;
mod database;
mod error;
mod line;

pub use database::{Address, Database, Mode};
pub use error::PostgresError;
pub use line::{Line, Parameter, Purpose};
pub use tokio_postgres::types::Type;
pub use tokio_postgres::{Client, Row};
