//! A zone that dies, hangs, is unreachable, answers 503 or is slow. No pull fails.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::StatusCode;
use real_servers::Kind::{self, RadosGw, SeaweedFs};
use tokio::time::timeout;

use crate::crowd::pull_through;
use crate::fixture::{Fixture, Reach};
use crate::namespace::{self, black_hole};

/// The timeout of one test.
const BOUND: Duration = Duration::from_secs(180);

/// The servers for faults of the proxy.
const SERVERS: [Kind; 3] = [RadosGw, SeaweedFs, RadosGw];

/// How many times slower home becomes.
const SLOWER: u32 = 10;

#[tokio::test(flavor = "multi_thread")]
async fn killed() -> Result<()> {
    let strike = async |fixture: &mut Fixture| {
        fixture.home().process().stop();
        Ok(())
    };
    no_pull_fails([SeaweedFs, RadosGw, RadosGw], Reach::Directly, strike).await
}

#[tokio::test(flavor = "multi_thread")]
async fn suspended() -> Result<()> {
    let strike = async |fixture: &mut Fixture| fixture.home().process().suspend();
    no_pull_fails(SERVERS, Reach::Directly, strike).await
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_refused() -> Result<()> {
    let strike = async |fixture: &mut Fixture| {
        fixture.home().proxy().down().await;
        Ok(())
    };
    no_pull_fails(SERVERS, Reach::ThroughProxy, strike).await
}

/// Packets to and from home are dropped. This happens in a separate network namespace, which is removed with
/// its rules and processes.
#[test]
fn packets_dropped() -> Result<()> {
    namespace::alone("faults::packets_dropped", || {
        let strike = async |fixture: &mut Fixture| black_hole(fixture.home().address.port());
        no_pull_fails(SERVERS, Reach::ThroughProxy, strike)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_503() -> Result<()> {
    let strike = async |fixture: &mut Fixture| {
        fixture.home().proxy().set(|faults| faults.status = Some(StatusCode::SERVICE_UNAVAILABLE));
        Ok(())
    };
    no_pull_fails(SERVERS, Reach::ThroughProxy, strike).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_times_slower() -> Result<()> {
    let strike = async |fixture: &mut Fixture| {
        fixture.home().proxy().set(|faults| {
            faults.latency *= SLOWER;
            faults.bandwidth = faults.bandwidth.map(|rate| rate / u64::from(SLOWER));
        });
        Ok(())
    };
    no_pull_fails(SERVERS, Reach::ThroughProxy, strike).await
}

/// Everything comes from home, home fails while all clients pull, and every pull succeeds.
async fn no_pull_fails(
    kinds: [Kind; 3],
    reach: Reach,
    strike: impl AsyncFnOnce(&mut Fixture) -> Result<()>,
) -> Result<()> {
    let run = async {
        let mut fixture = Fixture::start(kinds, reach).await?;
        let tally = pull_through(&mut fixture, strike).await?;
        let log = fixture.gateway.log();
        let moved = log.matches("going on in").count();
        eprintln!(
            "{} pulls, {} by skopeo; blobs before {:?}, after {:?}; {moved} bodies continued from another zone",
            tally.pulls, tally.by_skopeo, tally.before, tally.after
        );
        ensure!(
            tally.failed.is_empty(),
            "{} pulls failed, such as {:#?}\n{log}",
            tally.failed.len(),
            &tally.failed[..tally.failed.len().min(5)]
        );
        // Otherwise the fault had no effect, and no other zone was used.
        ensure!(tally.before.contains_key("zone-a"), "nothing came from home before: {:?}", tally.before);
        let elsewhere =
            tally.after.iter().filter(|(zone, _)| *zone != "zone-a").map(|(_, blobs)| blobs).sum::<usize>();
        ensure!(elsewhere > 0, "nothing came from elsewhere: {:?}", tally.after);
        Ok(())
    };
    timeout(BOUND, run).await.context("the test hangs")?
}
