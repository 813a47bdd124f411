//! The counts of an audit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::compare::Compared;
use super::finding::{Finding, FindingKind};

/// A number of objects and their bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// The number of objects.
    pub objects: u64,
    /// The bytes of the objects, as far as they are known.
    pub bytes: u64,
}

impl Count {
    /// Adds one object of this size in bytes.
    pub fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Adds another count.
    pub fn merge(&mut self, other: Self) {
        self.objects += other.objects;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// The counts of one zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneTally {
    /// The name of the zone.
    pub name: String,
    /// Whether every blob should be in this zone.
    pub target: bool,
    /// The blobs in this zone.
    pub blobs: Count,
    /// The blobs that were read and hashed.
    pub hashed: Count,
    /// The findings, by kind.
    pub found: BTreeMap<FindingKind, Count>,
}

impl ZoneTally {
    /// The findings of one kind.
    #[must_use]
    pub fn found(&self, kind: FindingKind) -> Count {
        self.found.get(&kind).copied().unwrap_or_default()
    }

    /// The findings of all kinds for which `which` is true.
    #[must_use]
    pub fn all_found(&self, which: impl Fn(FindingKind) -> bool) -> Count {
        let mut sum = Count::default();
        self.found.iter().filter(|(kind, _)| which(**kind)).for_each(|(_, count)| sum.merge(*count));
        sum
    }
}

/// The counts of all zones.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// The zones, home first.
    pub zones: Vec<ZoneTally>,
    /// The distinct blobs, each with the largest size that a zone has.
    pub blobs: Count,
    /// The blobs that were written too recently to be compared.
    pub recent: u64,
}

impl Tally {
    /// Zero counts for these zones. Each comes with whether it is a target.
    pub fn new<'a>(zones: impl Iterator<Item = (&'a str, bool)>) -> Self {
        let zone = |(name, target): (&str, bool)| ZoneTally {
            name: name.to_owned(),
            target,
            blobs: Count::default(),
            hashed: Count::default(),
            found: BTreeMap::new(),
        };
        Self { zones: zones.map(zone).collect(), ..Self::default() }
    }

    /// Adds the counts of a step.
    pub(super) fn take(&mut self, step: &Compared) {
        self.blobs.objects += step.blobs;
        self.blobs.bytes = self.blobs.bytes.saturating_add(step.bytes);
        self.recent += step.recent;
    }

    /// Adds a finding.
    pub(super) fn note(&mut self, finding: &Finding) {
        if let Some(zone) = self.zones.iter_mut().find(|zone| zone.name == finding.zone) {
            zone.found.entry(finding.kind).or_default().add(finding.bytes());
        }
    }

    /// The findings of all zones that mean a missing or wrong blob.
    #[must_use]
    pub fn wrong(&self) -> u64 {
        self.zones.iter().map(|zone| zone.all_found(FindingKind::is_wrong).objects).sum()
    }
}
