//! A zone flips a bit in one of five answers. No wrong byte completes, every second try is correct, and the
//! zone is out of use within one blob.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use backends::Digest;
use harness::client::Client;
use harness::fault::BodyFault;
use real_servers::Kind::{RadosGw, SeaweedFs};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::fixture::{Fixture, REPOSITORY, Reach};

/// The timeout of the test.
const BOUND: Duration = Duration::from_secs(180);
/// How many of a thousand answers of the lying zone have a wrong bit.
const OF_1000: u32 = 200;
/// The seed. It must make some of the few dozen blobs from the home zone wrong.
const SEED: u64 = 20;
const CLIENTS: usize = 50;
/// Requests that were sent before the detection may still arrive at the zone.
const ON_THE_WAY: Duration = Duration::from_millis(500);

/// The results of one client.
#[derive(Debug, Default)]
struct Tally {
    right: usize,
    /// When a first try failed.
    cut: Vec<Instant>,
    /// Answers that completed with wrong bytes.
    wrong: Vec<String>,
    /// Second tries that failed.
    failed: Vec<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bit_in_one_of_five_answers() -> Result<()> {
    timeout(BOUND, lies()).await.context("the test hangs")?
}

async fn lies() -> Result<()> {
    let mut fixture = Fixture::start([RadosGw, SeaweedFs, RadosGw], Reach::ThroughProxy).await?;
    fixture
        .home()
        .proxy()
        .set(|faults| faults.body = Some(BodyFault::Flips { of_1000: OF_1000, seed: SEED }));
    let digests: Vec<Digest> =
        fixture.images.iter().flat_map(|(_, image)| image.blobs()).map(|blob| blob.digest).collect();
    let mut crowd = JoinSet::new();
    for index in 0..CLIENTS {
        crowd.spawn(pull_on(fixture.client()?, index, digests.clone()));
    }
    let mut all = Tally::default();
    while let Some(one) = crowd.join_next().await {
        let one = one?;
        all.right += one.right;
        all.cut.extend(one.cut);
        all.wrong.extend(one.wrong);
        all.failed.extend(one.failed);
    }
    let first = all.cut.iter().min().copied();
    eprintln!("{} blobs right, {} first tries cut", all.right, all.cut.len());
    ensure!(all.wrong.is_empty(), "wrong bytes were completed: {:?}", all.wrong);
    ensure!(all.failed.is_empty(), "second tries failed: {:?}\n{}", all.failed, fixture.gateway.log());
    let first = first.context("no answer was wrong: another seed is needed")?;
    // After the detection, no client reads a blob from the zone.
    let asked = fixture.home().proxy().record().reads("/sha256/");
    let before = asked.iter().filter(|seen| seen.at < first.into_std()).count();
    let late: Vec<_> = asked.iter().filter(|seen| seen.at > (first + ON_THE_WAY).into_std()).collect();
    eprintln!("the liar was asked {before} times before it was found out, {} after", asked.len() - before);
    ensure!(late.is_empty(), "the liar is still asked: {} times\n{}", late.len(), fixture.gateway.log());
    Ok(())
}

/// Pulls every blob. Each client starts with another one.
async fn pull_on(client: Client, index: usize, digests: Vec<Digest>) -> Tally {
    let mut tally = Tally::default();
    let wrong = |error: &anyhow::Error| format!("{error:#}").contains("wrong bytes");
    for count in 0..digests.len() {
        let digest = &digests[(index * 7 + count) % digests.len()];
        let Err(first) = client.pull_blob(REPOSITORY, digest).await else {
            tally.right += 1;
            continue;
        };
        tally.cut.push(Instant::now());
        if wrong(&first) {
            tally.wrong.push(format!("{first:#}"));
        }
        match client.pull_blob(REPOSITORY, digest).await {
            Ok(_) => tally.right += 1,
            Err(second) if wrong(&second) => tally.wrong.push(format!("{second:#}")),
            Err(second) => tally.failed.push(format!("{first:#}; then {second:#}")),
        }
    }
    tally
}
