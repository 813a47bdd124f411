//! What the registry records of the blobs below one prefix.

use std::fmt;

use anyhow::{Context as _, bail};
use async_trait::async_trait;

use super::compare::{Row, Rows};
use super::listing::OBJECTS_MAX;
use quay_db::{KnownBlob, QuayDatabase};

/// A registry's records.
#[async_trait]
pub(super) trait Records: fmt::Debug + Send + Sync {
    /// Every blob whose digest begins with this byte, each with the zones that the registry believes to
    /// have it.
    ///
    /// # Errors
    /// It cannot be asked, or did not say.
    async fn beginning_with(&self, first: u8) -> anyhow::Result<Rows>;
}

#[async_trait]
impl Records for QuayDatabase {
    async fn beginning_with(&self, first: u8) -> anyhow::Result<Rows> {
        let known = QuayDatabase::beginning_with(self, first, OBJECTS_MAX + 1).await;
        let known = known.context(
            "Quay's database does not say which blobs there are (--zones-alone goes on without it)",
        )?;
        if known.len() > OBJECTS_MAX {
            bail!(
                "Quay knows more than {OBJECTS_MAX} blobs below {first:02x}: no inventory of so many is made"
            );
        }
        let row = |known: KnownBlob| {
            let row = Row { zones: known.locations.into_iter().collect(), unfinished: !known.in_manifest };
            (known.digest, row)
        };
        Ok(known.into_iter().map(row).collect())
    }
}
