//! How far the zones are behind at rest.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::site::LOGIN;

use crate::arguments::Arguments;
use crate::stage::{REPOSITORY, Stage, has, image, items};

/// Between two looks at the stores.
const LOOK: Duration = Duration::from_millis(5);

/// For one image.
const BOUND: Duration = Duration::from_secs(60);

/// Seeds of images that are no other's.
const SEEDS: u64 = 1 << 40;

/// Pushes images one after the other, and says of each how long after the push was acknowledged the
/// last of its blobs was in the last zone; shortest first.
pub(crate) async fn lags(stage: &Stage, arguments: &Arguments) -> Result<Vec<Duration>> {
    let gateway = stage.gateway().await?;
    let client = gateway.client(LOGIN)?;
    let mut lags = Vec::new();
    for number in 0..arguments.images.get() as u64 {
        let image = image(SEEDS + number, arguments.image())?;
        let items = items(&image);
        client.push(REPOSITORY, &format!("lag{number}"), &image).await?;
        let acknowledged = Instant::now();
        while !stage.targets().iter().all(|zone| has(zone, &items)) {
            ensure!(acknowledged.elapsed() < BOUND, "the copies are not done after {} s", BOUND.as_secs());
            tokio::time::sleep(LOOK).await;
        }
        lags.push(acknowledged.elapsed());
        for zone in &stage.site.zones {
            items.iter().try_for_each(|item| zone.delete(&item.digest))?;
        }
    }
    lags.sort_unstable();
    Ok(lags)
}
