//! Requests at an even rate, whatever becomes of those before.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::puller::Puller;
use crate::sample::Sample;
use crate::stage::Item;

/// Questions to the registry a second, beside the load.
const HEADS: u32 = 10;

/// Asks for each item, `rate` a second.
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

/// Asks the registry who may read, for `duration`.
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
