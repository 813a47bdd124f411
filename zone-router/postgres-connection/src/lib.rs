#![doc = include_str!("../README.md")]

mod address;
#[cfg(feature = "driver")]
mod driver;
mod error;
#[cfg(not(feature = "driver"))]
mod no_driver;
mod purpose;

pub use address::{Address, InvalidUrl, Mode};
#[cfg(feature = "driver")]
pub use driver::{Client, Database, Error, Row, SharedConnection, ToSql, Type};
pub use error::PostgresError;
#[cfg(not(feature = "driver"))]
pub use no_driver::{Client, Database, Error, Row, SharedConnection, ToSql, Type};
pub use purpose::{Parameter, Purpose};
