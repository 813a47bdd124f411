//! Objects of Quay's that are not blobs, and that only one zone has.

use std::sync::Arc;

use anyhow::Context as _;
use backends::{Error, Meta};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use zone_router::Zone;

use super::tally::Count;
use config::{RegistryKind, Settings};

/// What Quay writes into one zone only (`config.py:USERFILES_LOCATION`, `LOG_ARCHIVE_LOCATION`,
/// `ACTION_LOG_ARCHIVE_LOCATION`), and layers from before blobs had keys by digest. Neither is copied.
const UNIQUE_PREFIXES: &[&str] = &["sharedimages/", "userfiles/", "logarchive/", "actionlogarchive/"];

/// Objects that are looked up in the other zones at the same time.
const HEADS: usize = 16;

/// The objects below one prefix that no other zone has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UniqueObjects {
    /// The prefix, such as `userfiles/`.
    pub prefix: &'static str,
    /// The number of objects and their bytes.
    #[serde(flatten)]
    pub count: Count,
}

/// The objects in `zone` that are not blobs and that none of the `others` has in the same size.
///
/// # Errors
/// A zone does not exist, cannot be used or listed, or a request to its store fails.
pub async fn unique_objects(
    settings: &Settings,
    zone: &str,
    others: &[String],
) -> anyhow::Result<Vec<UniqueObjects>> {
    if settings.registry_kind != RegistryKind::Quay {
        return Ok(Vec::new());
    }
    certificates::install_provider();
    let transport = config::transport(settings, certificates::client(&settings.ca_files)?);
    let zones = config::zones(settings, &transport)?;
    let others: Vec<_> =
        zones.iter().filter(|other| others.iter().any(|name| **name == *other.name)).collect();
    let zone = zones.iter().find(|known| *known.name == *zone).context("there is no such zone")?;
    let mut unique_objects = Vec::new();
    for prefix in UNIQUE_PREFIXES {
        let count = unique_below(zone, &others, prefix).await.with_context(|| {
            format!("the objects below {prefix} in zone {} cannot be compared", zone.name)
        })?;
        if count.objects > 0 {
            unique_objects.push(UniqueObjects { prefix, count });
        }
    }
    Ok(unique_objects)
}

async fn unique_below(zone: &Zone, others: &[&Zone], prefix: &str) -> Result<Count, Error> {
    let store = Arc::clone(&zone.store);
    let looked = store.list(prefix).map_ok(|meta| async move {
        let elsewhere = is_elsewhere(others, &meta).await?;
        Ok::<_, Error>((!elsewhere).then_some(meta.size))
    });
    looked
        .try_buffer_unordered(HEADS)
        .try_fold(Count::default(), |mut count, size| async move {
            size.into_iter().for_each(|size| count.add(size));
            Ok(count)
        })
        .await
}

async fn is_elsewhere(others: &[&Zone], meta: &Meta) -> Result<bool, Error> {
    let found = stream::iter(others).then(|other| other.store.head(&meta.key));
    found.try_any(|found| async move { found.is_some_and(|found| found.size == meta.size) }).await
}

#[cfg(test)]
mod tests {
    use backends::Key;
    use backends::memory::MemoryStore;

    use super::*;

    fn zone(name: &str, keys: &[(&'static str, &'static [u8])]) -> Zone {
        let store = MemoryStore::new();
        keys.iter().for_each(|(key, bytes)| store.insert(Key::new(*key), *bytes));
        Zone::new(name, Arc::new(store))
    }

    #[tokio::test]
    async fn only_objects_that_no_other_zone_has_are_unique() {
        let here = zone("a", &[("userfiles/1", b"one"), ("userfiles/2", b"two"), ("userfiles/3", b"three")]);
        let (b, c) = (zone("b", &[("userfiles/1", b"one")]), zone("c", &[("userfiles/2", b"shorter")]));
        let count = unique_below(&here, &[&b, &c], "userfiles/").await.expect("listed");
        assert_eq!(count, Count { objects: 2, bytes: 8 });
        assert_eq!(unique_below(&here, &[&b], "logarchive/").await.expect("listed"), Count::default());
        let dead = Zone::unusable("d", "why");
        assert!(unique_below(&here, &[&dead], "userfiles/").await.is_err(), "the zone cannot be listed");
    }
}
