//! Measures a store that is unreachable, and one that is slow.

use std::time::Duration;

use anyhow::Result;

use crate::arguments::Arguments;
use crate::fixture::Fixture;
use crate::measurement::{Measurement, Side, under};
use crate::report::{Row, Value};
use crate::sample::{Sample, first_byte, quantile};

/// The goal for the 99th percentile of first bytes with a dead store.
const FIRST_BYTE_GOAL: Duration = Duration::from_millis(500);
/// The goal for the time until a dead store is avoided.
const AVOIDED_GOAL: Duration = Duration::from_secs(2);
/// A first byte is late if it takes longer than this many times the healthy 99th percentile.
const LATE: f64 = 1.5;
/// During a brown-out, first bytes are compared from this time after its start.
const SETTLED: Duration = Duration::from_secs(2);
/// Their goal, as a multiple of the healthy 99th percentile.
const BROWN_OUT_GOAL: f64 = 1.5;
/// The goal for extra requests, in percent of all reads.
const EXTRA_GOAL: f64 = 5.0;
/// How many times slower the store is.
const SLOWER: u32 = 10;
/// Only this first part of an outage is measured.
const FELT: Duration = Duration::from_secs(5);

/// Home refuses connections, or accepts them and stays silent.
pub(crate) async fn outages(fixture: &Fixture, arguments: &Arguments) -> Result<Vec<Row>> {
    let refuses = async |fixture: &Fixture| fixture.home().down().await;
    let hangs = async |fixture: &Fixture| fixture.home().set(|faults| faults.hang = true);
    let mut rows = Vec::new();
    let measurement = under(fixture, arguments, "outage refuses", refuses).await?;
    rows.extend(healthy(&measurement));
    rows.extend(outage(&measurement, "refuses"));
    let measurement = under(fixture, arguments, "outage hangs", hangs).await?;
    rows.extend(outage(&measurement, "hangs"));
    Ok(rows)
}

/// The values before the fault.
fn healthy(measurement: &Measurement) -> Vec<Row> {
    let sides = (&measurement.gateway.healthy[..], &measurement.quay.healthy[..]);
    let mut rows: Vec<Row> =
        [("p50", 0.5), ("p99", 0.99)].map(|(name, q)| first_bytes(name, "none", q, sides)).into();
    let heads = |q| Value::time(quantile(measurement.heads.iter().copied(), q));
    rows.push(Row::shown("HEAD at the registry, p50", "none", heads(0.5), Value::None));
    rows.push(Row::shown("HEAD at the registry, p99", "none", heads(0.99), Value::None));
    rows
}

fn outage(measurement: &Measurement, fault: &'static str) -> Vec<Row> {
    let felt = |side: &Side| -> Vec<Sample> {
        side.struck.iter().filter(|sample| sample.began < measurement.struck + FELT).cloned().collect()
    };
    let (gateway, quay) = (felt(&measurement.gateway), felt(&measurement.quay));
    let sides = (&gateway[..], &quay[..]);
    let (avoided, quay_avoided) =
        (avoided(measurement, &measurement.gateway), avoided(measurement, &measurement.quay));
    vec![
        first_bytes("p50", fault, 0.5, sides),
        first_bytes("p99", fault, 0.99, sides).with_goal(FIRST_BYTE_GOAL.as_secs_f64() * 1000.0),
        first_bytes("max", fault, 1.0, sides),
        Row::shown("outage: first bytes as before", fault, Value::time(avoided), Value::time(quay_avoided))
            .with_goal(AVOIDED_GOAL.as_secs_f64() * 1000.0)
            .with_failures(&measurement.gateway.struck, &measurement.quay.struck),
        Row::shown("outage: home is out of use", fault, Value::time(measurement.ejected), Value::None),
        Row::shown(
            "outage: last read that home saw",
            fault,
            Value::time(measurement.last_read.or(Some(Duration::ZERO))),
            Value::None,
        ),
    ]
}

fn first_bytes(name: &str, fault: &'static str, q: f64, (gateway, quay): (&[Sample], &[Sample])) -> Row {
    let value = |samples| Value::time(first_byte(samples, q));
    Row::shown(&format!("first byte, {name}"), fault, value(gateway), value(quay))
        .with_failures(gateway, quay)
}

/// The time after the fault from which first bytes are as before: of all later requests, at most one in a
/// hundred is late or fails. `None` if there is no such time.
fn avoided(measurement: &Measurement, side: &Side) -> Option<Duration> {
    let healthy = first_byte(&side.healthy, 0.99)?.mul_f64(LATE);
    let mut samples: Vec<&Sample> = side.struck.iter().collect();
    samples.sort_unstable_by_key(|sample| std::cmp::Reverse(sample.began));
    let (mut late, mut avoided) = (0, None);
    for (later, sample) in samples.iter().enumerate() {
        if sample.answered().is_none_or(|after| after > healthy) {
            late += 1;
        }
        // One in a hundred, rounded up, because a short outage has few later requests.
        if late > (later + 1).div_ceil(100) {
            // With fewer than a hundred requests the share has no meaning: the effect had not ended.
            return avoided.filter(|_| later >= 100);
        }
        avoided = Some(sample.began.saturating_duration_since(measurement.struck));
    }
    avoided
}

/// Home takes ten times as long for the first byte and for each later byte.
pub(crate) async fn brown_out(fixture: &Fixture, arguments: &Arguments) -> Result<Vec<Row>> {
    let slows = async |fixture: &Fixture| {
        fixture.home().set(|faults| {
            faults.latency *= SLOWER;
            faults.bandwidth = faults.bandwidth.map(|rate| rate / u64::from(SLOWER));
        });
    };
    let measurement = under(fixture, arguments, "brown-out", slows).await?;
    let fault = "10x slower";
    let settled = |side: &Side| -> Vec<Sample> {
        side.struck.iter().filter(|sample| sample.began >= measurement.struck + SETTLED).cloned().collect()
    };
    let ratio = |side: &Side| {
        let (healthy, now) = (first_byte(&side.healthy, 0.99), first_byte(&settled(side), 0.99));
        Value::ratio(now.zip(healthy).map(|(now, healthy)| now.as_secs_f64() / healthy.as_secs_f64()))
    };
    let asked = |from| measurement.gateway.struck.iter().filter(|sample| sample.began >= from).count();
    let extra = |from| {
        let reads = measurement.reads.iter().filter(|at| **at >= from).count();
        percent(reads as f64 - asked(from) as f64, asked(from))
    };
    let (struck, known) = (measurement.struck, measurement.struck + SETTLED);
    let (gateway, quay) = (settled(&measurement.gateway), settled(&measurement.quay));
    Ok(vec![
        first_bytes("p99, from 2 s on", fault, 0.99, (&gateway, &quay)),
        Row::shown(
            "brown-out: ratio to the healthy p99",
            fault,
            ratio(&measurement.gateway),
            ratio(&measurement.quay),
        )
        .with_goal(BROWN_OUT_GOAL)
        .with_failures(&measurement.gateway.struck, &measurement.quay.struck),
        Row::shown(
            "brown-out: hedges",
            fault,
            percent(measurement.hedges as f64, asked(struck)),
            Value::None,
        )
        .with_goal(EXTRA_GOAL),
        Row::shown("brown-out: extra requests, from 2 s on", fault, extra(known), Value::None)
            .with_goal(EXTRA_GOAL),
        Row::shown("brown-out: extra requests since its start", fault, extra(struck), Value::None),
        Row::shown("brown-out: home is out of use", fault, Value::time(measurement.ejected), Value::None),
        Row::shown("brown-out: last read from home", fault, Value::time(measurement.last_read), Value::None),
    ])
}

/// The percentage of a part.
fn percent(part: f64, all: usize) -> Value {
    Value::Percent(part / all.max(1) as f64 * 100.0)
}
