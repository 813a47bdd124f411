//! Small answers of the admin API as JSON, which it sends and the command line reads.

mod cache;
mod certificates;
mod traffic;

pub use self::cache::CacheReport;
pub use self::certificates::{CertificateReport, CertificatesReport};
pub use self::traffic::{HIT, SourceReport, TrafficReport};
