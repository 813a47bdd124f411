//! What is to be queued, of what an audit found. Pure, but for reading its file.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use backends::Digest;
use replication::Timetable;

use super::wire::AddJob;
use crate::audit::{Count, Finding, Findings, Kind};

/// A copy for every finding that one mends.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Zone by zone.
    pub zones: BTreeMap<String, Count>,
    /// Findings that count, those too that no copy mends.
    pub findings: u64,
    /// Of those that say that something is wrong, how many no copy mends, by kind.
    pub beyond: BTreeMap<Kind, u64>,
    /// Findings that a copy would mend, of blobs that the registry's records do not have: left alone.
    pub unknown: u64,
    /// Whether those are copied too.
    pub with_unknown: bool,
    /// Copies for findings of an inventory that did not ask the records.
    pub unasked: u64,
    /// Of the copies, those whose object is there, and Quay is to be told of it: nothing is moved.
    pub unplaced: u64,
    /// What names these findings: the digest of their file.
    pub digest: Option<Digest>,
    /// The zones that copies go to.
    targets: BTreeSet<String>,
    /// The one zone whose findings count, if not all do.
    only: Option<String>,
}

impl Plan {
    /// Of all these findings, with copies to these zones; `with_unknown`: also of what the registry's
    /// records do not have.
    ///
    /// # Errors
    /// Their file cannot be read.
    pub fn of(findings: Findings, targets: BTreeSet<String>, with_unknown: bool) -> anyhow::Result<Self> {
        Self { targets, with_unknown, ..Self::default() }.all_of(findings)
    }

    /// The same of the findings in this zone alone, with copies to it.
    ///
    /// # Errors
    /// Their file cannot be read.
    pub fn of_zone(findings: Findings, zone: &str, with_unknown: bool) -> anyhow::Result<Self> {
        let (targets, only) = (BTreeSet::from([zone.to_owned()]), Some(zone.to_owned()));
        Self { targets, only, with_unknown, ..Self::default() }.all_of(findings)
    }

    fn all_of(self, mut findings: Findings) -> anyhow::Result<Self> {
        let mut plan = self;
        for finding in findings.by_ref() {
            plan.take(&finding?);
        }
        plan.digest = Some(findings.digest());
        Ok(plan)
    }

    /// The copy that mends it, if one does that goes where copies go.
    #[must_use]
    pub fn job(&self, finding: &Finding) -> Option<AddJob> {
        let digest = finding.digest.filter(|_| finding.kind.is_mended_by_a_copy())?;
        (self.targets.contains(&finding.zone) && !self.leaves_alone(finding)).then(|| AddJob {
            digest: digest.to_string(),
            zone: finding.zone.clone(),
            // What was read and is wrong is to be read again, although its size may fit: no other size does.
            size: if finding.kind == Kind::WrongBytes { Some(0) } else { finding.expected },
        })
    }

    /// Whether it is of a blob that the registry does not have, and nobody asked for those.
    fn leaves_alone(&self, finding: &Finding) -> bool {
        finding.known == Some(false) && !self.with_unknown
    }

    fn take(&mut self, finding: &Finding) {
        if self.only.as_ref().is_some_and(|only| *only != finding.zone) {
            return;
        }
        self.findings += 1;
        if self.job(finding).is_some() {
            let unplaced = finding.kind == Kind::Unplaced;
            self.unplaced += u64::from(unplaced);
            let bytes = if unplaced { 0 } else { finding.bytes() };
            self.zones.entry(finding.zone.clone()).or_default().add(bytes);
            self.unasked += u64::from(finding.known.is_none());
        } else if self.leaves_alone(finding) {
            self.unknown += u64::from(finding.kind.is_mended_by_a_copy());
        } else if finding.kind.is_wrong() && !self.is_mended_beside(finding) {
            *self.beyond.entry(finding.kind).or_default() += 1;
        }
    }

    /// Whether the copy for another finding, that the blob is missing in this zone, mends this one too.
    fn is_mended_beside(&self, finding: &Finding) -> bool {
        finding.kind == Kind::Lost && self.targets.contains(&finding.zone) && !finding.has.is_empty()
    }

    /// Copies in all.
    #[must_use]
    pub fn all(&self) -> Count {
        let mut all = Count::default();
        self.zones.values().for_each(|zone| all.merge(*zone));
        all
    }
}

/// How long so many bytes take at so many a second.
pub(super) fn time(bytes: u64, per_second: u64) -> Option<Duration> {
    (per_second > 0).then(|| Duration::from_secs(bytes.div_ceil(per_second)))
}

/// How long so many bytes take by a table of hours, from this moment on: minute by minute. `None` where an
/// hour has no bound, or it would take longer than a year.
pub(super) fn time_by(table: &Timetable, bytes: u64, from: SystemTime) -> Option<Duration> {
    const MINUTES_MAX: u32 = 366 * 24 * 60;
    let mut left = bytes;
    let mut took = Duration::ZERO;
    for _ in 0..MINUTES_MAX {
        let per_second = table.at(from + took)?;
        let minute = per_second.saturating_mul(60);
        if left <= minute {
            return Some(took + time(left, per_second).unwrap_or_default());
        }
        left -= minute;
        took += Duration::from_secs(60);
    }
    None
}

#[cfg(test)]
mod tests {
    use replication::Window;

    use super::*;

    #[test]
    fn only_what_a_copy_mends_is_queued() {
        let finding = |kind, expected| {
            let mut finding = Finding::of(kind, "zone-b", Digest::EMPTY, None);
            finding.expected = expected;
            finding
        };
        let mut plan = Plan { targets: ["zone-b".to_owned()].into(), ..Plan::default() };
        for (kind, expected) in [
            (Kind::Missing, Some(5)),
            (Kind::WrongBytes, Some(7)),
            (Kind::SizesDiffer, None),
            (Kind::Orphan, None),
            (Kind::Lost, None),
            (Kind::Unreadable, Some(9)),
        ] {
            plan.take(&finding(kind, expected));
        }
        // A size that fits must not keep a copy from reading what was found to be wrong.
        let mut disguised = finding(Kind::WrongBytes, Some(7));
        disguised.size = Some(7);
        assert_eq!(plan.job(&disguised).map(|job| job.size), Some(Some(0)));
        plan.take(&disguised);
        plan.take(&Finding::stray("zone-b", "sha256/e3/x", 100));
        assert_eq!(plan.zones, [("zone-b".to_owned(), Count { objects: 4, bytes: 19 })].into());
        assert_eq!((plan.findings, plan.unknown), (8, 0));
        assert_eq!(plan.beyond, [(Kind::Lost, 1), (Kind::Unreadable, 1)].into());
        let job = plan.job(&finding(Kind::Missing, Some(5))).expect("a copy");
        assert_eq!((job.digest.parse(), &*job.zone, job.size), (Ok(Digest::EMPTY), "zone-b", Some(5)));
    }

    /// What Quay believes to be in a zone and is not comes back by the copy for what is missing there; what it
    /// does not know to be there it is told of.
    #[test]
    fn what_the_records_say_wrongly_is_mended_too() {
        let mut plan = Plan { targets: ["zone-b".to_owned()].into(), ..Plan::default() };
        let finding = |kind, zone: &str, has: &[&str]| {
            let mut finding = Finding::of(kind, zone, Digest::EMPTY, None);
            finding.expected = Some(7);
            finding.has = has.iter().map(|zone| (*zone).to_owned()).collect();
            finding
        };
        plan.take(&finding(Kind::Missing, "zone-b", &["zone-a"]));
        plan.take(&finding(Kind::Lost, "zone-b", &["zone-a"]));
        plan.take(&finding(Kind::Unplaced, "zone-b", &[]));
        plan.take(&finding(Kind::Unfinished, "zone-b", &["zone-a"]));
        assert_eq!((plan.all(), plan.unplaced), (Count { objects: 2, bytes: 7 }, 1));
        assert_eq!(plan.beyond, BTreeMap::new());
        // Where no zone has it, or where no copies go, none mends it.
        plan.take(&finding(Kind::Lost, "zone-b", &[]));
        plan.take(&finding(Kind::Lost, "zone-c", &["zone-a"]));
        plan.take(&finding(Kind::Unplaced, "zone-c", &[]));
        assert_eq!((plan.beyond.clone(), plan.all().objects), ([(Kind::Lost, 2)].into(), 2));
    }

    #[test]
    fn what_the_registry_does_not_have_is_copied_only_if_asked() {
        let [mut unknown, mut known, unasked] =
            [1_u8, 2, 3].map(|n| Finding::of(Kind::Missing, "zone-b", Digest::of(&[n]), None));
        (unknown.known, known.known) = (Some(false), Some(true));
        for (with_unknown, wanted) in [(false, [false, true, true]), (true, [true; 3])] {
            let targets = ["zone-b".to_owned()].into();
            let mut plan = Plan { targets, with_unknown, ..Plan::default() };
            let queued = [&unknown, &known, &unasked].map(|finding| {
                plan.take(finding);
                plan.job(finding).is_some()
            });
            assert_eq!(queued, wanted);
            assert_eq!((plan.unknown, plan.unasked), (u64::from(!with_unknown), 1));
            assert!(plan.beyond.is_empty());
        }
    }

    #[test]
    fn no_copy_goes_where_none_go() {
        let all = ["zone-a", "zone-b"].map(|zone| Finding::of(Kind::Empty, zone, Digest::EMPTY, Some(0)));
        let mut plan = Plan { targets: ["zone-b".to_owned()].into(), ..Plan::default() };
        all.iter().for_each(|finding| plan.take(finding));
        assert_eq!((plan.all().objects, &plan.beyond), (1, &[(Kind::Empty, 1)].into()));
        assert_eq!(all.iter().map(|finding| plan.job(finding).is_some()).collect::<Vec<_>>(), [false, true]);
        // Of one zone, others' are nobody's business.
        let mut plan = Plan { only: Some("zone-b".to_owned()), targets: plan.targets, ..Plan::default() };
        all.iter().for_each(|finding| plan.take(finding));
        assert_eq!((plan.findings, plan.all().objects, plan.beyond.len()), (1, 1, 0));
    }

    #[test]
    fn time_at_a_rate() {
        assert_eq!(time(1000, 10), Some(Duration::from_secs(100)));
        assert_eq!(time(1001, 10), Some(Duration::from_secs(101)));
        assert_eq!(time(1000, 0), None);
    }

    #[test]
    fn time_by_the_hour() {
        let window = |from, to, bandwidth| Window { days: [true; 7], from, to, bandwidth };
        let slow_by_day =
            Timetable { otherwise: Some(1000), windows: vec![window(8 * 60, 20 * 60, Some(10))] };
        let at = |hour: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(hour * 3600);
        assert_eq!(time_by(&slow_by_day, 500, at(9)), Some(Duration::from_secs(50)));
        assert_eq!(time_by(&slow_by_day, 0, at(9)), Some(Duration::ZERO));
        // An hour at 10 a second until 20:00, the rest at 1000.
        let crossing = time_by(&slow_by_day, 36_000 + 5000, at(19));
        assert_eq!(crossing, Some(Duration::from_secs(3600 + 5)));
        let free_by_night = Timetable { otherwise: None, windows: vec![window(8 * 60, 20 * 60, Some(10))] };
        assert_eq!(time_by(&free_by_night, 36_000 + 1, at(19)), None, "as many as will go");
        assert_eq!(time_by(&Timetable::always(Some(1)), u64::MAX, at(0)), None, "more than a year");
        assert_eq!(time_by(&Timetable::always(Some(0)), 1, at(0)), None);
    }
}
