//! What an audit has counted so far.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::compare::Compared;
use super::finding::{Finding, Kind};

/// How many, and how many bytes they have.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// How many.
    pub objects: u64,
    /// Their bytes, as far as known.
    pub bytes: u64,
}

impl Count {
    /// Counts one more object of this size, in bytes.
    pub fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Adds another count to this one.
    pub fn merge(&mut self, other: Self) {
        self.objects += other.objects;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// What was counted in one zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneTally {
    /// Its name.
    pub name: String,
    /// Whether every blob should be here.
    pub target: bool,
    /// Blobs that lie here.
    pub blobs: Count,
    /// Blobs that were read and hashed.
    pub hashed: Count,
    /// What was found, by kind.
    pub found: BTreeMap<Kind, Count>,
}

impl ZoneTally {
    /// Findings of a kind.
    #[must_use]
    pub fn found(&self, kind: Kind) -> Count {
        self.found.get(&kind).copied().unwrap_or_default()
    }

    /// Findings of these kinds together.
    #[must_use]
    pub fn all_found(&self, which: impl Fn(Kind) -> bool) -> Count {
        let mut sum = Count::default();
        self.found.iter().filter(|(kind, _)| which(**kind)).for_each(|(_, count)| sum.merge(*count));
        sum
    }
}

/// What was counted in all zones.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Zone by zone, home first.
    pub zones: Vec<ZoneTally>,
    /// Different blobs, each with the largest size that was seen.
    pub blobs: Count,
    /// Blobs that were written too lately to say anything of them.
    pub recent: u64,
}

impl Tally {
    /// Nothing counted, in these zones, each with whether it is a target.
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

    /// What a step came to.
    pub(super) fn take(&mut self, step: &Compared) {
        self.blobs.objects += step.blobs;
        self.blobs.bytes = self.blobs.bytes.saturating_add(step.bytes);
        self.recent += step.recent;
    }

    /// One more finding.
    pub(super) fn note(&mut self, finding: &Finding) {
        if let Some(zone) = self.zones.iter_mut().find(|zone| zone.name == finding.zone) {
            zone.found.entry(finding.kind).or_default().add(finding.bytes());
        }
    }

    /// Findings of all zones that say that something is missing or wrong.
    #[must_use]
    pub fn wrong(&self) -> u64 {
        self.zones.iter().map(|zone| zone.all_found(Kind::is_wrong).objects).sum()
    }
}
