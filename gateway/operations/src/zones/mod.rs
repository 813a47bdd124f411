//! What operators are shown of the zones.

mod report;
mod table;

pub use self::report::{ClassReport, CountsReport, Report, ZoneReport, state};
pub use self::table::table;
