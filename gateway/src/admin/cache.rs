//! The cache in the admin API.

use operations::reports::CacheReport;

use super::answer::{Answer, json};
use crate::Gateway;

/// The state of the cache, and how often it had a blob.
pub(super) fn cache(gateway: &Gateway) -> Answer {
    json(&CacheReport::new(gateway.cache.status(), &gateway.traffic.report()))
}
