//! Which copies to queue for the findings of an audit. Pure, except that it reads the file of findings.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use backends::Digest;
use replication::Timetable;

use super::wire::AddJob;
use crate::audit::{Count, Finding, FindingKind, Findings};

/// The copies that fix an audit's findings.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct CopyPlan {
    /// The copies of each target zone.
    pub zones: BTreeMap<String, Count>,
    /// The findings that were considered, whether a copy fixes them or not.
    pub findings: u64,
    /// Findings that mean a missing or wrong blob and that a copy does not fix, by kind.
    pub unfixable: BTreeMap<FindingKind, u64>,
    /// Findings that a copy would fix, but whose blob the registry's records do not have. They are skipped.
    pub unknown: u64,
    /// Whether such blobs are copied too.
    pub with_unknown: bool,
    /// Copies for findings of an audit that did not read the registry's records.
    pub unchecked: u64,
    /// Copies whose object is already there, so that only its placement is recorded.
    pub unplaced: u64,
    /// Copies of blobs of which no zone has a right object: the registry alone may give one.
    pub sourceless: u64,
    /// The digest of the file of findings.
    pub digest: Option<Digest>,
    /// The target zones.
    targets: BTreeSet<String>,
    /// If it is set, only findings in this zone are considered.
    only: Option<String>,
}

impl CopyPlan {
    /// Plans copies to `targets` for all findings. With `with_unknown`, blobs that the registry's records do
    /// not have are copied too.
    ///
    /// # Errors
    /// The file of findings cannot be read or is malformed.
    pub fn of(findings: Findings, targets: BTreeSet<String>, with_unknown: bool) -> anyhow::Result<Self> {
        Self { targets, with_unknown, ..Self::default() }.all_of(findings)
    }

    /// Like [`CopyPlan::of`], for findings in this zone only and with copies to it.
    ///
    /// # Errors
    /// Like [`CopyPlan::of`].
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

    /// The copy that fixes this finding. `None` if no copy fixes it, its zone is not a target, or it is skipped.
    #[must_use]
    pub fn job(&self, finding: &Finding) -> Option<AddJob> {
        let digest = finding.digest.filter(|_| finding.kind.is_fixed_by_copy())?;
        (self.targets.contains(&finding.zone) && !self.is_skipped(finding)).then(|| AddJob {
            digest: digest.to_string(),
            zone: finding.zone.clone(),
            // With size 0, the copy reads the object, whatever its size.
            size: if finding.kind.is_in_doubt() { Some(0) } else { finding.expected },
        })
    }

    /// Whether the registry's records do not have the blob, and such blobs are not copied.
    fn is_skipped(&self, finding: &Finding) -> bool {
        finding.known == Some(false) && !self.with_unknown
    }

    fn take(&mut self, finding: &Finding) {
        if self.only.as_ref().is_some_and(|only| *only != finding.zone) {
            return;
        }
        self.findings += 1;
        if self.job(finding).is_some() {
            let unplaced = finding.kind == FindingKind::Unplaced;
            self.unplaced += u64::from(unplaced);
            let bytes = if unplaced { 0 } else { finding.bytes() };
            self.zones.entry(finding.zone.clone()).or_default().add(bytes);
            self.unchecked += u64::from(finding.known.is_none());
            self.sourceless += u64::from(finding.sourceless);
        } else if self.is_skipped(finding) {
            self.unknown += u64::from(finding.kind.is_fixed_by_copy());
        } else if finding.kind.is_wrong() && !self.is_fixed_by_other_copy(finding) {
            *self.unfixable.entry(finding.kind).or_default() += 1;
        }
    }

    /// Whether the copy for another finding, that the same blob is missing in this zone, also fixes this one.
    fn is_fixed_by_other_copy(&self, finding: &Finding) -> bool {
        finding.kind == FindingKind::Lost && self.targets.contains(&finding.zone) && !finding.has.is_empty()
    }

    /// The copies of all zones together.
    #[must_use]
    pub fn all(&self) -> Count {
        let mut all = Count::default();
        self.zones.values().for_each(|zone| all.merge(*zone));
        all
    }
}

/// How long these bytes take at this rate, in bytes a second. `None` at a rate of 0.
pub(super) fn time(bytes: u64, per_second: u64) -> Option<Duration> {
    (per_second > 0).then(|| Duration::from_secs(bytes.div_ceil(per_second)))
}

/// How long these bytes take from this moment on with a timetable of bandwidths, calculated minute by minute.
/// `None` if an hour has no limit, or it would take longer than a year.
pub(super) fn time_with_timetable(table: &Timetable, bytes: u64, from: SystemTime) -> Option<Duration> {
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
    fn only_findings_that_a_copy_fixes_are_queued() {
        let finding = |kind, expected| {
            let mut finding = Finding::of(kind, "zone-b", Digest::EMPTY, None);
            finding.expected = expected;
            finding
        };
        let mut plan = CopyPlan { targets: ["zone-b".to_owned()].into(), ..CopyPlan::default() };
        for (kind, expected) in [
            (FindingKind::Missing, Some(5)),
            (FindingKind::WrongBytes, Some(7)),
            (FindingKind::SizesDiffer, None),
            (FindingKind::Orphan, None),
            (FindingKind::Lost, None),
            (FindingKind::Unreadable, Some(9)),
            (FindingKind::Empty, Some(2)),
        ] {
            plan.take(&finding(kind, expected));
        }
        // The size of such an object says nothing about the blob.
        for kind in
            [FindingKind::WrongBytes, FindingKind::SizesDiffer, FindingKind::Unreadable, FindingKind::Empty]
        {
            let mut disguised = finding(kind, Some(7));
            disguised.size = Some(7);
            assert_eq!(plan.job(&disguised).map(|job| job.size), Some(Some(0)), "{kind:?}");
        }
        let mut sourceless = finding(FindingKind::Unreadable, None);
        sourceless.sourceless = true;
        let mut with_it = plan.clone();
        with_it.take(&sourceless);
        assert_eq!((with_it.all().objects, with_it.sourceless), (6, 1), "the registry may have it");
        plan.take(&Finding::stray("zone-b", "sha256/e3/x", 100));
        assert_eq!(plan.zones, [("zone-b".to_owned(), Count { objects: 5, bytes: 23 })].into());
        assert_eq!((plan.findings, plan.unknown), (8, 0));
        assert_eq!(plan.unfixable, [(FindingKind::Lost, 1)].into());
        let job = plan.job(&finding(FindingKind::Missing, Some(5))).expect("a copy");
        assert_eq!((job.digest.parse(), &*job.zone, job.size), (Ok(Digest::EMPTY), "zone-b", Some(5)));
    }

    /// If Quay records a blob in a zone where it does not exist, the copy for the missing blob fixes this
    /// too. If a blob exists and is not recorded, a placement is added.
    #[test]
    fn wrong_records_are_fixed_too() {
        let mut plan = CopyPlan { targets: ["zone-b".to_owned()].into(), ..CopyPlan::default() };
        let finding = |kind, zone: &str, has: &[&str]| {
            let mut finding = Finding::of(kind, zone, Digest::EMPTY, None);
            finding.expected = Some(7);
            finding.has = has.iter().map(|zone| (*zone).to_owned()).collect();
            finding
        };
        plan.take(&finding(FindingKind::Missing, "zone-b", &["zone-a"]));
        plan.take(&finding(FindingKind::Lost, "zone-b", &["zone-a"]));
        plan.take(&finding(FindingKind::Unplaced, "zone-b", &[]));
        plan.take(&finding(FindingKind::Unfinished, "zone-b", &["zone-a"]));
        assert_eq!((plan.all(), plan.unplaced), (Count { objects: 2, bytes: 7 }, 1));
        assert_eq!(plan.unfixable, BTreeMap::new());
        // If no zone has the blob, or the zone is not a target, no copy fixes the finding.
        plan.take(&finding(FindingKind::Lost, "zone-b", &[]));
        plan.take(&finding(FindingKind::Lost, "zone-c", &["zone-a"]));
        plan.take(&finding(FindingKind::Unplaced, "zone-c", &[]));
        assert_eq!((plan.unfixable.clone(), plan.all().objects), ([(FindingKind::Lost, 2)].into(), 2));
    }

    #[test]
    fn blobs_unknown_to_the_registry_are_copied_only_on_request() {
        let [mut unknown, mut known, unchecked] =
            [1_u8, 2, 3].map(|n| Finding::of(FindingKind::Missing, "zone-b", Digest::of(&[n]), None));
        (unknown.known, known.known) = (Some(false), Some(true));
        for (with_unknown, wanted) in [(false, [false, true, true]), (true, [true; 3])] {
            let targets = ["zone-b".to_owned()].into();
            let mut plan = CopyPlan { targets, with_unknown, ..CopyPlan::default() };
            let queued = [&unknown, &known, &unchecked].map(|finding| {
                plan.take(finding);
                plan.job(finding).is_some()
            });
            assert_eq!(queued, wanted);
            assert_eq!((plan.unknown, plan.unchecked), (u64::from(!with_unknown), 1));
            assert!(plan.unfixable.is_empty());
        }
    }

    #[test]
    fn no_copy_goes_to_a_zone_that_is_not_a_target() {
        let all =
            ["zone-a", "zone-b"].map(|zone| Finding::of(FindingKind::Empty, zone, Digest::EMPTY, Some(0)));
        let mut plan = CopyPlan { targets: ["zone-b".to_owned()].into(), ..CopyPlan::default() };
        all.iter().for_each(|finding| plan.take(finding));
        assert_eq!((plan.all().objects, &plan.unfixable), (1, &[(FindingKind::Empty, 1)].into()));
        assert_eq!(all.iter().map(|finding| plan.job(finding).is_some()).collect::<Vec<_>>(), [false, true]);
        // A plan for one zone ignores findings in other zones.
        let mut plan =
            CopyPlan { only: Some("zone-b".to_owned()), targets: plan.targets, ..CopyPlan::default() };
        all.iter().for_each(|finding| plan.take(finding));
        assert_eq!((plan.findings, plan.all().objects, plan.unfixable.len()), (1, 1, 0));
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
        assert_eq!(time_with_timetable(&slow_by_day, 500, at(9)), Some(Duration::from_secs(50)));
        assert_eq!(time_with_timetable(&slow_by_day, 0, at(9)), Some(Duration::ZERO));
        // One hour at 10 bytes a second until 20:00, then the rest at 1000.
        let crossing = time_with_timetable(&slow_by_day, 36_000 + 5000, at(19));
        assert_eq!(crossing, Some(Duration::from_secs(3600 + 5)));
        let free_by_night = Timetable { otherwise: None, windows: vec![window(8 * 60, 20 * 60, Some(10))] };
        assert_eq!(
            time_with_timetable(&free_by_night, 36_000 + 1, at(19)),
            None,
            "an hour without a limit gives no estimate"
        );
        assert_eq!(
            time_with_timetable(&Timetable::always(Some(1)), u64::MAX, at(0)),
            None,
            "more than a year"
        );
        assert_eq!(time_with_timetable(&Timetable::always(Some(0)), 1, at(0)), None);
    }
}
