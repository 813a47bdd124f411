//! A zone that dies, hangs, cannot be reached, storms or crawls: nobody's pull fails.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::StatusCode;
use tests::real::Kind::{self, RadosGw, SeaweedFs};
use tokio::time::timeout;

use crate::crowd::pull_through;
use crate::namespace::{self, black_hole};
use crate::stage::{Reach, Stage};

/// One test in all.
const BOUND: Duration = Duration::from_secs(180);

/// Faults on the line strike between the same three servers.
const SERVERS: [Kind; 3] = [RadosGw, SeaweedFs, RadosGw];

/// How many times slower home becomes.
const SLOWER: u32 = 10;

#[tokio::test(flavor = "multi_thread")]
async fn killed() -> Result<()> {
    let strike = async |stage: &mut Stage| {
        stage.home().front().stop();
        Ok(())
    };
    nobody_fails([SeaweedFs, RadosGw, RadosGw], Reach::Directly, strike).await
}

#[tokio::test(flavor = "multi_thread")]
async fn suspended() -> Result<()> {
    let strike = async |stage: &mut Stage| stage.home().front().suspend();
    nobody_fails(SERVERS, Reach::Directly, strike).await
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_refused() -> Result<()> {
    let strike = async |stage: &mut Stage| {
        stage.home().line().down().await;
        Ok(())
    };
    nobody_fails(SERVERS, Reach::ByLine, strike).await
}

/// Packets to and from home are dropped: in a network namespace of its own, which takes the rules
/// and everything that runs in it along.
#[test]
fn packets_dropped() -> Result<()> {
    namespace::alone("faults::packets_dropped", || {
        let strike = async |stage: &mut Stage| black_hole(stage.home().address.port());
        nobody_fails(SERVERS, Reach::ByLine, strike)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_503() -> Result<()> {
    let strike = async |stage: &mut Stage| {
        stage.home().line().set(|faults| faults.status = Some(StatusCode::SERVICE_UNAVAILABLE));
        Ok(())
    };
    nobody_fails(SERVERS, Reach::ByLine, strike).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_times_slower() -> Result<()> {
    let strike = async |stage: &mut Stage| {
        stage.home().line().set(|faults| {
            faults.latency *= SLOWER;
            faults.bandwidth = faults.bandwidth.map(|rate| rate / u64::from(SLOWER));
        });
        Ok(())
    };
    nobody_fails(SERVERS, Reach::ByLine, strike).await
}

/// Everything came from home, home is struck while everyone pulls, and every pull succeeds.
async fn nobody_fails(
    kinds: [Kind; 3],
    reach: Reach,
    strike: impl AsyncFnOnce(&mut Stage) -> Result<()>,
) -> Result<()> {
    let run = async {
        let mut stage = Stage::start(kinds, reach).await?;
        let tally = pull_through(&mut stage, strike).await?;
        let log = stage.gateway.log();
        let moved = log.matches("going on in").count();
        eprintln!(
            "{} pulls, {} by skopeo; blobs before {:?}, after {:?}; {moved} bodies went on elsewhere",
            tally.pulls, tally.by_skopeo, tally.before, tally.after
        );
        ensure!(
            tally.failed.is_empty(),
            "{} pulls failed, such as {:#?}\n{log}",
            tally.failed.len(),
            &tally.failed[..tally.failed.len().min(5)]
        );
        // Else nothing was struck, and nothing taken over.
        ensure!(tally.before.contains_key("zone-a"), "nothing came from home before: {:?}", tally.before);
        let elsewhere =
            tally.after.iter().filter(|(zone, _)| *zone != "zone-a").map(|(_, blobs)| blobs).sum::<usize>();
        ensure!(elsewhere > 0, "nothing came from elsewhere: {:?}", tally.after);
        Ok(())
    };
    timeout(BOUND, run).await.context("the test hangs")?
}
