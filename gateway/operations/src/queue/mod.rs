//! The queue of copies for operators: what the admin side answers and takes, and what commands make of it.

mod feed;
mod jobs;
mod plan;
mod report;
mod retirement;
mod sample;
mod sweep_report;
mod table;
mod told;
mod wire;

pub use feed::{Fed, Feed};
pub use jobs::{jobs_table, why};
pub use plan::Plan;
pub use report::{JobReport, QueueReport, ZoneQueue};
pub use retirement::Retirement;
pub use sample::{Rate, Sample};
pub use sweep_report::SweepReport;
pub use table::{sweep_text, table};
pub use told::{Outcome, healed, healed_json, no_target};
pub use wire::{Add, AddJob, Added, BACKLOG_MAX, Changed, JOBS_MAX, Park, Retry};
