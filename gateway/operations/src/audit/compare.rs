//! Listings of one step beside each other: what is missing, what differs. Pure.

use std::collections::{BTreeMap, BTreeSet};

use backends::Digest;

use super::finding::{Finding, Kind};

/// What a listing says of one blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// Written so lately that its copies may still be under way.
    pub(super) recent: bool,
}

/// A zone, and what it listed.
#[derive(Debug, Clone)]
pub(super) struct Listed<'a> {
    pub(super) zone: &'a str,
    /// Whether every blob should be here.
    pub(super) target: bool,
    /// In any order.
    pub(super) blobs: Vec<Seen>,
}

/// What the registry says of one blob.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Row {
    /// The zones that it believes to have it.
    pub(super) zones: BTreeSet<String>,
    /// No manifest names it: it was pushed, and its manifest was not, or not yet.
    pub(super) unfinished: bool,
}

/// What the registry says of each blob that it knows.
pub(super) type Rows = BTreeMap<Digest, Row>;

/// What came of a step.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    pub(super) findings: Vec<Finding>,
    /// Different blobs in all zones together, and their bytes, by the largest size seen.
    pub(super) blobs: u64,
    pub(super) bytes: u64,
    /// Blobs that were written too lately to say anything of them.
    pub(super) recent: u64,
    /// Blobs of which zones have different sizes.
    pub(super) doubtful: Vec<Digest>,
}

/// Compares what zones have, and with what the registry says where that is known.
///
/// Sorts each listing.
pub(super) fn compare(listed: &mut [Listed<'_>], rows: Option<&Rows>) -> Compared {
    for zone in listed.iter_mut() {
        zone.blobs.sort_unstable_by_key(|seen| seen.digest);
        // A listing of pages may give a name twice.
        zone.blobs.dedup_by_key(|seen| seen.digest);
    }
    let mut compared = Compared::default();
    let mut at = vec![0; listed.len()];
    let mut expected = rows.into_iter().flatten().peekable();
    loop {
        let heads = listed.iter().zip(&at).filter_map(|(zone, at)| zone.blobs.get(*at));
        let row = expected.peek().map(|(digest, _)| **digest);
        let Some(digest) = heads.map(|seen| seen.digest).chain(row).min() else { return compared };
        let mut blob = Blob { digest, zones: Vec::with_capacity(listed.len()), row: None };
        for (zone, at) in listed.iter().zip(&mut at) {
            let seen = zone.blobs.get(*at).filter(|seen| seen.digest == digest);
            *at += usize::from(seen.is_some());
            blob.zones.push((zone.zone, zone.target, seen.copied()));
        }
        blob.row = expected.next_if(|(other, _)| **other == digest).map(|(_, row)| row);
        compared.take(&blob, rows.is_some());
    }
}

/// Keeps with each finding whether the records have its blob, where they were asked.
pub(super) fn note_records(findings: &mut [Finding], rows: Option<&Rows>) {
    for finding in findings {
        finding.known = rows.zip(finding.digest).map(|(rows, digest)| rows.contains_key(&digest));
    }
}

/// One blob in every zone.
struct Blob<'a> {
    digest: Digest,
    /// The zone, whether it is a target, what it has.
    zones: Vec<(&'a str, bool, Option<Seen>)>,
    row: Option<&'a Row>,
}

impl Blob<'_> {
    fn there(&self) -> impl Iterator<Item = (&str, Seen)> {
        self.zones.iter().filter_map(|(zone, _, seen)| Some((*zone, (*seen)?)))
    }

    /// Whether the registry believes this zone to have it.
    fn is_placed(&self, zone: &str) -> bool {
        self.row.is_some_and(|row| row.zones.contains(zone))
    }

    /// The sizes that it may have.
    fn sizes(&self) -> BTreeSet<u64> {
        self.there().map(|(_, seen)| seen.size).filter(|size| self.digest.may_have(*size)).collect()
    }
}

impl Compared {
    fn take(&mut self, blob: &Blob<'_>, rows: bool) {
        if let Some(largest) = blob.there().map(|(_, seen)| seen.size).max() {
            self.blobs += 1;
            self.bytes += largest;
        }
        if blob.there().any(|(_, seen)| seen.recent) {
            self.recent += 1;
            return;
        }
        self.take_sizes(blob);
        if rows {
            self.take_row(blob);
        }
    }

    fn take_sizes(&mut self, blob: &Blob<'_>) {
        let sizes = blob.sizes();
        let expected = match blob.digest == Digest::EMPTY {
            true => Some(0),
            false => sizes.first().copied().filter(|_| sizes.len() == 1),
        };
        if sizes.len() > 1 {
            self.doubtful.push(blob.digest);
        }
        let somewhere = blob.there().next().is_some();
        // Quay copies what a manifest names, when that is pushed (`endpoints/v2/manifest.py:_enqueue_blobs_for_replication`).
        let unfinished = blob.row.is_some_and(|row| row.unfinished);
        for (zone, target, seen) in &blob.zones {
            let kind = match seen {
                // A constant, which Quay never stores on S3 (`storage/cloud.py:_stream_write_internal`).
                None if blob.digest == Digest::EMPTY => continue,
                None if *target && somewhere && unfinished && !blob.is_placed(zone) => Kind::Unfinished,
                None if *target && somewhere => Kind::Missing,
                None => continue,
                Some(seen) if seen.size == 0 && blob.digest != Digest::EMPTY => Kind::Empty,
                Some(seen) if !blob.digest.may_have(seen.size) => Kind::WrongBytes,
                Some(_) if sizes.len() > 1 => Kind::SizesDiffer,
                Some(_) => continue,
            };
            let mut finding = Finding::of(kind, zone, blob.digest, seen.map(|seen| seen.size));
            finding.expected = expected;
            finding.has = blob.there().map(|(zone, _)| zone.to_owned()).collect();
            if kind == Kind::SizesDiffer {
                let all: Vec<_> =
                    blob.there().map(|(zone, seen)| format!("{zone}: {} bytes", seen.size)).collect();
                finding.told = Some(all.join(", "));
            }
            self.findings.push(finding);
        }
    }

    fn take_row(&mut self, blob: &Blob<'_>) {
        // Where it is said to lie says nothing: there is no object to lie anywhere.
        if blob.digest == Digest::EMPTY {
            return;
        }
        for (zone, _, seen) in &blob.zones {
            let kind = match seen {
                Some(_) if blob.row.is_none() => Kind::Orphan,
                Some(_) if !blob.is_placed(zone) => Kind::Unplaced,
                None if blob.is_placed(zone) => Kind::Lost,
                _ => continue,
            };
            let mut finding = Finding::of(kind, zone, blob.digest, seen.map(|seen| seen.size));
            if kind == Kind::Lost {
                finding.has = blob.there().map(|(zone, _)| zone.to_owned()).collect();
            }
            self.findings.push(finding);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];

    fn digest(n: u32) -> Digest {
        Digest::of(&n.to_le_bytes())
    }

    /// Sizes of blob after blob in the zones, of which the first two are targets.
    fn zones(blobs: &[(u32, [Option<u64>; 3])]) -> Vec<Listed<'static>> {
        let of = |zone: usize| {
            let seen = |(n, sizes): &(u32, [Option<u64>; 3])| {
                sizes[zone].map(|size| Seen { digest: digest(*n), size, recent: false })
            };
            Listed { zone: NAMES[zone], target: zone < 2, blobs: blobs.iter().filter_map(seen).collect() }
        };
        (0..3).map(of).collect()
    }

    fn found(compared: &Compared) -> Vec<(Kind, &str, Option<u64>, Option<u64>)> {
        compared.findings.iter().map(|f| (f.kind, f.zone.as_str(), f.size, f.expected)).collect()
    }

    #[test]
    fn missing_in_targets_alone() {
        let compared =
            compare(&mut zones(&[(1, [None, None, Some(5)]), (2, [Some(7), Some(7), None])]), None);
        let missing = (Kind::Missing, "zone-a", None, Some(5));
        assert_eq!(found(&compared), [missing, (Kind::Missing, "zone-b", None, Some(5))]);
        assert_eq!((compared.blobs, compared.bytes), (2, 12));
    }

    #[test]
    fn sizes_that_differ_accuse_nobody_and_nothing_is_no_blob() {
        let compared = compare(&mut zones(&[(1, [Some(5), Some(6), None])]), None);
        let differ = |zone, size| (Kind::SizesDiffer, zone, Some(size), None);
        assert_eq!(found(&compared), [differ("zone-a", 5), differ("zone-b", 6)]);
        assert_eq!(compared.doubtful, [digest(1)]);
        assert_eq!(compared.findings[0].told.as_deref(), Some("zone-a: 5 bytes, zone-b: 6 bytes"));
        // The zone that has nothing is not in doubt, it is wrong.
        let compared = compare(&mut zones(&[(1, [Some(0), Some(6), Some(6)])]), None);
        assert_eq!(found(&compared), [(Kind::Empty, "zone-a", Some(0), Some(6))]);
        assert_eq!(compared.doubtful, []);
    }

    #[test]
    fn the_blob_of_no_bytes() {
        let seen = |size| Seen { digest: Digest::EMPTY, size, recent: false };
        let listed = |zone, sizes: &[u64]| Listed {
            zone,
            target: true,
            blobs: sizes.iter().map(|size| seen(*size)).collect(),
        };
        let compared = compare(&mut [listed("a", &[0]), listed("b", &[3]), listed("c", &[])], None);
        assert_eq!(found(&compared), [(Kind::WrongBytes, "b", Some(3), Some(0))]);
        // Quay's row and placement of it, and no object anywhere.
        let rows = Rows::from([(Digest::EMPTY, placed(&["a"]))]);
        let compared = compare(&mut [listed("a", &[]), listed("b", &[])], Some(&rows));
        assert_eq!((compared.findings, compared.blobs), (vec![], 0));
    }

    fn placed(zones: &[&str]) -> Row {
        Row { zones: zones.iter().map(|zone| (*zone).to_owned()).collect(), unfinished: false }
    }

    /// Pushed to one zone, with no manifest: Quay will not copy it before there is one.
    #[test]
    fn what_no_manifest_names_is_not_missing() {
        let row = |zones: &[&str]| Row { unfinished: true, ..placed(zones) };
        let rows = Rows::from([(digest(1), row(&["zone-a"])), (digest(2), row(&["zone-a", "zone-b"]))]);
        let there = [(1, [Some(5), None, None]), (2, [Some(6), None, None])];
        let compared = compare(&mut zones(&there), Some(&rows));
        let mut found: Vec<_> =
            compared.findings.iter().map(|f| (f.digest, f.kind, f.zone.as_str())).collect();
        found.sort();
        // What is said to be there, and is not, is missing all the same.
        let mut wanted = vec![
            (Some(digest(1)), Kind::Unfinished, "zone-b"),
            (Some(digest(2)), Kind::Missing, "zone-b"),
            (Some(digest(2)), Kind::Lost, "zone-b"),
        ];
        wanted.sort();
        assert_eq!(found, wanted);
        let lost = compared.findings.iter().find(|f| f.kind == Kind::Lost).expect("one");
        assert_eq!(lost.has, ["zone-a"]);
    }

    #[test]
    fn what_the_registry_says() {
        let rows: Rows =
            [(digest(1), placed(&["zone-a", "zone-b"])), (digest(3), placed(&["zone-c"]))].into();
        let there = [(1, [Some(5), None, Some(5)]), (2, [Some(6), Some(6), None])];
        let mut compared = compare(&mut zones(&there), Some(&rows));
        note_records(&mut compared.findings, Some(&rows));
        let orphan = |f: &Finding| f.digest == Some(digest(2));
        assert!(compared.findings.iter().all(|f| f.known == Some(!orphan(f))), "{:?}", compared.findings);
        note_records(&mut compared.findings, None);
        assert!(compared.findings.iter().all(|f| f.known.is_none()), "nobody was asked");
        let mut found: Vec<_> = compared.findings.iter().map(|f| (f.kind, f.zone.clone())).collect();
        found.sort();
        let of = |kind, zone: &str| (kind, zone.to_owned());
        let mut wanted = vec![
            of(Kind::Missing, "zone-b"),
            of(Kind::Lost, "zone-b"),
            of(Kind::Unplaced, "zone-c"),
            of(Kind::Orphan, "zone-a"),
            of(Kind::Orphan, "zone-b"),
            of(Kind::Lost, "zone-c"),
        ];
        wanted.sort();
        assert_eq!(found, wanted);
    }

    fn blobs() -> impl Strategy<Value = Vec<(u32, [Option<u64>; 3])>> {
        let size = || proptest::option::weighted(0.8, 0..4_u64);
        let one = (0..40_u32, [size(), size(), size()]);
        let many = prop::collection::vec(one, 0..30);
        many.prop_map(|blobs| blobs.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect())
    }

    proptest! {
        #[test]
        fn the_order_of_a_listing_does_not_matter(blobs in blobs(), turn in 0..40_usize) {
            let mut turned = zones(&blobs);
            for zone in &mut turned {
                let by = turn % zone.blobs.len().max(1);
                zone.blobs.rotate_left(by);
                // Names that come twice are one.
                zone.blobs.extend(zone.blobs.first().copied());
            }
            prop_assert_eq!(compare(&mut turned, None), compare(&mut zones(&blobs), None));
        }

        /// Counted blob by blob, without merging anything.
        #[test]
        fn every_blob_is_judged_by_itself(blobs in blobs()) {
            let whole = compare(&mut zones(&blobs), None);
            let mut apart = Compared::default();
            let mut sorted = blobs.clone();
            sorted.sort_by_key(|(n, _)| digest(*n));
            for blob in sorted {
                let one = compare(&mut zones(&[blob]), None);
                apart.findings.extend(one.findings);
                apart.doubtful.extend(one.doubtful);
                apart.blobs += one.blobs;
                apart.bytes += one.bytes;
            }
            prop_assert_eq!(whole, apart);
        }

        #[test]
        fn equal_zones_have_no_findings(sizes in prop::collection::vec(1..1000_u64, 0..30)) {
            let blobs: Vec<_> = sizes.iter().enumerate().map(|(n, size)| (n as u32, [Some(*size); 3])).collect();
            prop_assert_eq!(compare(&mut zones(&blobs), None).findings, []);
        }

        #[test]
        fn what_is_recent_is_left_alone(blobs in blobs()) {
            let mut listed = zones(&blobs);
            listed.iter_mut().flat_map(|zone| &mut zone.blobs).for_each(|seen| seen.recent = true);
            let compared = compare(&mut listed, None);
            prop_assert_eq!((compared.findings.len(), compared.recent), (0, compared.blobs));
        }
    }
}
