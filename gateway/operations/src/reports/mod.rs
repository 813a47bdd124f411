//! Small answers of the admin API as JSON, which it sends and the command line reads.

mod cache;
mod cache_blobs;
mod certificates;
mod traffic;

pub use self::cache::CacheReport;
pub use self::cache_blobs::{CacheBlobReport, CacheBlobsReport};
pub use self::certificates::{CertificateReport, CertificatesReport};
pub use self::traffic::{HIT, SourceReport, TrafficReport};
