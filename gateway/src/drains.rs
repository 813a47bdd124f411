//! The operator's word on zones: what the configuration says, and drains by command, which
//! outlive a restart.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use thiserror::Error;
use zone_router::{PerZone, Policy, Router, ZoneId};

/// The file in `state_dir`: a drained zone's name a line.
const FILE: &str = "drained";

/// What is said of zones.
#[derive(Debug)]
pub(crate) struct Word {
    router: Arc<Router>,
    file: PathBuf,
    said: Mutex<Said>,
}

#[derive(Debug)]
struct Said {
    /// By the configuration, for every zone in its order.
    configured: PerZone<Policy>,
    /// By command. May name zones that are not configured now.
    drained: BTreeSet<String>,
}

/// Why a zone was not drained or undrained.
#[derive(Debug, Error)]
pub(crate) enum WordError {
    /// No zone has this name.
    #[error("there is no zone {name}; zones are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// All there are.
        known: String,
    },
    /// Then no blob could be read from a zone.
    #[error("{0} is the last zone that is read: undrain another first")]
    Last(String),
    /// Only a change of the configuration undoes that.
    #[error("{0} is drained by the configuration: take routing.zones.{0}.drain out and send SIGHUP")]
    ByConfiguration(String),
    /// The command's drain is undone, and the configuration's is not.
    #[error(
        "{0} is no longer drained by command, but still by the configuration: take routing.zones.{0}.drain out and send SIGHUP"
    )]
    StillByConfiguration(String),
    /// It would not outlive a restart.
    #[error("{path}: {error}; nothing was changed")]
    NotKept {
        /// The file.
        path: String,
        /// What the disk says.
        error: io::Error,
    },
}

impl Word {
    /// What the configuration says, and what was drained before a restart.
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
        let word = Self { router, file, said: Mutex::new(Said { configured, drained }) };
        word.apply(&word.said());
        Ok(word)
    }

    /// Whether a zone is drained by command.
    pub(crate) fn is_drained(&self, zone: &str) -> bool {
        self.said().drained.contains(zone)
    }

    /// No reads from this zone from now on, until [`Word::undrain`]. Waits for the disk.
    ///
    /// # Errors
    /// Nothing was changed: why.
    pub(crate) fn drain(&self, zone: &str) -> Result<(), WordError> {
        self.find(zone)?;
        let mut said = self.said();
        let mut drained = said.drained.clone();
        drained.insert(zone.to_owned());
        if !self.any_read(&said.configured, &drained) {
            return Err(WordError::Last(zone.to_owned()));
        }
        self.keep(&drained)?;
        said.drained = drained;
        self.apply(&said);
        tracing::warn!(zone, "zone is drained: no reads until it is undrained, copies still arrive");
        Ok(())
    }

    /// Undoes [`Word::drain`]. Waits for the disk.
    ///
    /// # Errors
    /// The zone is still drained: why.
    pub(crate) fn undrain(&self, zone: &str) -> Result<(), WordError> {
        let id = self.find(zone)?;
        let mut said = self.said();
        let mut drained = said.drained.clone();
        if !drained.remove(zone) && said.configured[id].drain {
            return Err(WordError::ByConfiguration(zone.to_owned()));
        }
        self.keep(&drained)?;
        said.drained = drained;
        self.apply(&said);
        if said.configured[id].drain {
            return Err(WordError::StillByConfiguration(zone.to_owned()));
        }
        tracing::info!(zone, "zone is undrained: it is read again");
        Ok(())
    }

    /// What a configuration says that was read again, for every zone in its order; of one that is gone
    /// from it, what was said before holds.
    pub(crate) fn configure(&self, configured: Vec<Option<Policy>>) {
        let mut said = self.said();
        for (policy, newer) in said.configured.iter_mut().zip(configured) {
            *policy = newer.unwrap_or(*policy);
        }
        self.apply(&said);
    }

    /// Drains by command yield where they would leave no zone that is read: only a configuration that
    /// came later can have made them so.
    fn apply(&self, said: &Said) {
        let yields = !said.drained.is_empty()
            && !self.any_read(&said.configured, &said.drained)
            && self.any_read(&said.configured, &BTreeSet::new());
        if yields {
            let drained = said.drained.iter().map(String::as_str).collect::<Vec<_>>().join(",");
            tracing::error!(
                drained,
                "THE CONFIGURATION LEAVES NO ZONE THAT IS READ beside those drained by command: these are read all the same"
            );
        }
        let zones = self.router.zones();
        self.router.set_policies(|policies| {
            for ((policy, configured), zone) in policies.iter_mut().zip(&said.configured).zip(zones) {
                *policy = *configured;
                policy.drain |= !yields && said.drained.contains(&*zone.name);
            }
        });
    }

    /// Whether any zone is read that can be.
    fn any_read(&self, configured: &PerZone<Policy>, drained: &BTreeSet<String>) -> bool {
        self.router.zones().zip(configured).any(|(zone, policy)| {
            zone.unusable.is_none() && policy.is_read() && !drained.contains(&*zone.name)
        })
    }

    fn find(&self, name: &str) -> Result<ZoneId, WordError> {
        self.router.find(name).ok_or_else(|| {
            let known: Vec<_> = self.router.zones().map(|zone| &*zone.name).collect();
            WordError::Unknown { name: name.to_owned(), known: known.join(", ") }
        })
    }

    /// Whole or not at all, whenever the power goes.
    fn keep(&self, drained: &BTreeSet<String>) -> Result<(), WordError> {
        let lines: String = drained.iter().map(|zone| format!("{zone}\n")).collect();
        atomic_file::write(&self.file, lines.as_bytes(), atomic_file::SHARED)
            .map_err(|error| WordError::NotKept { path: self.file.display().to_string(), error })
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backends::memory::MemoryStore;
    use zone_router::Zone;

    fn router() -> Arc<Router> {
        let zone = |name| Zone::new(name, Arc::new(MemoryStore::new()));
        Arc::new(Router::new(vec![zone("a"), zone("b"), Zone::unusable("c", "no such driver")]))
    }

    fn open(dir: &Path, configured: &[Policy]) -> Word {
        Word::open(router(), configured.to_vec().into(), dir).expect("opens")
    }

    fn drained(word: &Word) -> Vec<bool> {
        word.router.policies().iter().map(|policy| policy.drain).collect()
    }

    #[test]
    fn a_drain_outlives_a_restart_and_a_reload() {
        let dir = tempfile::tempdir().expect("a folder");
        let plain = [Policy::default(); 3];
        let word = open(dir.path(), &plain);
        word.drain("a").expect("drains");
        word.drain("a").expect("once more does no harm");
        assert_eq!(drained(&word), [true, false, false]);
        word.configure(vec![Some(Policy { weight: 2.0, ..Policy::default() }); 3]);
        assert_eq!(drained(&word), [true, false, false]);
        let word = open(dir.path(), &plain);
        assert_eq!((drained(&word), word.is_drained("a")), (vec![true, false, false], true));
        word.undrain("a").expect("undrains");
        assert_eq!(drained(&open(dir.path(), &plain)), [false; 3]);
    }

    #[test]
    fn what_is_refused_changes_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let by_configuration = Policy { drain: true, ..Policy::default() };
        let word = open(dir.path(), &[Policy::default(), by_configuration, Policy::default()]);
        let refused = word.undrain("b").expect_err("by the configuration").to_string();
        assert!(refused.contains("routing.zones.b.drain"), "{refused}");
        // The unusable zone is not one to be left with.
        assert!(matches!(word.drain("a"), Err(WordError::Last(_))));
        let unknown = word.drain("x").expect_err("no such zone").to_string();
        assert_eq!(unknown, "there is no zone x; zones are a, b, c");
        assert_eq!(drained(&word), [false, true, false]);
        std::fs::create_dir(dir.path().join("drained.partial")).expect("in the way");
        word.configure(vec![Some(Policy::default()); 3]);
        assert!(matches!(word.drain("a"), Err(WordError::NotKept { .. })));
        assert_eq!(drained(&word), [false; 3]);
    }

    const DRAINED: Policy = Policy { drain: true, reads: true, weight: 1.0, latency_hint: None };

    #[test]
    fn a_zone_that_is_gone_from_the_configuration_stays_as_it_was() {
        let dir = tempfile::tempdir().expect("a folder");
        let word = open(dir.path(), &[Policy::default(), DRAINED, Policy::default()]);
        word.configure(vec![Some(Policy::default()), None, None]);
        assert_eq!(drained(&word), [false, true, false]);
    }

    #[test]
    fn an_undrain_that_does_not_undrain_says_so() {
        let dir = tempfile::tempdir().expect("a folder");
        let word = open(dir.path(), &[Policy::default(), DRAINED, Policy::default()]);
        word.drain("b").expect("drains");
        let still = word.undrain("b").expect_err("still drained").to_string();
        assert!(still.contains("still by the configuration"), "{still}");
        assert_eq!((drained(&word), word.is_drained("b")), (vec![false, true, false], false));
    }

    #[test]
    fn a_drain_by_command_yields_to_a_configuration_that_leaves_nothing_else() {
        let dir = tempfile::tempdir().expect("a folder");
        let word = open(dir.path(), &[Policy::default(); 3]);
        word.drain("a").expect("drains");
        word.configure(vec![None, Some(DRAINED), None]);
        assert_eq!(drained(&word), [false, true, false], "the last usable one is read");
        word.configure(vec![None, Some(Policy::default()), None]);
        assert_eq!(drained(&word), [true, false, false]);
    }
}
