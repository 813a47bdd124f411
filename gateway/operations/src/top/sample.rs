//! One sample of a running gateway.

use std::time::Duration;

use tokio::time::Instant;

use crate::admin_client::AdminClient;
use crate::reports::{CacheReport, CertificatesReport, TrafficReport};
use crate::zones::ZonesReport;

/// What a gateway said at one moment.
#[derive(Debug, Clone)]
pub struct TopSample {
    /// The time since any earlier moment that all samples share.
    pub at: Duration,
    /// The zones.
    pub zones: ZonesReport,
    /// What clients got.
    pub traffic: TrafficReport,
    /// The cache.
    pub cache: CacheReport,
    /// The certificates.
    pub certificates: CertificatesReport,
}

impl TopSample {
    /// Asks a gateway. `since` is the moment that all samples share.
    ///
    /// # Errors
    /// The gateway cannot be reached, refuses, or sends an unexpected answer.
    pub async fn take(admin_client: &AdminClient, since: Instant) -> anyhow::Result<Self> {
        // The counters are read at one moment; the zones may have to wait for the journal.
        let (traffic, cache) = tokio::try_join!(admin_client.traffic(), admin_client.cache())?;
        let at = since.elapsed();
        let (zones, certificates) = tokio::try_join!(admin_client.zones(), admin_client.certificates())?;
        Ok(Self { at, zones, traffic, cache, certificates })
    }
}
