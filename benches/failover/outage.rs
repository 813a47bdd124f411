//! A store that is gone, and one that is slow.

use std::time::Duration;

use anyhow::Result;

use crate::arguments::Arguments;
use crate::course::{Course, Side, under};
use crate::report::{Row, Value};
use crate::sample::{Sample, first_byte, quantile};
use crate::stage::Stage;

/// First bytes with a dead store, all but one of a hundred.
const FIRST_BYTE_GOAL: Duration = Duration::from_millis(500);
/// An outage is known and avoided after this.
const AVOIDED_GOAL: Duration = Duration::from_secs(2);
/// First bytes later than so many times the healthy 99th percentile are of the fault.
const LATE: f64 = 1.5;
/// First bytes of a brown-out are compared from this after its onset on.
const SETTLED: Duration = Duration::from_secs(2);
/// Their goal, as a multiple of the healthy 99th percentile.
const BROWN_OUT_GOAL: f64 = 1.5;
/// What it may cost, percent of all reads.
const EXTRA_GOAL: f64 = 5.0;
/// How many times slower it is.
const SLOWER: u32 = 10;
/// The part of an outage that clients feel: what comes long after it is not held against it, or for it.
const FELT: Duration = Duration::from_secs(5);

/// Home refuses connections, or takes them and says nothing.
pub(crate) async fn outages(stage: &Stage, arguments: &Arguments) -> Result<Vec<Row>> {
    let refuses = async |stage: &Stage| stage.home().down().await;
    let hangs = async |stage: &Stage| stage.home().set(|faults| faults.hang = true);
    let mut rows = Vec::new();
    let course = under(stage, arguments, "outage refuses", refuses).await?;
    rows.extend(healthy(&course));
    rows.extend(outage(&course, "refuses"));
    let course = under(stage, arguments, "outage hangs", hangs).await?;
    rows.extend(outage(&course, "hangs"));
    Ok(rows)
}

/// How all was before.
fn healthy(course: &Course) -> Vec<Row> {
    let sides = (&course.gateway.healthy[..], &course.quay.healthy[..]);
    let mut rows: Vec<Row> =
        [("p50", 0.5), ("p99", 0.99)].map(|(name, q)| first_bytes(name, "none", q, sides)).into();
    let heads = |q| Value::time(quantile(course.heads.iter().copied(), q));
    rows.push(Row::shown("HEAD at the registry, p50", "none", heads(0.5), Value::None));
    rows.push(Row::shown("HEAD at the registry, p99", "none", heads(0.99), Value::None));
    rows
}

fn outage(course: &Course, fault: &'static str) -> Vec<Row> {
    let felt = |side: &Side| -> Vec<Sample> {
        side.struck.iter().filter(|sample| sample.began < course.struck + FELT).cloned().collect()
    };
    let (gateway, quay) = (felt(&course.gateway), felt(&course.quay));
    let sides = (&gateway[..], &quay[..]);
    let (avoided, quay_avoided) = (avoided(course, &course.gateway), avoided(course, &course.quay));
    vec![
        first_bytes("p50", fault, 0.5, sides),
        first_bytes("p99", fault, 0.99, sides).with_goal(FIRST_BYTE_GOAL.as_secs_f64() * 1000.0),
        first_bytes("max", fault, 1.0, sides),
        Row::shown("outage: first bytes as before", fault, Value::time(avoided), Value::time(quay_avoided))
            .with_goal(AVOIDED_GOAL.as_secs_f64() * 1000.0)
            .with_failures(&course.gateway.struck, &course.quay.struck),
        Row::shown("outage: home is out of use", fault, Value::time(course.ejected), Value::None),
        Row::shown(
            "outage: last read that home saw",
            fault,
            Value::time(course.last_read.or(Some(Duration::ZERO))),
            Value::None,
        ),
    ]
}

fn first_bytes(name: &str, fault: &'static str, q: f64, (gateway, quay): (&[Sample], &[Sample])) -> Row {
    let value = |samples| Value::time(first_byte(samples, q));
    Row::shown(&format!("first byte, {name}"), fault, value(gateway), value(quay))
        .with_failures(gateway, quay)
}

/// From the fault on, the moment from which on first bytes are as before: of the requests begun
/// later at most one of a hundred is late or fails, as of the healthy ones. `None` where there is
/// no such moment.
fn avoided(course: &Course, side: &Side) -> Option<Duration> {
    let healthy = first_byte(&side.healthy, 0.99)?.mul_f64(LATE);
    let mut samples: Vec<&Sample> = side.struck.iter().collect();
    samples.sort_unstable_by_key(|sample| std::cmp::Reverse(sample.began));
    let (mut late, mut avoided) = (0, None);
    for (later, sample) in samples.iter().enumerate() {
        if sample.answered().is_none_or(|after| after > healthy) {
            late += 1;
        }
        // As many as one of a hundred, rounded up: a short outage has few requests after it.
        if late > (later + 1).div_ceil(100) {
            // Of fewer than a hundred requests a share says nothing: it had not ended.
            return avoided.filter(|_| later >= 100);
        }
        avoided = Some(sample.began.saturating_duration_since(course.struck));
    }
    avoided
}

/// Home takes ten times as long for the first byte, and for each one after.
pub(crate) async fn brown_out(stage: &Stage, arguments: &Arguments) -> Result<Vec<Row>> {
    let slows = async |stage: &Stage| {
        stage.home().set(|faults| {
            faults.latency *= SLOWER;
            faults.bandwidth = faults.bandwidth.map(|rate| rate / u64::from(SLOWER));
        });
    };
    let course = under(stage, arguments, "brown-out", slows).await?;
    let fault = "10x slower";
    let settled = |side: &Side| -> Vec<Sample> {
        side.struck.iter().filter(|sample| sample.began >= course.struck + SETTLED).cloned().collect()
    };
    let ratio = |side: &Side| {
        let (healthy, now) = (first_byte(&side.healthy, 0.99), first_byte(&settled(side), 0.99));
        Value::ratio(now.zip(healthy).map(|(now, healthy)| now.as_secs_f64() / healthy.as_secs_f64()))
    };
    let asked = |from| course.gateway.struck.iter().filter(|sample| sample.began >= from).count();
    let extra = |from| {
        let reads = course.reads.iter().filter(|at| **at >= from).count();
        percent(reads as f64 - asked(from) as f64, asked(from))
    };
    let (struck, known) = (course.struck, course.struck + SETTLED);
    let (gateway, quay) = (settled(&course.gateway), settled(&course.quay));
    Ok(vec![
        first_bytes("p99, from 2 s on", fault, 0.99, (&gateway, &quay)),
        Row::shown("brown-out: that by the healthy p99", fault, ratio(&course.gateway), ratio(&course.quay))
            .with_goal(BROWN_OUT_GOAL)
            .with_failures(&course.gateway.struck, &course.quay.struck),
        Row::shown("brown-out: hedges", fault, percent(course.hedges as f64, asked(struck)), Value::None)
            .with_goal(EXTRA_GOAL),
        Row::shown("brown-out: extra requests, from 2 s on", fault, extra(known), Value::None)
            .with_goal(EXTRA_GOAL),
        Row::shown("brown-out: extra requests, from the onset on", fault, extra(struck), Value::None),
        Row::shown("brown-out: home is out of use", fault, Value::time(course.ejected), Value::None),
        Row::shown("brown-out: last read from home", fault, Value::time(course.last_read), Value::None),
    ])
}

/// A part of all.
fn percent(part: f64, all: usize) -> Value {
    Value::Percent(part / all.max(1) as f64 * 100.0)
}
