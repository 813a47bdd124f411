//! Copies by a model of Quay's replication worker (`workers/storagereplication.py`).

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use backends::s3::{S3Config, S3Store, Style};
use backends::{Key, Secret, Source, Store, Timeouts};
use harness::zone::{Location, Zone};
use real_servers::plain_transport;

use crate::fixture::{Fixture, Item};

/// The worker polls at this interval. On average a push waits for half of it.
const POLL: Duration = Duration::from_secs(10);

/// The part size of its uploads, in bytes (`minimum_chunk_size_mb`).
const PART: u64 = 5 << 20;

/// Copies everything into every target, one blob and one zone at a time.
pub(crate) async fn replicate(fixture: &Fixture) -> Result<()> {
    let source = store(&fixture.site.zones[0])?;
    let targets: Vec<_> = fixture.targets().iter().map(store).collect::<Result<_>>()?;
    tokio::time::sleep(POLL / 2).await;
    for item in &fixture.items {
        blob(item, &source, &targets).await?;
    }
    Ok(())
}

/// `replicate_storage`: checks that the blob is at the source. Then, for each location, copies it and checks
/// the copy.
async fn blob(item: &Item, source: &Arc<dyn Store>, targets: &[Arc<dyn Store>]) -> Result<()> {
    let key = key(item);
    source.head(&key).await?.context("the blob is missing at the source")?;
    for target in targets {
        let object = Source::object(Arc::clone(source), key.clone(), item.size, item.digest);
        target.put(&key, &object).await?;
        target.head(&key).await?.context("the copy is missing")?;
    }
    Ok(())
}

fn key(item: &Item) -> Key {
    let hex = item.digest.hex();
    Key::new(format!("sha256/{}/{hex}", &hex[..2]))
}

/// A driver that writes everything with a multipart upload, as Quay's does.
fn store(zone: &Zone) -> Result<Arc<dyn Store>> {
    let location: &Location = zone;
    let config = S3Config {
        endpoint: format!("http://{}", location.address).parse()?,
        style: Style::Path,
        bucket: location.bucket.clone(),
        root: location.storage_path.trim_start_matches('/').to_owned(),
        region: "us-east-1".to_owned(),
        access_key: Secret::new(location.access_key.as_str()),
        secret_key: Secret::new(location.secret_key.as_str()),
        session_token: None,
        encrypt: false,
    };
    let store = S3Store::new(&config, &plain_transport(Timeouts::default()))?;
    Ok(Arc::new(store.with_multipart(0, PART)))
}
