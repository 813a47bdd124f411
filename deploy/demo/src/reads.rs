//! The reads that reached the stores, from their own records. Probes do not count.

use ::harness::record::Seen;
use backends::Digest;

use crate::fixture::Fixture;
use crate::format;

/// A read of a blob that reached a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) zone: String,
    /// The first byte that was requested.
    pub(crate) from: u64,
}

/// Clears the records of all stores.
pub(crate) fn clear(fixture: &Fixture) {
    fixture.site.zones.iter().for_each(|zone| zone.proxy().record().clear());
}

/// The reads of a blob since [`clear`], in order.
pub(crate) fn of(fixture: &Fixture, digest: &Digest) -> Vec<Read> {
    let mut found: Vec<(&str, Seen)> = Vec::new();
    for zone in &fixture.site.zones {
        let seen = zone.proxy().record().reads(&digest.hex());
        found.extend(seen.into_iter().map(|seen| (zone.location().name.as_str(), seen)));
    }
    found.sort_by_key(|(_, seen)| seen.at);
    let read = |(zone, seen): (&str, Seen)| Read { zone: zone.to_owned(), from: first(seen.header("range")) };
    found.into_iter().map(read).collect()
}

/// The reads as text: `zone-a, from 48.0 MB on zone-b`.
pub(crate) fn describe(reads: &[Read]) -> String {
    let one = |read: &Read| match read.from {
        0 => read.zone.clone(),
        from => format!("from {} on {}", format::bytes(from), read.zone),
    };
    reads.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The first byte of `bytes=first-last`. A request without a range starts at 0.
fn first(range: &str) -> u64 {
    let number = range.strip_prefix("bytes=").and_then(|range| range.split('-').next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!((first("bytes=48-99"), first("bytes=7-"), first("")), (48, 7, 0));
    }

    #[test]
    fn reads_are_described() {
        let read = |zone: &str, from| Read { zone: zone.into(), from };
        assert_eq!(describe(&[read("a", 0), read("b", 48_000_000)]), "a, from 48.0 MB on b");
    }
}
