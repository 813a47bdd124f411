//! Requests small blobs from both sides at a constant rate while the home store fails.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use harness::gateway::Gateway;

use crate::arguments::Arguments;
use crate::fixture::{Fixture, Sides, WARM};
use crate::load::{heads, load};
use crate::sample::Sample;

/// The gateway's log line for a zone that is out of use.
const OUT_OF_USE: &str = "zone is out of use";
/// How often the log is checked.
const LOOK: Duration = Duration::from_millis(20);
/// Part of the URLs that Quay signs, and of no request of the gateway.
const SIGNED_URL: &str = "X-Amz-Signature";

/// The measurements of both sides.
#[derive(Debug)]
pub(crate) struct Measurement {
    /// When the fault started.
    pub(crate) struck: Instant,
    pub(crate) gateway: Side,
    pub(crate) quay: Side,
    /// How long the registry took to answer whether a client may read.
    pub(crate) heads: Vec<Option<Duration>>,
    /// When the gateway took home out of use, counted from the fault.
    pub(crate) ejected: Option<Duration>,
    /// When home last saw a read of the gateway, counted from the fault.
    pub(crate) last_read: Option<Duration>,
    /// When the gateway sent reads to the stores, since the fault.
    pub(crate) reads: Vec<Instant>,
    /// Hedges and replacements since the fault.
    pub(crate) hedges: u64,
}

/// The requests of one side's client.
#[derive(Debug, Default)]
pub(crate) struct Side {
    /// Requests that were answered before the fault.
    pub(crate) healthy: Vec<Sample>,
    /// Requests that were sent after the fault, or were still waiting at the fault.
    pub(crate) struck: Vec<Sample>,
}

/// Runs the load. `strike` starts the fault on the connection to home.
pub(crate) async fn under(
    fixture: &Fixture,
    arguments: &Arguments,
    name: &str,
    strike: impl AsyncFnOnce(&Fixture),
) -> Result<Measurement> {
    fixture.heal().await;
    let Sides { gateway, by_gateway, by_quay } = fixture.sides().await?;
    let began = Instant::now();
    let before = WARM + arguments.healthy();
    let rate = arguments.rate.get();
    let fault = async {
        tokio::time::sleep(before).await;
        for line in fixture.lines() {
            line.record().clear();
        }
        let hedged = hedges(&gateway).await;
        strike(fixture).await;
        let struck = Instant::now();
        (struck, ejected(&gateway, struck, arguments.fault()).await, hedged)
    };
    let ((struck, ejected, hedged), by_gateway, by_quay, heads) = tokio::join!(
        fault,
        load(&by_gateway, &fixture.small, rate),
        load(&by_quay, &fixture.small, rate),
        heads(&by_quay, &fixture.small, before),
    );
    let (last_read, reads) = reads(fixture, struck);
    let hedges = hedges(&gateway).await?.saturating_sub(hedged?);
    keep_log(arguments, &gateway, name)?;
    Ok(Measurement {
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

/// When the gateway logs that it has taken a zone out of use.
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

/// The hedges and replacements of the gateway so far.
async fn hedges(gateway: &Gateway) -> Result<u64> {
    let zones = gateway.zones().await?;
    let zones = zones["zones"].as_array().context("the gateway shows no zones")?;
    Ok(zones.iter().filter_map(|zone| zone["counts"]["hedged"].as_u64()).sum())
}

/// When the gateway last read from home, and when it read from any store.
fn reads(fixture: &Fixture, struck: Instant) -> (Option<Duration>, Vec<Instant>) {
    let of = |line: &harness::proxy::Proxy| {
        let mut seen = line.record().reads("/sha256/");
        seen.retain(|seen| !seen.target.contains(SIGNED_URL));
        seen
    };
    let last = of(fixture.home()).iter().map(|seen| seen.at.saturating_duration_since(struck)).max();
    (last, fixture.lines().flat_map(of).map(|seen| seen.at).collect())
}

/// Keeps the gateway's log, if the user asked for it.
pub(crate) fn keep_log(arguments: &Arguments, gateway: &Gateway, name: &str) -> Result<()> {
    let Some(folder) = &arguments.logs else { return Ok(()) };
    std::fs::create_dir_all(folder)?;
    let file = folder.join(format!("{}.log", name.replace(' ', "-")));
    std::fs::write(&file, gateway.log()).with_context(|| format!("cannot write {}", file.display()))
}
