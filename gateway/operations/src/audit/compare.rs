//! Compares the listings of all zones for one step: what is missing, and what differs. Pure.

use std::collections::{BTreeMap, BTreeSet};

use backends::Digest;

use super::finding::{Finding, FindingKind};

/// One blob in a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ListedBlob {
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// Whether it was written so recently that its copies may still be in progress.
    pub(super) recent: bool,
}

/// A zone and the blobs that it listed.
#[derive(Debug, Clone)]
pub(super) struct ZoneBlobs<'a> {
    pub(super) zone: &'a str,
    /// Whether every blob should be in this zone.
    pub(super) target: bool,
    /// The blobs, in any order.
    pub(super) blobs: Vec<ListedBlob>,
}

/// What the registry records about one blob.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct BlobRecord {
    /// The zones in which the registry records it.
    pub(super) zones: BTreeSet<String>,
    /// Whether no manifest references it: it was pushed, but its manifest was not, or not yet.
    pub(super) unfinished: bool,
}

/// What the registry records about each blob that it knows.
pub(super) type BlobRecords = BTreeMap<Digest, BlobRecord>;

/// The result of comparing one step.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    pub(super) findings: Vec<Finding>,
    /// The number of distinct blobs in all zones together.
    pub(super) blobs: u64,
    /// The bytes of those blobs. Each counts with the largest size that a zone has.
    pub(super) bytes: u64,
    /// Blobs that were written too recently to be compared.
    pub(super) recent: u64,
    /// Blobs that have different sizes in different zones.
    pub(super) conflicting: Vec<Digest>,
}

/// Compares the zones with each other, and with the registry's records if there are any. Sorts each listing.
pub(super) fn compare(listed: &mut [ZoneBlobs<'_>], rows: Option<&BlobRecords>) -> Compared {
    for zone in listed.iter_mut() {
        zone.blobs.sort_unstable_by_key(|seen| seen.digest);
        // A listing in pages may return a key twice.
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

/// Sets, for each finding, whether the registry's records have its blob. `None` if they were not read.
pub(super) fn set_known(findings: &mut [Finding], rows: Option<&BlobRecords>) {
    for finding in findings {
        finding.known = rows.zip(finding.digest).map(|(rows, digest)| rows.contains_key(&digest));
    }
}

/// One blob in every zone.
struct Blob<'a> {
    digest: Digest,
    /// Each zone, whether it is a target, and what it has.
    zones: Vec<(&'a str, bool, Option<ListedBlob>)>,
    row: Option<&'a BlobRecord>,
}

impl Blob<'_> {
    fn there(&self) -> impl Iterator<Item = (&str, ListedBlob)> {
        self.zones.iter().filter_map(|(zone, _, seen)| Some((*zone, (*seen)?)))
    }

    /// Whether the registry records the blob in this zone.
    fn is_placed(&self, zone: &str) -> bool {
        self.row.is_some_and(|row| row.zones.contains(zone))
    }

    /// The sizes in the zones that a blob with this digest may have.
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
        self.compare_sizes(blob);
        if rows {
            self.compare_records(blob);
        }
    }

    fn compare_sizes(&mut self, blob: &Blob<'_>) {
        let sizes = blob.sizes();
        let expected = match blob.digest == Digest::EMPTY {
            true => Some(0),
            false => sizes.first().copied().filter(|_| sizes.len() == 1),
        };
        if sizes.len() > 1 {
            self.conflicting.push(blob.digest);
        }
        let somewhere = blob.there().next().is_some();
        // Quay copies a blob when a manifest that references it is pushed
        // (`endpoints/v2/manifest.py:_enqueue_blobs_for_replication`).
        let unfinished = blob.row.is_some_and(|row| row.unfinished);
        for (zone, target, seen) in &blob.zones {
            let kind = match seen {
                // Quay never stores the empty blob on S3 (`storage/cloud.py:_stream_write_internal`).
                None if blob.digest == Digest::EMPTY => continue,
                None if *target && somewhere && unfinished && !blob.is_placed(zone) => {
                    FindingKind::Unfinished
                }
                None if *target && somewhere => FindingKind::Missing,
                None => continue,
                Some(seen) if seen.size == 0 && blob.digest != Digest::EMPTY => FindingKind::Empty,
                Some(seen) if !blob.digest.may_have(seen.size) => FindingKind::WrongBytes,
                Some(_) if sizes.len() > 1 => FindingKind::SizesDiffer,
                Some(_) => continue,
            };
            let mut finding = Finding::of(kind, zone, blob.digest, seen.map(|seen| seen.size));
            finding.expected = expected;
            finding.has = blob.there().map(|(zone, _)| zone.to_owned()).collect();
            if kind == FindingKind::SizesDiffer {
                let all: Vec<_> =
                    blob.there().map(|(zone, seen)| format!("{zone}: {} bytes", seen.size)).collect();
                finding.detail = Some(all.join(", "));
            }
            self.findings.push(finding);
        }
    }

    fn compare_records(&mut self, blob: &Blob<'_>) {
        // The empty blob may have placements without any object.
        if blob.digest == Digest::EMPTY {
            return;
        }
        for (zone, _, seen) in &blob.zones {
            let kind = match seen {
                Some(_) if blob.row.is_none() => FindingKind::Orphan,
                Some(_) if !blob.is_placed(zone) => FindingKind::Unplaced,
                None if blob.is_placed(zone) => FindingKind::Lost,
                _ => continue,
            };
            let mut finding = Finding::of(kind, zone, blob.digest, seen.map(|seen| seen.size));
            if kind == FindingKind::Lost {
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

    /// Three zones with the given sizes of each blob. The first two are targets.
    fn zones(blobs: &[(u32, [Option<u64>; 3])]) -> Vec<ZoneBlobs<'static>> {
        let of = |zone: usize| {
            let seen = |(n, sizes): &(u32, [Option<u64>; 3])| {
                sizes[zone].map(|size| ListedBlob { digest: digest(*n), size, recent: false })
            };
            ZoneBlobs { zone: NAMES[zone], target: zone < 2, blobs: blobs.iter().filter_map(seen).collect() }
        };
        (0..3).map(of).collect()
    }

    fn found(compared: &Compared) -> Vec<(FindingKind, &str, Option<u64>, Option<u64>)> {
        compared.findings.iter().map(|f| (f.kind, f.zone.as_str(), f.size, f.expected)).collect()
    }

    #[test]
    fn a_blob_is_missing_only_in_target_zones() {
        let compared =
            compare(&mut zones(&[(1, [None, None, Some(5)]), (2, [Some(7), Some(7), None])]), None);
        let missing = (FindingKind::Missing, "zone-a", None, Some(5));
        assert_eq!(found(&compared), [missing, (FindingKind::Missing, "zone-b", None, Some(5))]);
        assert_eq!((compared.blobs, compared.bytes), (2, 12));
    }

    #[test]
    fn different_sizes_blame_no_zone_and_an_empty_object_is_wrong() {
        let compared = compare(&mut zones(&[(1, [Some(5), Some(6), None])]), None);
        let differ = |zone, size| (FindingKind::SizesDiffer, zone, Some(size), None);
        assert_eq!(found(&compared), [differ("zone-a", 5), differ("zone-b", 6)]);
        assert_eq!(compared.conflicting, [digest(1)]);
        assert_eq!(compared.findings[0].detail.as_deref(), Some("zone-a: 5 bytes, zone-b: 6 bytes"));
        // An empty object is wrong without reading it.
        let compared = compare(&mut zones(&[(1, [Some(0), Some(6), Some(6)])]), None);
        assert_eq!(found(&compared), [(FindingKind::Empty, "zone-a", Some(0), Some(6))]);
        assert_eq!(compared.conflicting, []);
    }

    #[test]
    fn the_empty_blob_is_compared() {
        let seen = |size| ListedBlob { digest: Digest::EMPTY, size, recent: false };
        let listed = |zone, sizes: &[u64]| ZoneBlobs {
            zone,
            target: true,
            blobs: sizes.iter().map(|size| seen(*size)).collect(),
        };
        let compared = compare(&mut [listed("a", &[0]), listed("b", &[3]), listed("c", &[])], None);
        assert_eq!(found(&compared), [(FindingKind::WrongBytes, "b", Some(3), Some(0))]);
        // Quay has a row and a placement, but no zone has an object.
        let rows = BlobRecords::from([(Digest::EMPTY, placed(&["a"]))]);
        let compared = compare(&mut [listed("a", &[]), listed("b", &[])], Some(&rows));
        assert_eq!((compared.findings, compared.blobs), (vec![], 0));
    }

    fn placed(zones: &[&str]) -> BlobRecord {
        BlobRecord { zones: zones.iter().map(|zone| (*zone).to_owned()).collect(), unfinished: false }
    }

    /// Quay does not copy a blob before there is a manifest for it.
    #[test]
    fn a_blob_without_a_manifest_is_not_missing() {
        let row = |zones: &[&str]| BlobRecord { unfinished: true, ..placed(zones) };
        let rows =
            BlobRecords::from([(digest(1), row(&["zone-a"])), (digest(2), row(&["zone-a", "zone-b"]))]);
        let there = [(1, [Some(5), None, None]), (2, [Some(6), None, None])];
        let compared = compare(&mut zones(&there), Some(&rows));
        let mut found: Vec<_> =
            compared.findings.iter().map(|f| (f.digest, f.kind, f.zone.as_str())).collect();
        found.sort();
        // A blob that is recorded in a zone and is not there is missing, even without a manifest.
        let mut wanted = vec![
            (Some(digest(1)), FindingKind::Unfinished, "zone-b"),
            (Some(digest(2)), FindingKind::Missing, "zone-b"),
            (Some(digest(2)), FindingKind::Lost, "zone-b"),
        ];
        wanted.sort();
        assert_eq!(found, wanted);
        let lost = compared.findings.iter().find(|f| f.kind == FindingKind::Lost).expect("one");
        assert_eq!(lost.has, ["zone-a"]);
    }

    #[test]
    fn findings_from_the_registrys_records() {
        let rows: BlobRecords =
            [(digest(1), placed(&["zone-a", "zone-b"])), (digest(3), placed(&["zone-c"]))].into();
        let there = [(1, [Some(5), None, Some(5)]), (2, [Some(6), Some(6), None])];
        let mut compared = compare(&mut zones(&there), Some(&rows));
        set_known(&mut compared.findings, Some(&rows));
        let orphan = |f: &Finding| f.digest == Some(digest(2));
        assert!(compared.findings.iter().all(|f| f.known == Some(!orphan(f))), "{:?}", compared.findings);
        set_known(&mut compared.findings, None);
        assert!(compared.findings.iter().all(|f| f.known.is_none()), "the records were not read");
        let mut found: Vec<_> = compared.findings.iter().map(|f| (f.kind, f.zone.clone())).collect();
        found.sort();
        let of = |kind, zone: &str| (kind, zone.to_owned());
        let mut wanted = vec![
            of(FindingKind::Missing, "zone-b"),
            of(FindingKind::Lost, "zone-b"),
            of(FindingKind::Unplaced, "zone-c"),
            of(FindingKind::Orphan, "zone-a"),
            of(FindingKind::Orphan, "zone-b"),
            of(FindingKind::Lost, "zone-c"),
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
                // A key that a listing returns twice counts once.
                zone.blobs.extend(zone.blobs.first().copied());
            }
            prop_assert_eq!(compare(&mut turned, None), compare(&mut zones(&blobs), None));
        }

        /// The result is the same if each blob is compared by itself.
        #[test]
        fn every_blob_is_judged_by_itself(blobs in blobs()) {
            let whole = compare(&mut zones(&blobs), None);
            let mut apart = Compared::default();
            let mut sorted = blobs.clone();
            sorted.sort_by_key(|(n, _)| digest(*n));
            for blob in sorted {
                let one = compare(&mut zones(&[blob]), None);
                apart.findings.extend(one.findings);
                apart.conflicting.extend(one.conflicting);
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
        fn recent_blobs_are_ignored(blobs in blobs()) {
            let mut listed = zones(&blobs);
            listed.iter_mut().flat_map(|zone| &mut zone.blobs).for_each(|seen| seen.recent = true);
            let compared = compare(&mut listed, None);
            prop_assert_eq!((compared.findings.len(), compared.recent), (0, compared.blobs));
        }
    }
}
