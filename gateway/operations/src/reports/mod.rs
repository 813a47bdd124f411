//! Small answers of the admin API as JSON, which it sends and the command line reads.

mod cache;
mod cache_blobs;
mod cache_contents;
mod certificates;
mod traffic;

pub use self::cache::CacheReport;
pub use self::cache_blobs::{CacheBlobReport, CacheBlobsReport};
pub use self::cache_contents::{CachePage, CachedReport, Evict, Evictions, Imported, VerifiedReport, Verify};
pub use self::certificates::{CertificateReport, CertificatesReport};
pub use self::traffic::{HIT, SourceReport, TrafficReport};
