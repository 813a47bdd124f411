//! Measures the lag of the zones at rest.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::site::LOGIN;

use crate::arguments::Arguments;
use crate::fixture::{Fixture, REPOSITORY, has, image, items};

/// How often the stores are checked.
const LOOK: Duration = Duration::from_millis(5);

/// The timeout for one image.
const BOUND: Duration = Duration::from_secs(60);

/// The first seed of these images. No other image uses these seeds.
const SEEDS: u64 = 1 << 40;

/// Pushes images one after the other. For each, measures the time from the acknowledgement of the push until
/// the last zone has the last blob. The result is sorted, shortest first.
pub(crate) async fn lags(fixture: &Fixture, arguments: &Arguments) -> Result<Vec<Duration>> {
    let gateway = fixture.gateway().await?;
    let client = gateway.client(LOGIN)?;
    let mut lags = Vec::new();
    for number in 0..arguments.images.get() as u64 {
        let image = image(SEEDS + number, arguments.image())?;
        let items = items(&image);
        client.push(REPOSITORY, &format!("lag{number}"), &image).await?;
        let acknowledged = Instant::now();
        while !fixture.targets().iter().all(|zone| has(zone, &items)) {
            ensure!(acknowledged.elapsed() < BOUND, "the copies are not done after {} s", BOUND.as_secs());
            tokio::time::sleep(LOOK).await;
        }
        lags.push(acknowledged.elapsed());
        for zone in &fixture.site.zones {
            items.iter().try_for_each(|item| zone.delete(&item.digest))?;
        }
    }
    lags.sort_unstable();
    Ok(lags)
}
