//! Sends requests at a constant rate, whether or not earlier requests are done.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::fixture::Item;
use crate::puller::Puller;
use crate::sample::Sample;

/// Permission requests to the registry per second, in addition to the load.
const HEADS: u32 = 10;

/// Requests each item once, `rate` items per second.
pub(crate) async fn load(puller: &Arc<Puller>, items: &[Item], rate: u32) -> Result<Vec<Sample>> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut requests = JoinSet::new();
    for item in items {
        ticks.tick().await;
        let (puller, item) = (Arc::clone(puller), *item);
        requests.spawn(async move { puller.get(&item).await });
    }
    let mut samples = Vec::new();
    while let Some(sample) = requests.join_next().await {
        samples.push(sample?);
    }
    Ok(samples)
}

/// Asks the registry whether a client may read, for `duration`.
pub(crate) async fn heads(puller: &Puller, items: &[Item], duration: Duration) -> Vec<Option<Duration>> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / HEADS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut times = Vec::new();
    let count = duration.as_secs() as usize * HEADS as usize;
    for item in items.iter().cycle().take(count) {
        ticks.tick().await;
        times.push(puller.head(item).await);
    }
    times
}
