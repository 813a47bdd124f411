//! What Quay keeps beside blobs, and in one zone alone.

use std::sync::Arc;

use anyhow::Context as _;
use backends::{Error, Meta};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use zone_router::Zone;

use super::tally::Count;
use config::{RegistryKind, Settings};

/// What Quay writes into one zone and reads there (`config.py:USERFILES_LOCATION`, `LOG_ARCHIVE_LOCATION`,
/// `ACTION_LOG_ARCHIVE_LOCATION`), or has from before blobs had names by content. No copies are made of it.
const BESIDE: &[&str] = &["sharedimages/", "userfiles/", "logarchive/", "actionlogarchive/"];

/// Objects that are looked for in the other zones at once.
const HEADS: usize = 16;

/// Objects below one of these prefixes that no other zone has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alone {
    /// Such as `userfiles/`.
    pub prefix: &'static str,
    /// How many.
    pub count: Count,
}

/// What lies beside blobs in this zone and, in the same size, in none of the others.
///
/// # Errors
/// A zone cannot be used, listed or asked.
pub async fn alone(settings: &Settings, zone: &str, others: &[String]) -> anyhow::Result<Vec<Alone>> {
    if settings.registry_kind != RegistryKind::Quay {
        return Ok(Vec::new());
    }
    certificates::install_provider();
    let transport = config::transport(settings, certificates::client(&settings.ca_files)?);
    let zones = config::zones(settings, &transport)?;
    let others: Vec<_> =
        zones.iter().filter(|other| others.iter().any(|name| **name == *other.name)).collect();
    let zone = zones.iter().find(|known| *known.name == *zone).context("there is no such zone")?;
    let mut alone = Vec::new();
    for prefix in BESIDE {
        let count = only_here(zone, &others, prefix)
            .await
            .with_context(|| format!("what lies below {prefix} in zone {} is not known", zone.name))?;
        if count.objects > 0 {
            alone.push(Alone { prefix, count });
        }
    }
    Ok(alone)
}

async fn only_here(zone: &Zone, others: &[&Zone], prefix: &str) -> Result<Count, Error> {
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
    async fn only_what_no_other_zone_has_is_here_alone() {
        let here = zone("a", &[("userfiles/1", b"one"), ("userfiles/2", b"two"), ("userfiles/3", b"three")]);
        let (b, c) = (zone("b", &[("userfiles/1", b"one")]), zone("c", &[("userfiles/2", b"shorter")]));
        let count = only_here(&here, &[&b, &c], "userfiles/").await.expect("listed");
        assert_eq!(count, Count { objects: 2, bytes: 8 });
        assert_eq!(only_here(&here, &[&b], "logarchive/").await.expect("listed"), Count::default());
        let dead = Zone::unusable("d", "why");
        assert!(only_here(&here, &[&dead], "userfiles/").await.is_err(), "nothing is known of it");
    }
}
