//! Reads the registry's records of the blobs below one prefix.

use std::fmt;

use anyhow::{Context as _, bail};
use async_trait::async_trait;

use super::compare::{BlobRecord, BlobRecords};
use super::listing::OBJECTS_MAX;
use quay_db::{KnownBlob, QuayDatabase};

/// The records of a registry.
#[async_trait]
pub(super) trait Records: fmt::Debug + Send + Sync {
    /// Every blob whose digest begins with this byte, with the zones in which the registry records it.
    ///
    /// # Errors
    /// The records cannot be read, or there are too many blobs.
    async fn beginning_with(&self, first: u8) -> anyhow::Result<BlobRecords>;
}

#[async_trait]
impl Records for QuayDatabase {
    async fn beginning_with(&self, first: u8) -> anyhow::Result<BlobRecords> {
        let known = QuayDatabase::beginning_with(self, first, OBJECTS_MAX + 1).await;
        let known = known
            .context("the blobs cannot be read from Quay's database (--zones-alone continues without it)")?;
        if known.len() > OBJECTS_MAX {
            bail!(
                "Quay has more than {OBJECTS_MAX} blobs below {first:02x}, which is more than an audit can list"
            );
        }
        let row = |known: KnownBlob| {
            let row =
                BlobRecord { zones: known.locations.into_iter().collect(), unfinished: !known.in_manifest };
            (known.digest, row)
        };
        Ok(known.into_iter().map(row).collect())
    }
}
