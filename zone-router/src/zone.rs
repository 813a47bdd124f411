//! Zones, their names and their ids.

use std::ops::{Deref, DerefMut, Index, IndexMut};
use std::sync::Arc;

use backends::{Store, UnusableStore};

use crate::Policy;

/// A zone, identified by its place in the configured order. Ids compare in that order: the home zone has the lowest id.
///
/// An id is valid for every container that has one item per zone in the configured order. Such a container is a
/// [`PerZone`], which an id indexes: `per_zone[id]`. For other containers, [`ZoneId::index`] is the position of the
/// item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZoneId(usize);

impl ZoneId {
    /// The home zone: the first of the configured order.
    pub const HOME: Self = Self(0);

    /// The zone at this place in the configured order. 0 is the home zone.
    #[must_use]
    pub const fn at(index: usize) -> Self {
        Self(index)
    }

    /// The place in the configured order. 0 is the home zone.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0
    }
}

/// One item for each zone, in the configured order. A [`ZoneId`] indexes it; a number does not.
///
/// An index panics if there is no such zone. That is a bug, because ids come from a container of the same zones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerZone<T>(Vec<T>);

impl<T> PerZone<T> {
    /// The same item for each of `zones` zones.
    #[must_use]
    pub fn filled(zones: usize, item: T) -> Self
    where
        T: Clone,
    {
        Self(vec![item; zones])
    }

    /// The ids of all zones, home first.
    pub fn ids(&self) -> impl Iterator<Item = ZoneId> + use<T> {
        (0..self.0.len()).map(ZoneId)
    }

    /// Each zone's id and item, home first.
    pub fn with_ids(&self) -> impl Iterator<Item = (ZoneId, &T)> {
        self.0.iter().enumerate().map(|(index, item)| (ZoneId(index), item))
    }

    /// The id of the first zone whose item is `wanted`.
    pub fn find_id(&self, wanted: impl FnMut(&T) -> bool) -> Option<ZoneId> {
        self.0.iter().position(wanted).map(ZoneId)
    }

    /// The item of a zone, if there is such a zone.
    #[must_use]
    pub fn get(&self, zone: ZoneId) -> Option<&T> {
        self.0.get(zone.0)
    }

    /// The item of a zone, mutable, if there is such a zone.
    #[must_use]
    pub fn get_mut(&mut self, zone: ZoneId) -> Option<&mut T> {
        self.0.get_mut(zone.0)
    }
}

impl<T> Deref for PerZone<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for PerZone<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T> Index<ZoneId> for PerZone<T> {
    type Output = T;

    fn index(&self, zone: ZoneId) -> &T {
        &self.0[zone.0]
    }
}

impl<T> IndexMut<ZoneId> for PerZone<T> {
    fn index_mut(&mut self, zone: ZoneId) -> &mut T {
        &mut self.0[zone.0]
    }
}

impl<T> From<Vec<T>> for PerZone<T> {
    fn from(items: Vec<T>) -> Self {
        Self(items)
    }
}

impl<T> FromIterator<T> for PerZone<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self(items.into_iter().collect())
    }
}

impl<T> IntoIterator for PerZone<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a PerZone<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// One object store under its name in the registry's configuration.
#[derive(Debug, Clone)]
pub struct Zone {
    /// The name, such as `zone-a`: Quay's location id.
    pub name: Arc<str>,
    /// The store of the zone.
    pub store: Arc<dyn Store>,
    /// Why the zone cannot be used, if so. Until the configuration is corrected, the zone is not asked, and copies into
    /// it wait in the journal.
    pub unusable: Option<Arc<str>>,
}

impl Zone {
    /// A zone.
    pub fn new(name: &str, store: Arc<dyn Store>) -> Self {
        Self { name: name.into(), store, unusable: None }
    }

    /// A zone whose configuration cannot be used, and why.
    #[must_use]
    pub fn unusable(name: &str, reason: &str) -> Self {
        let store = Arc::new(UnusableStore::new(reason));
        Self { name: name.into(), store, unusable: Some(reason.into()) }
    }
}

/// A zone and the policy that an operator set for it.
#[derive(Debug, Clone)]
pub struct RoutedZone {
    /// The zone.
    pub zone: Zone,
    /// How the zone is read.
    pub policy: Policy,
}

impl From<Zone> for RoutedZone {
    /// Uses the default policy.
    fn from(zone: Zone) -> Self {
        Self { zone, policy: Policy::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_finds_its_item_and_home_is_the_least() {
        let mut names = PerZone::from(vec!["a", "b", "c"]);
        let ids: Vec<_> = names.ids().collect();
        assert_eq!(ids, [ZoneId::HOME, ZoneId::at(1), ZoneId::at(2)]);
        assert!(ids.is_sorted());
        assert!(names.with_ids().all(|(zone, name)| names[zone] == *name && names.get(zone) == Some(name)));
        names[ZoneId::at(1)] = "d";
        assert_eq!(
            (names.find_id(|name| *name == "d"), names.get(ZoneId::at(3))),
            (Some(ZoneId::at(1)), None)
        );
    }
}
