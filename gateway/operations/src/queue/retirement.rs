//! Whether a zone may be given up. Pure.

use std::fmt::Write as _;
use std::path::Path;

use bytesize::ByteSize;

use super::report::ZoneQueue;
use crate::audit::{Alone, Count, Finding, Kind, Tally, printable};

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
    /// Blobs that were compared, in all these zones, and those here.
    compared: u64,
    here: u64,
    /// Whether the zone may have nothing.
    empty: bool,
    /// Blobs that were too young to say anything of them.
    recent: u64,
    /// What is no blob, and only here.
    alone: Vec<Alone>,
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
            compared: 0,
            here: 0,
            empty: false,
            recent: 0,
            alone: Vec::new(),
        }
    }

    /// What was compared; `empty` is whether the zone may have nothing: a store that is not mounted, or
    /// another's, has nothing either.
    pub fn compared(&mut self, tally: &Tally, empty: bool) {
        let here = tally.zones.iter().find(|zone| zone.name == self.zone);
        self.here = here.map_or(0, |zone| zone.blobs.objects);
        (self.compared, self.recent, self.empty) = (tally.blobs.objects, tally.recent, empty);
    }

    /// What lies here alone that is no blob.
    pub fn beside(&mut self, alone: Vec<Alone>) {
        self.alone = alone;
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
        let all_seen = self.recent == 0 && self.alone.is_empty() && (self.here > 0 || self.empty);
        let none_owed = self.waiting == 0 && self.parked == 0 && self.at_risk == 0;
        self.only_here.objects == 0 && all_seen && none_owed
    }

    /// In words; where all of them are listed.
    #[must_use]
    pub fn text(&self, findings: &Path) -> String {
        let (zone, others) = (&self.zone, self.others.join(", "));
        if self.may() {
            return format!(
                "yes: all that {zone} has is in {others} too, and no copies are owed; {} blobs of it were \
                 compared\n\nnext: take {zone} out of \
                 Quay's preference, so that no push goes there, and run this again; then `python -m \
                 util.removelocation {zone}` in Quay, and out of DISTRIBUTED_STORAGE_CONFIG. Its store keeps its \
                 objects\n",
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
        text.push_str(&self.unknown());
        let _ = writeln!(
            text,
            "\n\nnext: `quay-gateway zones drain {zone}`, so that nothing reads there; `quay-gateway heal` copies what \
             others lack; `quay-gateway queue` shows how far that is; then this again"
        );
        text
    }

    /// What is not known well enough for a yes, or no copy of the gateway's mends.
    fn unknown(&self) -> String {
        let mut text = String::new();
        if self.here == 0 && !self.empty {
            // Writing to a string does not fail.
            let _ = write!(
                text,
                " no blob was found in {} ({} in all zones): is this its store, and is it mounted? If it never had \
                 any, say --empty;",
                self.zone, self.compared
            );
        }
        if self.recent > 0 {
            let _ = write!(text, " {} blobs were too young to be compared;", self.recent);
        }
        for Alone { prefix, count } in &self.alone {
            let (objects, bytes) = (count.objects, ByteSize(count.bytes));
            let _ = write!(
                text,
                " {objects} objects below {prefix}, {bytes}, are in {} alone, and are no blobs: copy them by hand;",
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

    fn finding(kind: Kind, zone: &str, has: &[&str]) -> Finding {
        let mut finding = Finding::of(kind, zone, Digest::EMPTY, Some(7));
        finding.has = has.iter().map(|zone| (*zone).to_owned()).collect();
        finding
    }

    fn retirement(findings: &[Finding]) -> Retirement {
        let mut retirement = Retirement::new("a", &["b".to_owned(), "c".to_owned()]);
        findings.iter().for_each(|finding| retirement.take(finding, 1));
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
    fn what_was_not_seen_speaks_against_it() {
        for (here, recent, empty, may, why) in [
            (7, 0, false, true, "7 blobs of it were compared"),
            (0, 0, false, false, "no blob was found in a (9 in all zones)"),
            (0, 0, true, true, "0 blobs of it were compared"),
            (7, 1, false, false, "1 blobs were too young"),
        ] {
            let mut retirement = retirement(&[]);
            retirement.compared(&tally(here, recent), empty);
            let text = retirement.text(Path::new("f"));
            assert_eq!((retirement.may(), text.contains(why)), (may, true), "{text}");
        }
        let mut retirement = retirement(&[]);
        retirement.beside(vec![Alone { prefix: "userfiles/", count: Count { objects: 2, bytes: 5 } }]);
        let text = retirement.text(Path::new("f"));
        assert!(
            !retirement.may() && text.contains("2 objects below userfiles/, 5 B, are in a alone"),
            "{text}"
        );
    }

    #[test]
    fn names_do_not_steer_the_terminal() {
        let mut finding = finding(Kind::SizesDiffer, "a", &["a", "b"]);
        finding.told = Some("\u{1b}[2J".to_owned());
        let text = retirement(&[finding]).text(Path::new("f"));
        assert!(text.contains("?[2J"), "{text:?}");
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
