//! Small blobs at an even rate from both sides, while a fault strikes home in the middle.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tests::gateway::Gateway;

use crate::arguments::Arguments;
use crate::load::{heads, load};
use crate::sample::Sample;
use crate::stage::{Sides, Stage, WARM};

/// What the gateway logs when a zone is out of use.
const OUT_OF_USE: &str = "zone is out of use";
/// How often its log is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// In the URLs that Quay signs, and in no request of the gateway's.
const SIGNED_URL: &str = "X-Amz-Signature";

/// What both sides met.
#[derive(Debug)]
pub(crate) struct Course {
    /// When the fault struck.
    pub(crate) struck: Instant,
    pub(crate) gateway: Side,
    pub(crate) quay: Side,
    /// How long the registry takes to say who may read.
    pub(crate) heads: Vec<Option<Duration>>,
    /// When the gateway took home out of use, from the fault on.
    pub(crate) ejected: Option<Duration>,
    /// When the gateway last read from home, from the fault on, as far as home saw it.
    pub(crate) last_read: Option<Duration>,
    /// When the gateway sent reads to the stores, since the fault.
    pub(crate) reads: Vec<Instant>,
    /// Second requests that it has started since, within their budget.
    pub(crate) hedges: u64,
}

/// What one side's client met.
#[derive(Debug, Default)]
pub(crate) struct Side {
    /// Answered before the fault.
    pub(crate) healthy: Vec<Sample>,
    /// Asked for since, or still waiting then.
    pub(crate) struck: Vec<Sample>,
}

/// Runs it; `strike` spoils the line to home.
pub(crate) async fn under(
    stage: &Stage,
    arguments: &Arguments,
    name: &str,
    strike: impl AsyncFnOnce(&Stage),
) -> Result<Course> {
    stage.heal().await;
    let Sides { gateway, by_gateway, by_quay } = stage.sides().await?;
    let began = Instant::now();
    let before = WARM + arguments.healthy();
    let rate = arguments.rate.get();
    let fault = async {
        tokio::time::sleep(before).await;
        for line in stage.lines() {
            line.record().clear();
        }
        let hedged = hedges(&gateway).await;
        strike(stage).await;
        let struck = Instant::now();
        (struck, ejected(&gateway, struck, arguments.fault()).await, hedged)
    };
    let ((struck, ejected, hedged), by_gateway, by_quay, heads) = tokio::join!(
        fault,
        load(&by_gateway, &stage.small, rate),
        load(&by_quay, &stage.small, rate),
        heads(&by_quay, &stage.small, before),
    );
    let (last_read, reads) = reads(stage, struck);
    let hedges = hedges(&gateway).await?.saturating_sub(hedged?);
    keep_log(arguments, &gateway, name)?;
    Ok(Course {
        struck,
        gateway: Side::split(by_gateway?, began, struck),
        quay: Side::split(by_quay?, began, struck),
        heads,
        ejected,
        last_read,
        reads,
        hedges,
    })
}

impl Side {
    fn split(samples: Vec<Sample>, began: Instant, struck: Instant) -> Self {
        let counted = samples.into_iter().filter(|sample| sample.began >= began + WARM);
        let (healthy, struck) = counted.partition(|sample| sample.is_before(struck));
        Self { healthy, struck }
    }
}

/// When the gateway says that it has taken a zone out of use.
async fn ejected(gateway: &Gateway, struck: Instant, within: Duration) -> Option<Duration> {
    let before = gateway.log().matches(OUT_OF_USE).count();
    while struck.elapsed() < within {
        if gateway.log().matches(OUT_OF_USE).count() > before {
            return Some(struck.elapsed());
        }
        tokio::time::sleep(LOOK).await;
    }
    None
}

/// Second requests that the gateway has started so far.
async fn hedges(gateway: &Gateway) -> Result<u64> {
    let zones = gateway.zones().await?;
    let zones = zones["zones"].as_array().context("the gateway shows no zones")?;
    Ok(zones.iter().filter_map(|zone| zone["counts"]["hedged"].as_u64()).sum())
}

/// When home was last read by the gateway, and when all stores were.
fn reads(stage: &Stage, struck: Instant) -> (Option<Duration>, Vec<Instant>) {
    let of = |line: &tests::proxy::Proxy| {
        let mut seen = line.record().reads("/sha256/");
        seen.retain(|seen| !seen.target.contains(SIGNED_URL));
        seen
    };
    let last = of(stage.home()).iter().map(|seen| seen.at.saturating_duration_since(struck)).max();
    (last, stage.lines().flat_map(of).map(|seen| seen.at).collect())
}

/// Keeps the gateway's log where that is wanted.
pub(crate) fn keep_log(arguments: &Arguments, gateway: &Gateway, name: &str) -> Result<()> {
    let Some(folder) = &arguments.logs else { return Ok(()) };
    std::fs::create_dir_all(folder)?;
    let file = folder.join(format!("{}.log", name.replace(' ', "-")));
    std::fs::write(&file, gateway.log()).with_context(|| format!("cannot write {}", file.display()))
}
