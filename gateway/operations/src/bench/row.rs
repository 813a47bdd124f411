//! Summarizes the reads of one path and size class. Pure.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use zone_router::SizeClass;

use super::read::{Read, ReadOutcome, Series};
use super::statistics::Spread;

/// The results of one size class by one path. Times are in milliseconds and only of right reads.
#[derive(Debug, Clone)]
pub struct Row {
    /// The series.
    pub series: Series,
    /// The size class.
    pub class: SizeClass,
    /// Reads that returned the right bytes.
    pub right: usize,
    /// Reads of blobs that the zone does not have.
    pub absent: usize,
    /// Reads that failed.
    pub failed: usize,
    /// Reads that returned wrong bytes.
    pub wrong: usize,
    /// Reads from the gateway's cache.
    pub hits: usize,
    /// The time from the request to the first byte.
    pub first_byte: Option<Spread>,
    /// The time from the request to the last byte.
    pub whole: Option<Spread>,
    /// Millions of bytes a second: all bytes divided by the time of all turns, including connecting.
    pub rate: Option<f64>,
    /// The median time to the first byte relative to the registry's own path. Below 1 is sooner.
    pub first_byte_ratio: Option<f64>,
    /// The rate relative to the registry's own path. Above 1 is faster.
    pub rate_ratio: Option<f64>,
}

impl Row {
    /// All reads.
    #[must_use]
    pub fn reads(&self) -> usize {
        self.right + self.absent + self.failed + self.wrong
    }
}

/// A row for each size class and path, in this order. A path of the gateway has a row only if there were reads.
pub(super) fn rows(reads: &[Read], classes: &[SizeClass], paths: &[Series]) -> Vec<Row> {
    let mut rows = Vec::new();
    for class in classes {
        let of_class: Vec<_> = reads.iter().filter(|read| read.class == *class).collect();
        let mut of: Vec<Row> = paths
            .iter()
            .map(|series| row(series, *class, of_class.iter().copied().filter(|read| read.series == *series)))
            .filter(|row| row.reads() > 0 || !row.series.is_gateway())
            .collect();
        let base = of.iter().find(|row| row.series == Series::Registry).cloned();
        for row in of.iter_mut().filter(|row| row.series != Series::Registry) {
            let base = base.as_ref();
            let medians = (row.first_byte, base.and_then(|base| base.first_byte));
            row.first_byte_ratio = ratio(medians.0.map(|of| of.p50), medians.1.map(|of| of.p50));
            row.rate_ratio = ratio(row.rate, base.and_then(|base| base.rate));
        }
        rows.extend(of);
    }
    rows
}

fn ratio(of: Option<f64>, to: Option<f64>) -> Option<f64> {
    Some(of? / to.filter(|to| *to > 0.0)?)
}

fn row<'a>(series: &Series, class: SizeClass, reads: impl Iterator<Item = &'a Read>) -> Row {
    let reads: Vec<_> = reads.collect();
    let right: Vec<_> = reads.iter().copied().filter(|read| read.outcome == ReadOutcome::Right).collect();
    let count = |wanted: fn(&ReadOutcome) -> bool| reads.iter().filter(|read| wanted(&read.outcome)).count();
    Row {
        series: series.clone(),
        class,
        right: right.len(),
        absent: count(|outcome| *outcome == ReadOutcome::Absent),
        failed: count(|outcome| matches!(outcome, ReadOutcome::Failed(_))),
        wrong: count(|outcome| *outcome == ReadOutcome::Wrong),
        hits: right.iter().filter(|read| read.is_hit()).count(),
        first_byte: Spread::of(right.iter().filter_map(|read| read.first_byte).map(milliseconds)),
        whole: Spread::of(right.iter().map(|read| milliseconds(read.whole))),
        rate: rate(&right),
        first_byte_ratio: None,
        rate_ratio: None,
    }
}

/// The rate. Reads of one turn run at the same time, so a turn takes as long as its slowest read.
fn rate(reads: &[&Read]) -> Option<f64> {
    let mut turns: BTreeMap<u32, Duration> = BTreeMap::new();
    for read in reads {
        let longest = turns.entry(read.turn).or_default();
        *longest = read.whole.max(*longest);
    }
    let seconds = turns.values().sum::<Duration>().as_secs_f64();
    let bytes: u64 = reads.iter().map(|read| read.bytes).sum();
    (seconds > 0.0).then(|| bytes as f64 / seconds / 1e6)
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The failures: the path, the error, and how often it occurred; the most frequent first.
pub(super) fn failures(reads: &[Read]) -> Vec<(Series, String, usize)> {
    let mut counts: HashMap<(Series, String), usize> = HashMap::new();
    for read in reads.iter().filter(|read| read.went_wrong()) {
        let error = match &read.outcome {
            ReadOutcome::Failed(why) => without_ids(why, &read.digest.hex()),
            _ => "wrong bytes".to_owned(),
        };
        *counts.entry((read.series.clone(), error)).or_default() += 1;
    }
    let mut found: Vec<_> =
        counts.into_iter().map(|((series, error), count)| (series, error, count)).collect();
    found.sort_by(|(_, a, first), (_, b, second)| second.cmp(first).then_with(|| a.cmp(b)));
    found
}

/// The error without what differs from read to read: the blob and the request id.
fn without_ids(error: &str, hex: &str) -> String {
    // Stores name the key, in which the digest's first byte is also a folder.
    let error = error.replace(&format!("{}/{hex}", hex.get(..2).unwrap_or_default()), "…").replace(hex, "…");
    match error.split_once(" [request ") {
        Some((before, rest)) => format!("{before}{}", rest.split_once(']').map_or("", |(_, after)| after)),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::super::read::example;
    use super::*;

    const SMALL: &[SizeClass] = &[SizeClass::Small];

    #[test]
    fn times_are_of_right_reads_and_relative_to_the_registrys() {
        let zone = Series::Zone("a".into());
        let mut reads = vec![
            example(Series::Registry, SizeClass::Small, 1, 100, 1_000_000),
            example(Series::Registry, SizeClass::Small, 2, 100, 1_000_000),
            example(zone.clone(), SizeClass::Small, 3, 50, 1_000_000),
            example(zone.clone(), SizeClass::Large, 4, 7, 1),
        ];
        let slow = example(zone.clone(), SizeClass::Small, 5, 9000, 9);
        reads.push(Read { outcome: ReadOutcome::Failed("x".into()), ..slow.clone() });
        reads.push(Read { outcome: ReadOutcome::Wrong, ..slow.clone() });
        reads.push(Read { outcome: ReadOutcome::Absent, ..slow });
        let rows = rows(&reads, SMALL, &[zone.clone(), Series::Registry, Series::GatewayFirst]);
        let [row, base] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((row.right, row.failed, row.wrong, row.absent, row.reads()), (1, 1, 1, 1, 4));
        assert_eq!(row.first_byte.map(|of| (of.p50, of.max)), Some((25.0, 25.0)));
        assert_eq!((row.first_byte_ratio, row.rate_ratio), (Some(0.5), Some(2.0)));
        assert_eq!((base.rate, base.rate_ratio), (Some(10.0), None));
    }

    #[test]
    fn reads_at_once_count_their_time_once() {
        let at_once = [40, 50].map(|ms| example(Series::Registry, SizeClass::Small, 1, ms, 1_000_000));
        let next = example(Series::Registry, SizeClass::Small, 2, 50, 1_000_000);
        let rows = rows(&[&at_once[..], &[next]].concat(), SMALL, &[Series::Registry]);
        assert_eq!(rows[0].rate, Some(30.0));
    }

    #[test]
    fn like_failures_are_one() {
        let read = |text: &str, error: &str| {
            let digest = backends::Digest::of(text.as_bytes());
            let outcome = ReadOutcome::Failed(format!(
                "get sha256/{}/{}: {error} [request {text}]: gone",
                &digest.hex()[..2],
                digest.hex()
            ));
            Read { digest, outcome, ..example(Series::Registry, SizeClass::Small, 1, 1, 1) }
        };
        let found = failures(&[read("a", "slow"), read("a", "dead"), read("b", "dead")]);
        assert_eq!(found.iter().map(|(.., count)| *count).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(found[0].1, "get sha256/…: dead: gone");
    }
}
