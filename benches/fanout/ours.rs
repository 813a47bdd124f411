//! The gateway's way.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use benches::measure::{Process, cpu, peak_memory};
use tests::gateway::Gateway;

use crate::arguments::Arguments;
use crate::stage::{Stage, has};

/// Between two looks at what waits.
const LOOK: Duration = Duration::from_millis(50);

/// For all copies.
const BOUND: Duration = Duration::from_secs(900);

/// What the gateway did.
#[derive(Debug)]
pub(crate) struct Fanned {
    /// Until each target had everything, in the order of zones; none for a dead one.
    pub(crate) zones: Vec<Option<Duration>>,
    pub(crate) cpu: Duration,
    /// The most it had, bytes.
    pub(crate) memory: u64,
}

impl Fanned {
    /// Until the last copy.
    pub(crate) fn last(&self) -> Duration {
        self.zones.iter().flatten().max().copied().unwrap_or_default()
    }
}

/// Tells a new gateway of all images and waits for their copies, but for those of the zone `dead`.
pub(crate) async fn fan_out(
    stage: &Stage,
    arguments: &Arguments,
    name: &str,
    dead: Option<&str>,
) -> Result<Fanned> {
    let gateway = stage.gateway().await?;
    let id = gateway.id().context("the gateway has ended")?;
    if let Some(dead) = dead {
        stage.site.zone(dead).proxy().down().await;
    }
    let (used, began) = (cpu(Process::Running(id))?, Instant::now());
    let living: Vec<&str> = stage.targets().iter().map(|zone| &*zone.name).collect();
    let told = stage.tell(&gateway);
    let waited = wait(&gateway, &living, dead, began);
    let ((), zones) = tokio::try_join!(told, waited)?;
    for zone in stage.targets().iter().filter(|zone| dead != Some(&*zone.name)) {
        ensure!(has(zone, &stage.items), "{} lacks a copy", zone.name);
    }
    let (cpu, memory) = (cpu(Process::Running(id))?.saturating_sub(used), peak_memory(id)?);
    if let Some(dead) = dead {
        stage.site.zone(dead).proxy().heal().await;
        stage.site.zone(dead).proxy().set(|faults| faults.latency = arguments.latency());
    }
    if let Some(folder) = &arguments.logs {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join(format!("{name}.log")), gateway.log())?;
    }
    Ok(Fanned { zones, cpu, memory })
}

/// When nothing waits any more for each zone, once something has.
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
            // The manifests are told faster than they are worked off, so it is empty at the end only.
            done[number] = (begun[number] && waiting == 0).then(|| done[number].unwrap_or(began.elapsed()));
        }
        let missing = zones.iter().zip(&done).any(|(zone, done)| done.is_none() && dead != Some(*zone));
        if !missing {
            return Ok(done);
        }
    }
    anyhow::bail!("the copies are not done after {} s", BOUND.as_secs())
}
