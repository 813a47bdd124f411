//! The drain states of zones: drains of the configuration, and drains by command, which outlive a restart.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use thiserror::Error;
use zone_router::{PerZone, Policy, Router, Zone, ZoneId};

/// The file in `state_dir`: one name of a drained zone a line.
const FILE: &str = "drained";

/// The drain states of all zones.
#[derive(Debug)]
pub(crate) struct DrainStates {
    file: PathBuf,
    /// Held by a command while it writes the file. It is never locked on the executor.
    command: Mutex<()>,
    /// Locked only for moments.
    states: Mutex<States>,
}

#[derive(Debug)]
struct States {
    /// The router that serves now.
    router: Arc<Router>,
    /// The policies of the configuration, one for each zone.
    configured: PerZone<Policy>,
    /// The zones that are drained by command. May name zones that are no longer configured.
    drained: BTreeSet<String>,
}

/// Why a zone was not drained or undrained.
#[derive(Debug, Error)]
pub(crate) enum DrainError {
    /// No zone has this name.
    #[error("there is no zone {name}; zones are {known}")]
    Unknown {
        /// The name that was given.
        name: String,
        /// The names of all zones.
        known: String,
    },
    /// No zone would be left to read from.
    #[error("{0} is the last zone that is read: undrain another zone first")]
    Last(String),
    /// The drain can only be removed by a change of the configuration.
    #[error("{0} is drained by the configuration: take routing.zones.{0}.drain out and send SIGHUP")]
    ByConfiguration(String),
    /// The drain by command is removed, but the drain of the configuration remains.
    #[error(
        "{0} is no longer drained by command, but still by the configuration: take routing.zones.{0}.drain out and send SIGHUP"
    )]
    StillByConfiguration(String),
    /// The drain states could not be written, so the change would be lost at a restart.
    #[error("{path}: {error}; nothing was changed")]
    NotWritten {
        /// The path of the file.
        path: String,
        /// The error of the disk.
        error: io::Error,
    },
}

impl DrainStates {
    /// Takes the configured policies, and reads the zones that were drained before a restart.
    ///
    /// # Errors
    /// The file of drained zones cannot be read.
    pub(crate) fn open(
        router: Arc<Router>,
        configured: PerZone<Policy>,
        state_dir: &Path,
    ) -> io::Result<Self> {
        let file = state_dir.join(FILE);
        let drained: BTreeSet<String> = match std::fs::read_to_string(&file) {
            Ok(text) => text.lines().map(str::to_owned).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", file.display()))),
        };
        for zone in &drained {
            tracing::warn!(
                zone,
                "zone is drained by an earlier command: it is not read until it is undrained"
            );
        }
        let states = States { router, configured, drained };
        states.apply();
        Ok(Self { file, command: Mutex::new(()), states: Mutex::new(states) })
    }

    /// Whether a zone is drained by command.
    pub(crate) fn is_drained(&self, zone: &str) -> bool {
        self.lock().drained.contains(zone)
    }

    /// Drains a zone: it is not read until [`DrainStates::undrain`]. Waits for the disk.
    ///
    /// # Errors
    /// No zone has this name, it is the last zone that is read, or the file cannot be written. Nothing was
    /// changed.
    pub(crate) fn drain(&self, zone: &str) -> Result<(), DrainError> {
        let _one = self.command.lock();
        let drained = self.lock().drained_with(zone)?;
        self.write(&drained)?;
        self.lock().take(drained);
        tracing::warn!(zone, "zone is drained: no reads until it is undrained, copies still arrive");
        Ok(())
    }

    /// Removes the drain of [`DrainStates::drain`]. Waits for the disk.
    ///
    /// # Errors
    /// No zone has this name, the configuration drains it, or the file cannot be written. The zone is still
    /// drained.
    pub(crate) fn undrain(&self, zone: &str) -> Result<(), DrainError> {
        let _one = self.command.lock();
        let drained = self.lock().drained_without(zone)?;
        self.write(&drained)?;
        let mut states = self.lock();
        states.take(drained);
        if states.is_configured(zone) {
            return Err(DrainError::StillByConfiguration(zone.to_owned()));
        }
        tracing::info!(zone, "zone is undrained: it is read again");
        Ok(())
    }

    /// Takes the zones and policies of a later configuration. `router` makes the router of these zones, with the policies
    /// that it gets: those of the configuration, and the drains by command. A command that is being written counts in it soon.
    pub(crate) fn replace(
        &self,
        zones: &[Zone],
        configured: PerZone<Policy>,
        router: impl FnOnce(Vec<Policy>) -> Arc<Router>,
    ) -> Arc<Router> {
        let mut states = self.lock();
        let policies = with_drains(zones, &configured, &states.drained);
        states.router = router(policies);
        states.configured = configured;
        Arc::clone(&states.router)
    }

    /// Replaces the file atomically, so that a power failure leaves the old or the new file.
    fn write(&self, drained: &BTreeSet<String>) -> Result<(), DrainError> {
        let lines: String = drained.iter().map(|zone| format!("{zone}\n")).collect();
        atomic_file::write(&self.file, lines.as_bytes(), atomic_file::SHARED)
            .map_err(|error| DrainError::NotWritten { path: self.file.display().to_string(), error })
    }

    fn lock(&self) -> MutexGuard<'_, States> {
        self.states.lock()
    }
}

impl States {
    fn drained_with(&self, zone: &str) -> Result<BTreeSet<String>, DrainError> {
        self.find(zone)?;
        let mut drained = self.drained.clone();
        drained.insert(zone.to_owned());
        match any_read(self.router.zones(), &self.configured, &drained) {
            true => Ok(drained),
            false => Err(DrainError::Last(zone.to_owned())),
        }
    }

    fn drained_without(&self, zone: &str) -> Result<BTreeSet<String>, DrainError> {
        self.find(zone)?;
        let mut drained = self.drained.clone();
        match drained.remove(zone) || !self.is_configured(zone) {
            true => Ok(drained),
            false => Err(DrainError::ByConfiguration(zone.to_owned())),
        }
    }

    /// Whether the configuration drains a zone.
    fn is_configured(&self, zone: &str) -> bool {
        self.router.find(zone).is_some_and(|id| self.configured[id].drain)
    }

    fn take(&mut self, drained: BTreeSet<String>) {
        self.drained = drained;
        self.apply();
    }

    /// Sets the policies of the router.
    fn apply(&self) {
        let zones: Vec<_> = self.router.zones().cloned().collect();
        let effective = with_drains(&zones, &self.configured, &self.drained);
        self.router.set_policies(|policies| *policies = effective.into());
    }

    fn find(&self, name: &str) -> Result<ZoneId, DrainError> {
        self.router.find(name).ok_or_else(|| {
            let known: Vec<_> = self.router.zones().map(|zone| &*zone.name).collect();
            DrainError::Unknown { name: name.to_owned(), known: known.join(", ") }
        })
    }
}

/// The policies of the configuration with the drains by command. If these would leave no zone to read from, they are
/// ignored. Only a later change of the configuration can cause this.
fn with_drains(zones: &[Zone], configured: &PerZone<Policy>, drained: &BTreeSet<String>) -> Vec<Policy> {
    let yields = !drained.is_empty()
        && !any_read(zones, configured, drained)
        && any_read(zones, configured, &BTreeSet::new());
    if yields {
        let drained = drained.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        tracing::error!(
            drained,
            "THE CONFIGURATION LEAVES NO ZONE THAT IS READ beside those drained by command: these are read all the same"
        );
    }
    let policy = |(zone, configured): (&Zone, &Policy)| Policy {
        drain: configured.drain || (!yields && drained.contains(&*zone.name)),
        ..*configured
    };
    zones.iter().zip(configured).map(policy).collect()
}

/// Whether at least one usable zone is read.
fn any_read<'a>(
    zones: impl IntoIterator<Item = &'a Zone>,
    configured: &PerZone<Policy>,
    drained: &BTreeSet<String>,
) -> bool {
    zones
        .into_iter()
        .zip(configured)
        .any(|(zone, policy)| zone.unusable.is_none() && policy.is_read() && !drained.contains(&*zone.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use backends::memory::MemoryStore;
    use zone_router::{RoutedZone, Settings};

    fn router() -> Arc<Router> {
        let zone = |name| Zone::new(name, Arc::new(MemoryStore::new()));
        Arc::new(Router::new(vec![zone("a"), zone("b"), Zone::unusable("c", "no such driver")]))
    }

    fn open(dir: &Path, configured: &[Policy]) -> DrainStates {
        DrainStates::open(router(), configured.to_vec().into(), dir).expect("opens")
    }

    /// The same zones with other policies.
    fn configure(drains: &DrainStates, configured: &[Policy]) {
        let zones: Vec<_> = drains.lock().router.zones().cloned().collect();
        drains.replace(&zones, configured.to_vec().into(), |policies| {
            let routed = zones.iter().cloned().zip(policies);
            let routed = routed.map(|(zone, policy)| RoutedZone { zone, policy });
            Arc::new(Router::with(routed.collect(), Settings::default()))
        });
    }

    fn drained(drains: &DrainStates) -> Vec<bool> {
        drains.lock().router.policies().iter().map(|policy| policy.drain).collect()
    }

    #[test]
    fn a_drain_outlives_a_restart_and_a_reload() {
        let dir = tempfile::tempdir().expect("a folder");
        let plain = [Policy::default(); 3];
        let drains = open(dir.path(), &plain);
        drains.drain("a").expect("drains");
        drains.drain("a").expect("a second drain does nothing");
        assert_eq!(drained(&drains), [true, false, false]);
        configure(&drains, &[Policy { weight: 2.0, ..Policy::default() }; 3]);
        assert_eq!(drained(&drains), [true, false, false]);
        let drains = open(dir.path(), &plain);
        assert_eq!((drained(&drains), drains.is_drained("a")), (vec![true, false, false], true));
        drains.undrain("a").expect("undrains");
        assert_eq!(drained(&open(dir.path(), &plain)), [false; 3]);
    }

    #[test]
    fn a_refused_command_changes_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let by_configuration = Policy { drain: true, ..Policy::default() };
        let drains = open(dir.path(), &[Policy::default(), by_configuration, Policy::default()]);
        let refused = drains.undrain("b").expect_err("by the configuration").to_string();
        assert!(refused.contains("routing.zones.b.drain"), "{refused}");
        // The unusable zone `c` does not count as a zone that is left to read from.
        assert!(matches!(drains.drain("a"), Err(DrainError::Last(_))));
        let unknown = drains.drain("x").expect_err("no such zone").to_string();
        assert_eq!(unknown, "there is no zone x; zones are a, b, c");
        assert_eq!(drained(&drains), [false, true, false]);
        std::fs::create_dir(dir.path().join("drained.partial"))
            .expect("a folder with the name of the partial file");
        configure(&drains, &[Policy::default(); 3]);
        assert!(matches!(drains.drain("a"), Err(DrainError::NotWritten { .. })));
        assert_eq!(drained(&drains), [false; 3]);
    }

    const DRAINED: Policy = Policy { drain: true, reads: true, weight: 1.0, latency_hint: None };

    #[test]
    fn an_undrain_reports_a_drain_of_the_configuration() {
        let dir = tempfile::tempdir().expect("a folder");
        let drains = open(dir.path(), &[Policy::default(), DRAINED, Policy::default()]);
        drains.drain("b").expect("drains");
        let still = drains.undrain("b").expect_err("still drained").to_string();
        assert!(still.contains("still by the configuration"), "{still}");
        assert_eq!((drained(&drains), drains.is_drained("b")), (vec![false, true, false], false));
    }

    #[test]
    fn drains_by_command_are_ignored_if_no_other_zone_is_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let drains = open(dir.path(), &[Policy::default(); 3]);
        drains.drain("a").expect("drains");
        configure(&drains, &[Policy::default(), DRAINED, Policy::default()]);
        assert_eq!(drained(&drains), [false, true, false], "the last usable one is read");
        configure(&drains, &[Policy::default(); 3]);
        assert_eq!(drained(&drains), [true, false, false]);
    }
}
