//! Decides whether a zone may be retired. Pure.

use std::fmt::Write as _;
use std::path::Path;

use bytesize::ByteSize;
use serde::Serialize;

use super::report::ZoneQueue;
use crate::audit::{Count, Finding, FindingKind, Tally, UniqueObjects, printable};

/// The reasons against retiring a zone.
#[derive(Debug)]
pub struct Retirement {
    zone: String,
    others: Vec<String>,
    /// Blobs in this zone that are missing in another zone or have other bytes there.
    only_here: Count,
    /// The first of those blobs, and where they are missing or differ.
    first: Vec<(String, String)>,
    waiting: u64,
    parked: u64,
    at_risk: u64,
    /// Blobs that were compared, in all zones.
    compared: u64,
    /// Blobs that were compared, in this zone.
    here: u64,
    /// Whether the operator said that the zone has no blobs.
    empty: bool,
    /// Blobs that were written too recently to be compared.
    recent: u64,
    /// Objects that are not blobs and are only in this zone.
    unique_objects: Vec<UniqueObjects>,
}

/// The answer as data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RetirementReport {
    /// The zone.
    pub zone: String,
    /// Whether it may be retired.
    pub allowed: bool,
    /// The zones that must have every blob of it.
    pub others: Vec<String>,
    /// Blobs that were compared, in all zones.
    pub compared: u64,
    /// Blobs that were compared, in this zone.
    pub blobs: u64,
    /// Copies of blobs that are missing or differ in other zones.
    pub only_here: Count,
    /// The first of them.
    pub examples: Vec<RetirementExample>,
    /// Objects that are not blobs and are only in this zone.
    pub unique_objects: Vec<UniqueObjects>,
    /// Blobs that were written too recently to be compared.
    pub recent: u64,
    /// Pending copies into the zone.
    pub waiting: u64,
    /// Parked copies into the zone.
    pub parked: u64,
    /// Blobs that are being copied and that only this zone has.
    pub at_risk_blobs: u64,
    /// The file that lists all findings.
    pub findings: String,
}

/// A blob that other zones lack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RetirementExample {
    /// The blob.
    pub name: String,
    /// Where it is missing or differs.
    pub what: String,
}

impl Retirement {
    /// Begins without reasons. `others` must have every blob that `zone` has.
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
            compared: 0,
            here: 0,
            empty: false,
            recent: 0,
            unique_objects: Vec::new(),
        }
    }

    /// Sets what the audit compared. `empty` says that the zone has no blobs. Without it, a zone without blobs
    /// may not be retired, because its store may not be mounted or may be another.
    pub fn compared(&mut self, tally: &Tally, empty: bool) {
        let here = tally.zones.iter().find(|zone| zone.name == self.zone);
        self.here = here.map_or(0, |zone| zone.blobs.objects);
        (self.compared, self.recent, self.empty) = (tally.blobs.objects, tally.recent, empty);
    }

    /// Sets the objects that are not blobs and are only in this zone.
    pub fn set_unique_objects(&mut self, unique_objects: Vec<UniqueObjects>) {
        self.unique_objects = unique_objects;
    }

    /// Adds a finding of the audit. The first `shown` are kept for the output.
    pub fn add_finding(&mut self, finding: &Finding, shown: usize) {
        let here = finding.has.contains(&self.zone);
        let counts = match finding.kind {
            // A blob counts once, and not once for each zone.
            FindingKind::SizesDiffer => finding.zone == self.zone,
            kind => kind.is_wrong() && finding.zone != self.zone,
        };
        if !here || !counts {
            return;
        }
        self.only_here.add(finding.bytes());
        if self.first.len() < shown {
            let what = match finding.kind {
                FindingKind::Missing => format!("missing in {}", finding.zone),
                FindingKind::SizesDiffer => {
                    finding.detail.clone().unwrap_or_else(|| "sizes differ".to_owned())
                }
                kind => format!("{} in {}", kind.as_str(), finding.zone),
            };
            self.first.push((finding.name(), what));
        }
    }

    /// Sets the zone's queue at the running gateway.
    pub fn set_queue(&mut self, queue: &ZoneQueue) {
        self.waiting = queue.waiting;
        self.parked = queue.parked;
        self.at_risk = queue.at_risk_blobs.unwrap_or(0);
    }

    /// Whether the zone may be retired.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        let all_seen = self.recent == 0 && self.unique_objects.is_empty() && (self.here > 0 || self.empty);
        let none_owed = self.waiting == 0 && self.parked == 0 && self.at_risk == 0;
        self.only_here.objects == 0 && all_seen && none_owed
    }

    /// The answer as data. `findings` is the file that lists all findings.
    #[must_use]
    pub fn report(&self, findings: &Path) -> RetirementReport {
        let example =
            |(name, what): &(String, String)| RetirementExample { name: name.clone(), what: what.clone() };
        RetirementReport {
            zone: self.zone.clone(),
            allowed: self.is_allowed(),
            others: self.others.clone(),
            compared: self.compared,
            blobs: self.here,
            only_here: self.only_here,
            examples: self.first.iter().map(example).collect(),
            unique_objects: self.unique_objects.clone(),
            recent: self.recent,
            waiting: self.waiting,
            parked: self.parked,
            at_risk_blobs: self.at_risk,
            findings: findings.display().to_string(),
        }
    }

    /// The answer as text. `findings` is the file that lists all findings.
    #[must_use]
    pub fn text(&self, findings: &Path) -> String {
        let (zone, others) = (&self.zone, self.others.join(", "));
        if self.is_allowed() {
            return format!(
                "yes: everything in {zone} is also in {others}, and no copies are pending; {} blobs in {zone} were \
                 compared by their sizes\n\nnext: run `quay-gateway audit --deep 100%` first if {others} may hold wrong \
                 bytes, because this reads no blob; then remove {zone} from Quay's preference, so that no push goes there, and run this \
                 again; then run `python -m util.removelocation {zone}` in Quay, and remove {zone} from \
                 DISTRIBUTED_STORAGE_CONFIG. Its store keeps its objects\n",
                self.here
            );
        }
        let mut text = String::new();
        for (name, what) in &self.first {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{}  {}", printable(name), printable(what));
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
                " {objects} copies of blobs in {zone}, {bytes}, are missing or differ in {others};"
            );
        }
        if self.at_risk > 0 {
            let _ = write!(text, " {} blobs that are being copied are only in {zone};", self.at_risk);
        }
        if self.waiting + self.parked > 0 {
            let _ = write!(
                text,
                " {} copies into it are pending, {} of them parked;",
                self.waiting + self.parked,
                self.parked
            );
        }
        text.push_str(&self.unknown());
        let _ = writeln!(
            text,
            "\n\nnext: `quay-gateway zones drain {zone}` stops reads from it; `quay-gateway heal` copies what other \
             zones lack; `quay-gateway queue` shows the progress; then run this again"
        );
        text
    }

    /// The reasons that a copy of the gateway does not remove.
    fn unknown(&self) -> String {
        let mut text = String::new();
        if self.here == 0 && !self.empty {
            // Writing to a string does not fail.
            let _ = write!(
                text,
                " no blob was found in {} ({} in all zones): check that this is its store, and that it is mounted; \
                 if it never had any blob, give --empty;",
                self.zone, self.compared
            );
        }
        if self.recent > 0 {
            let _ = write!(text, " {} blobs were written too recently to be compared;", self.recent);
        }
        for UniqueObjects { prefix, count } in &self.unique_objects {
            let (objects, bytes) = (count.objects, ByteSize(count.bytes));
            let _ = write!(
                text,
                " {objects} objects below {prefix}, {bytes}, are only in {} and are not blobs: copy them by hand;",
                self.zone
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use backends::Digest;

    use super::*;

    fn finding(kind: FindingKind, zone: &str, has: &[&str]) -> Finding {
        let mut finding = Finding::of(kind, zone, Digest::EMPTY, Some(7));
        finding.has = has.iter().map(|zone| (*zone).to_owned()).collect();
        finding
    }

    fn retirement(findings: &[Finding]) -> Retirement {
        let mut retirement = Retirement::new("a", &["b".to_owned(), "c".to_owned()]);
        findings.iter().for_each(|finding| retirement.add_finding(finding, 1));
        retirement.compared(&tally(7, 0), false);
        retirement
    }

    fn tally(here: u64, recent: u64) -> Tally {
        let mut tally = Tally::new([("b", true), ("a", false)].into_iter());
        tally.zones[0].blobs = Count { objects: 9, bytes: 9 };
        tally.zones[1].blobs = Count { objects: here, bytes: here };
        (tally.blobs, tally.recent) = (Count { objects: 9, bytes: 9 }, recent);
        tally
    }

    #[test]
    fn uncompared_blobs_are_a_reason_against_it() {
        for (here, recent, empty, is_allowed, why) in [
            (7, 0, false, true, "7 blobs in a were compared by their sizes"),
            (7, 0, false, true, "run `quay-gateway audit --deep 100%` first"),
            (0, 0, false, false, "no blob was found in a (9 in all zones)"),
            (0, 0, true, true, "0 blobs in a were compared"),
            (7, 1, false, false, "1 blobs were written too recently"),
        ] {
            let mut retirement = retirement(&[]);
            retirement.compared(&tally(here, recent), empty);
            let text = retirement.text(Path::new("f"));
            assert_eq!((retirement.is_allowed(), text.contains(why)), (is_allowed, true), "{text}");
        }
        let mut retirement = retirement(&[]);
        retirement.set_unique_objects(vec![UniqueObjects {
            prefix: "userfiles/",
            count: Count { objects: 2, bytes: 5 },
        }]);
        let text = retirement.text(Path::new("f"));
        assert!(
            !retirement.is_allowed() && text.contains("2 objects below userfiles/, 5 B, are only in a"),
            "{text}"
        );
    }

    #[test]
    fn names_cannot_control_the_terminal() {
        let mut finding = finding(FindingKind::SizesDiffer, "a", &["a", "b"]);
        finding.detail = Some("\u{1b}[2J".to_owned());
        let text = retirement(&[finding]).text(Path::new("f"));
        assert!(text.contains("?[2J"), "{text:?}");
    }

    #[test]
    fn only_blobs_of_the_zone_are_a_reason_against_it() {
        let others = [
            finding(FindingKind::Missing, "c", &["b"]),
            finding(FindingKind::Missing, "a", &["b", "c"]),
            finding(FindingKind::Empty, "a", &["a", "b", "c"]),
            finding(FindingKind::SizesDiffer, "b", &["b", "c"]),
            finding(FindingKind::Orphan, "b", &["a", "b"]),
        ];
        let nothing = retirement(&others);
        assert!(nothing.is_allowed() && nothing.text(Path::new("f")).starts_with("yes: "), "{nothing:?}");
        let differ = ["a", "b", "c"].map(|zone| finding(FindingKind::SizesDiffer, zone, &["a", "b", "c"]));
        let speak =
            [finding(FindingKind::Missing, "c", &["a"]), finding(FindingKind::Empty, "b", &["a", "b"])];
        let all = retirement(&[&differ[..], &speak].concat());
        assert!(!all.is_allowed());
        let report = all.report(Path::new("file"));
        assert_eq!((report.allowed, report.only_here.objects, report.examples.len()), (false, 3, 1));
        let text = all.text(Path::new("file"));
        assert!(
            text.contains("no: 3 copies of blobs in a, 21 B, are")
                && text.contains("2 more: all of them are in file"),
            "{text}"
        );
    }

    #[test]
    fn pending_copies_are_a_reason_against_it() {
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
        for (waiting, parked, at_risk, is_allowed) in
            [(0, 0, 0, true), (1, 0, 0, false), (0, 1, 0, false), (0, 0, 1, false)]
        {
            let mut retirement = retirement(&[]);
            retirement.set_queue(&queue(waiting, parked, at_risk));
            assert_eq!(retirement.is_allowed(), is_allowed, "{retirement:?}");
        }
    }
}
