//! Whether a zone may be given up. Pure.

use std::fmt::Write as _;
use std::path::Path;

use bytesize::ByteSize;

use super::report::ZoneQueue;
use crate::audit::{Count, Finding, Kind};

/// What speaks against giving a zone up.
#[derive(Debug)]
pub struct Retirement {
    zone: String,
    others: Vec<String>,
    /// Blobs here of which another zone has none, or other bytes.
    only_here: Count,
    /// The first of them, and where they are missing or differ.
    first: Vec<(String, String)>,
    waiting: u64,
    parked: u64,
    at_risk: u64,
}

impl Retirement {
    /// Nothing, so far; `others` should have all that `zone` has.
    #[must_use]
    pub fn new(zone: &str, others: &[String]) -> Self {
        Self {
            zone: zone.to_owned(),
            others: others.to_vec(),
            only_here: Count::default(),
            first: Vec::new(),
            waiting: 0,
            parked: 0,
            at_risk: 0,
        }
    }

    /// Something that an inventory of all these zones found; the first are kept for showing.
    pub fn take(&mut self, finding: &Finding, shown: usize) {
        let here = finding.has.contains(&self.zone);
        let speaks = match finding.kind {
            // Once a blob, not once a zone.
            Kind::SizesDiffer => finding.zone == self.zone,
            kind => kind.is_wrong() && finding.zone != self.zone,
        };
        if !here || !speaks {
            return;
        }
        self.only_here.add(finding.bytes());
        if self.first.len() < shown {
            let what = match finding.kind {
                Kind::Missing => format!("missing in {}", finding.zone),
                Kind::SizesDiffer => finding.told.clone().unwrap_or_else(|| "sizes differ".to_owned()),
                kind => format!("{} in {}", kind.as_str(), finding.zone),
            };
            self.first.push((finding.name(), what));
        }
    }

    /// What the running gateway has queued.
    pub fn owes(&mut self, queue: &ZoneQueue) {
        self.waiting = queue.waiting;
        self.parked = queue.parked;
        self.at_risk = queue.at_risk_blobs.unwrap_or(0);
    }

    /// Whether nothing speaks against it.
    #[must_use]
    pub fn may(&self) -> bool {
        self.only_here.objects == 0 && self.waiting == 0 && self.parked == 0 && self.at_risk == 0
    }

    /// In words; where all of them are listed.
    #[must_use]
    pub fn text(&self, findings: &Path) -> String {
        let (zone, others) = (&self.zone, self.others.join(", "));
        if self.may() {
            return format!(
                "yes: all that {zone} has is in {others} too, and no copies are owed\n\nnext: take {zone} out of \
                 Quay's preference, so that no push goes there, and run this again; then `python -m \
                 util.removelocation {zone}` in Quay, and out of DISTRIBUTED_STORAGE_CONFIG. Its store keeps its \
                 objects\n"
            );
        }
        let mut text = String::new();
        for (name, what) in &self.first {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name}  {what}");
        }
        let more = self.only_here.objects.saturating_sub(self.first.len() as u64);
        if more > 0 {
            let _ = writeln!(text, "… and {more} more: all of them are in {}", findings.display());
        }
        let _ = write!(text, "no:");
        if self.only_here.objects > 0 {
            let (objects, bytes) = (self.only_here.objects, ByteSize(self.only_here.bytes));
            let _ = write!(
                text,
                " {objects} copies of what {zone} has, {bytes}, are missing or differ in {others};"
            );
        }
        if self.at_risk > 0 {
            let _ = write!(text, " {} blobs that are being copied are in {zone} alone;", self.at_risk);
        }
        if self.waiting + self.parked > 0 {
            let _ = write!(
                text,
                " {} copies are owed to it, {} of them parked;",
                self.waiting + self.parked,
                self.parked
            );
        }
        let _ = writeln!(
            text,
            "\n\nnext: `quay-gateway zones drain {zone}`, so that nothing reads there; `quay-gateway heal` copies what \
             others lack; `quay-gateway queue` shows how far that is; then this again"
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use backends::Digest;

    use super::*;

    fn finding(kind: Kind, zone: &str, has: &[&str]) -> Finding {
        let mut finding = Finding::of(kind, zone, Digest::EMPTY, Some(7));
        finding.has = has.iter().map(|zone| (*zone).to_owned()).collect();
        finding
    }

    fn retirement(findings: &[Finding]) -> Retirement {
        let mut retirement = Retirement::new("a", &["b".to_owned(), "c".to_owned()]);
        findings.iter().for_each(|finding| retirement.take(finding, 1));
        retirement
    }

    #[test]
    fn only_what_the_zone_has_speaks_against_it() {
        let others = [
            finding(Kind::Missing, "c", &["b"]),
            finding(Kind::Missing, "a", &["b", "c"]),
            finding(Kind::Empty, "a", &["a", "b", "c"]),
            finding(Kind::SizesDiffer, "b", &["b", "c"]),
            finding(Kind::Orphan, "b", &["a", "b"]),
        ];
        let nothing = retirement(&others);
        assert!(nothing.may() && nothing.text(Path::new("f")).starts_with("yes: "), "{nothing:?}");
        let differ = ["a", "b", "c"].map(|zone| finding(Kind::SizesDiffer, zone, &["a", "b", "c"]));
        let speak = [finding(Kind::Missing, "c", &["a"]), finding(Kind::Empty, "b", &["a", "b"])];
        let all = retirement(&[&differ[..], &speak].concat());
        assert!(!all.may());
        let text = all.text(Path::new("file"));
        assert!(
            text.contains("no: 3 copies of what a has, 21 B, are")
                && text.contains("2 more: all of them are in file"),
            "{text}"
        );
    }

    #[test]
    fn what_is_owed_speaks_against_it() {
        let queue = |waiting, parked, at_risk| ZoneQueue {
            zone: "a".to_owned(),
            configured: true,
            unusable: None,
            waiting,
            waiting_bytes: 0,
            oldest_seconds: None,
            failing: 0,
            attempts: 0,
            active: 0,
            parked,
            parked_bytes: 0,
            last_error: None,
            copies_per_second: 0.0,
            bytes_per_second: 0.0,
            eta_seconds: None,
            at_risk_blobs: Some(at_risk),
            at_risk_bytes: Some(0),
        };
        for (waiting, parked, at_risk, may) in
            [(0, 0, 0, true), (1, 0, 0, false), (0, 1, 0, false), (0, 0, 1, false)]
        {
            let mut retirement = retirement(&[]);
            retirement.owes(&queue(waiting, parked, at_risk));
            assert_eq!(retirement.may(), may, "{retirement:?}");
        }
    }
}
