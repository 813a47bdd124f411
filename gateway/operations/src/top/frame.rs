//! Makes a frame of two samples. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use bytesize::ByteSize;
use comfy_table::Cell;

use super::sample::TopSample;
use crate::audit::printable;
use crate::reports::{HIT, SourceReport};
use crate::zones::{ZoneReport, age, quantiles, state_cell};

const ZONE_HEADERS: &[&str] =
    &["zone", "state", "p50/p95 ms", "reads/s", "share", "MB/s", "hedges/s", "queue"];

const SOURCE_HEADERS: &[&str] = &["blobs from", "a second", "MB/s", "since the start", "bytes"];

/// What stands where there is no value.
const NONE: &str = "–";

/// One frame. Rates and ratios are those between the two samples; they are not shown if no time lies between them, or
/// if the gateway was started again.
#[must_use]
pub fn frame(before: &TopSample, now: &TopSample) -> String {
    let elapsed = Elapsed::between(before, now);
    let mut text = String::new();
    let requests = elapsed.rate(before.traffic.requests, now.traffic.requests);
    // Writing to a string does not fail.
    let _ =
        writeln!(text, "requests     {} a second, {} since the start", shown(requests), now.traffic.requests);
    text.push_str(&cache(before, now));
    text.push_str(&certificates(now));
    let _ = write!(text, "\n{}\n{}\n", zones(before, now, elapsed), sources(before, now, elapsed));
    for zone in now.zones.zones.iter() {
        if let Some(reason) = &zone.reason {
            let _ = writeln!(text, "zone {}: {}: {}", printable(&zone.name), zone.state, printable(reason));
        }
    }
    if now.zones.all_ejected {
        text.push_str("EVERY ZONE IS OUT OF USE: reads try the zone that failed least recently\n");
    }
    text
}

/// The time between two samples, if rates can be computed.
#[derive(Clone, Copy)]
struct Elapsed(Option<Duration>);

impl Elapsed {
    fn between(before: &TopSample, now: &TopSample) -> Self {
        let is_same_run = now.traffic.requests >= before.traffic.requests;
        Self(now.at.checked_sub(before.at).filter(|elapsed| is_same_run && !elapsed.is_zero()))
    }

    /// How fast a count grew, a second.
    fn rate(self, before: u64, now: u64) -> Option<f64> {
        Some(now.checked_sub(before)? as f64 / self.0?.as_secs_f64())
    }
}

fn cache(before: &TopSample, now: &TopSample) -> String {
    let (old, new) = (&before.cache, &now.cache);
    let ratio = |hits: Option<u64>, misses: Option<u64>| match (hits, misses) {
        (Some(hits), Some(misses)) if (hits, misses) != (0, 0) => percent(hits, hits.saturating_add(misses)),
        _ => NONE.to_owned(),
    };
    let since = |old: u64, new: u64| new.checked_sub(old);
    let now_blobs = ratio(since(old.hits, new.hits), since(old.misses, new.misses));
    let now_bytes = ratio(since(old.hit_bytes, new.hit_bytes), since(old.miss_bytes, new.miss_bytes));
    format!(
        "cache        {} of {} ({}), {} blobs, {} fills\n\
         hit ratio    {now_blobs} of blobs, {now_bytes} of bytes; since the start {}, {}\n",
        ByteSize(new.bytes),
        ByteSize(new.capacity),
        percent(new.bytes, new.capacity),
        new.blobs,
        new.fills,
        ratio(Some(new.hits), Some(new.misses)),
        ratio(Some(new.hit_bytes), Some(new.miss_bytes)),
    )
}

fn certificates(now: &TopSample) -> String {
    let one = |(name, days): (&str, i64)| match days {
        ..0 => format!("{name} HAS EXPIRED"),
        days => format!("{name} for {days} days"),
    };
    let all = now.certificates.certificates.iter();
    let all: Vec<_> = all.map(|one| (&*one.name, one.days_left)).map(one).collect();
    format!("certificates {}\n", printable(&all.join(", ")))
}

fn zones(before: &TopSample, now: &TopSample, elapsed: Elapsed) -> String {
    let mut table = crate::table::with_headers(ZONE_HEADERS);
    let old = |zone: &ZoneReport| before.zones.zones.iter().find(|old| old.name == zone.name);
    let reads = |zone: &ZoneReport| zone.counts.reads.checked_sub(old(zone)?.counts.reads);
    let all: u64 = now.zones.zones.iter().filter_map(reads).sum();
    for zone in &now.zones.zones {
        let rate = |count: fn(&ZoneReport) -> u64| elapsed.rate(count(old(zone)?), count(zone));
        let share = reads(zone).filter(|_| all > 0).map(|reads| percent(reads, all));
        table.add_row([
            Cell::new(printable(&zone.name)),
            state_cell(zone),
            Cell::new(latency(zone)),
            Cell::new(shown(rate(|zone| zone.counts.reads))),
            Cell::new(share.unwrap_or_else(|| NONE.to_owned())),
            Cell::new(megabytes(rate(|zone| zone.counts.bytes))),
            Cell::new(shown(rate(|zone| zone.counts.hedged))),
            Cell::new(queue(zone)),
        ]);
    }
    table.to_string()
}

/// The times to the headers of the smallest blobs of which enough were read.
fn latency(zone: &ZoneReport) -> String {
    let class = zone.classes.iter().find(|class| class.p50.is_some());
    class.map_or_else(|| NONE.to_owned(), quantiles)
}

/// The pending copies, and how long the oldest has waited.
fn queue(zone: &ZoneReport) -> String {
    match (zone.copies_waiting, zone.lag_seconds) {
        (None, _) => "?".to_owned(),
        (Some(waiting), None) => waiting.to_string(),
        (Some(waiting), Some(lag)) => format!("{waiting}, {}", age(lag)),
    }
}

fn sources(before: &TopSample, now: &TopSample, elapsed: Elapsed) -> String {
    let mut table = crate::table::with_headers(SOURCE_HEADERS);
    for source in &now.traffic.sources {
        // A source is listed from its first body on.
        let old = before.traffic.sources.iter().find(|old| old.source == source.source);
        let rate = |count: fn(&SourceReport) -> u64| elapsed.rate(old.map_or(0, count), count(source));
        let name = if source.source == HIT { "cache" } else { &source.source };
        table.add_row([
            printable(name),
            shown(rate(|source| source.bodies)),
            megabytes(rate(|source| source.bytes)),
            source.bodies.to_string(),
            ByteSize(source.bytes).to_string(),
        ]);
    }
    table.to_string()
}

fn shown(rate: Option<f64>) -> String {
    rate.map_or_else(|| NONE.to_owned(), |rate| format!("{rate:.1}"))
}

fn megabytes(rate: Option<f64>) -> String {
    shown(rate.map(|rate| rate / 1e6))
}

fn percent(part: u64, all: u64) -> String {
    format!("{:.0} %", part as f64 / all.max(1) as f64 * 100.0)
}

#[cfg(test)]
mod tests;
