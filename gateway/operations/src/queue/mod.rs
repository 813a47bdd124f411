//! The queue of copies for operators: the messages of the admin API, and what commands do with them.

mod feed;
mod jobs;
mod plan;
mod report;
mod results;
mod retirement;
mod sample;
mod sweep_report;
mod table;
mod wire;

pub use feed::{CopyFeeder, FeedResult};
pub use jobs::{jobs_table, why};
pub use plan::CopyPlan;
pub use report::{JobReport, QueueReport, ZoneQueue};
pub use results::{BackfillReport, heal_json, heal_text, no_target};
pub use retirement::{Retirement, RetirementExample, RetirementReport};
pub use sample::{Rate, Sample};
pub use sweep_report::SweepReport;
pub use table::{sweep_text, table};
pub use wire::{Add, AddJob, Added, BACKLOG_MAX, Changed, JOBS_MAX, Park, Retry};
