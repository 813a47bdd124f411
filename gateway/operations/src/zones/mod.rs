//! The zones for operators: the report of the admin API, and its table.

mod report;
mod table;

pub use self::report::{ClassReport, CountsReport, DrainReport, ZoneReport, ZonesReport, state};
pub use self::table::table;
pub(crate) use self::table::{age, quantiles, state_cell};
