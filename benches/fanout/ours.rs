//! Copies by the gateway.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use benches::measure::{Process, cpu, peak_memory};
use harness::gateway::Gateway;

use crate::arguments::Arguments;
use crate::fixture::{Fixture, has};

/// How often the queue is checked.
const LOOK: Duration = Duration::from_millis(50);

/// The timeout for all copies.
const BOUND: Duration = Duration::from_secs(900);

/// The measurements of the gateway.
#[derive(Debug)]
pub(crate) struct Fanned {
    /// The time until each target zone had everything, in the order of the zones. `None` for a dead zone.
    pub(crate) zones: Vec<Option<Duration>>,
    pub(crate) cpu: Duration,
    /// The peak of the memory, in bytes.
    pub(crate) memory: u64,
}

impl Fanned {
    /// The time until the last copy.
    pub(crate) fn last(&self) -> Duration {
        self.zones.iter().flatten().max().copied().unwrap_or_default()
    }
}

/// Starts a new gateway, sends it the manifests of all images, and waits for the copies, except those into
/// the zone `dead`.
pub(crate) async fn fan_out(
    fixture: &Fixture,
    arguments: &Arguments,
    name: &str,
    dead: Option<&str>,
) -> Result<Fanned> {
    let gateway = fixture.gateway().await?;
    let id = gateway.id().context("the gateway has ended")?;
    if let Some(dead) = dead {
        fixture.site.zone(dead).proxy().down().await;
    }
    let (used, began) = (cpu(Process::Running(id))?, Instant::now());
    let living: Vec<&str> = fixture.targets().iter().map(|zone| &*zone.name).collect();
    let told = fixture.tell(&gateway);
    let waited = wait(&gateway, &living, dead, began);
    let ((), zones) = tokio::try_join!(told, waited)?;
    for zone in fixture.targets().iter().filter(|zone| dead != Some(&*zone.name)) {
        ensure!(has(zone, &fixture.items), "{} lacks a copy", zone.name);
    }
    let (cpu, memory) = (cpu(Process::Running(id))?.saturating_sub(used), peak_memory(id)?);
    if let Some(dead) = dead {
        fixture.site.zone(dead).proxy().heal().await;
        fixture.site.zone(dead).proxy().set(|faults| faults.latency = arguments.latency());
    }
    if let Some(folder) = &arguments.logs {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join(format!("{name}.log")), gateway.log())?;
    }
    Ok(Fanned { zones, cpu, memory })
}

/// Waits until each zone's queue is empty, after it has contained something.
async fn wait(
    gateway: &Gateway,
    zones: &[&str],
    dead: Option<&str>,
    began: Instant,
) -> Result<Vec<Option<Duration>>> {
    let mut done: Vec<Option<Duration>> = vec![None; zones.len()];
    let mut begun = vec![false; zones.len()];
    while began.elapsed() < BOUND {
        tokio::time::sleep(LOOK).await;
        let status = gateway.status().await?;
        for (number, zone) in zones.iter().enumerate() {
            let lanes = status["copies"].as_array().into_iter().flatten();
            let lane = lanes.into_iter().find(|lane| lane["zone"] == **zone);
            let lane = lane.with_context(|| format!("{zone} has no lane"))?;
            let waiting = lane["waiting"].as_u64().with_context(|| format!("{zone}: nobody knows"))?;
            begun[number] |= waiting > 0;
            // Manifests arrive faster than copies are made, so the queue is empty only at the end.
            done[number] = (begun[number] && waiting == 0).then(|| done[number].unwrap_or(began.elapsed()));
        }
        let missing = zones.iter().zip(&done).any(|(zone, done)| done.is_none() && dead != Some(*zone));
        if !missing {
            return Ok(done);
        }
    }
    anyhow::bail!("the copies are not done after {} s", BOUND.as_secs())
}
