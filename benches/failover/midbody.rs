//! Measures a store that fails while bodies are in flight.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use crate::arguments::Arguments;
use crate::fixture::{Fixture, Item, Sides, WARM};
use crate::load::load;
use crate::measurement::keep_log;
use crate::puller::Puller;
use crate::report::{Row, Value};
use crate::sample::Sample;

/// The goal for the longest time without a byte.
const STALL_GOAL: Duration = Duration::from_secs(1);

/// How the store fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    /// Open connections break, and new ones are refused.
    Cut,
    /// Open connections stay open but deliver nothing.
    Hang,
}

/// The longest stall of all bodies in flight, over all rounds.
pub(crate) async fn bodies(fixture: &Fixture, arguments: &Arguments) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (death, fault) in [(Death::Cut, "cut"), (Death::Hang, "hangs")] {
        let (mut by_gateway, mut by_quay) = (Vec::new(), Vec::new());
        for round in 0..arguments.rounds.get() {
            let name = format!("bodies {fault} {round}");
            let (gateway, quay) = self::round(fixture, arguments, death, &name).await?;
            by_gateway.extend(gateway);
            by_quay.extend(quay);
        }
        // A body that did not arrive has an infinite stall.
        let stall = |samples: &[Sample]| {
            let whole = samples.iter().all(|sample| sample.failed.is_none());
            let longest = samples.iter().map(|sample| sample.stall).max();
            Value::time(longest.filter(|_| whole))
        };
        rows.push(
            Row::shown("dies in mid-body: longest stall", fault, stall(&by_gateway), stall(&by_quay))
                .with_goal(STALL_GOAL.as_secs_f64() * 1000.0)
                .with_failures(&by_gateway, &by_quay),
        );
    }
    Ok(rows)
}

/// The bodies of both sides that were in flight at one failure of home.
async fn round(
    fixture: &Fixture,
    arguments: &Arguments,
    death: Death,
    name: &str,
) -> Result<(Vec<Sample>, Vec<Sample>)> {
    fixture.heal().await;
    let Sides { gateway, by_gateway, by_quay } = fixture.sides().await?;
    // The gateway must know its zones and the speed of large bodies from home.
    let warm = arguments.rate.get() as usize * WARM.as_secs() as usize;
    load(&by_gateway, &fixture.small[..warm], arguments.rate.get()).await?;
    let (first, large) = fixture.large.split_first().unwrap_or((&fixture.small[0], &[]));
    let alone = by_gateway.get(first).await;
    ensure!(alone.failed.is_none(), "before the fault: {:?}", alone.failed);
    let whole = alone.ended - alone.began;
    let strike = async {
        // Half-way, every body has started and none is near its end.
        tokio::time::sleep(whole / 2).await;
        match death {
            Death::Cut => fixture.home().down().await,
            Death::Hang => fixture.home().set(|faults| faults.hang = true),
        }
        Instant::now()
    };
    let (struck, gateways, quays) = tokio::join!(strike, all(&by_gateway, large), all(&by_quay, large));
    keep_log(arguments, &gateway, name)?;
    let amid = |samples: Vec<Sample>| -> Vec<Sample> {
        samples.into_iter().filter(|sample| sample.is_amid(struck)).collect()
    };
    let (gateways, quays) = (amid(gateways?), amid(quays?));
    ensure!(!gateways.is_empty() && !quays.is_empty(), "no body was on its way when home died");
    Ok((gateways, quays))
}

/// Requests all items at once.
async fn all(puller: &Arc<Puller>, items: &[Item]) -> Result<Vec<Sample>> {
    let mut requests = JoinSet::new();
    for &item in items {
        let puller = Arc::clone(puller);
        requests.spawn(async move { puller.get(&item).await });
    }
    let mut samples = Vec::new();
    while let Some(sample) = requests.join_next().await {
        samples.push(sample?);
    }
    Ok(samples)
}
