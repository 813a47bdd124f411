//! The operator's word on zones: what the configuration says, and drains by command, which
//! outlive a restart.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;
use zone_router::{Policy, Router};

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
    configured: Vec<Policy>,
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
    pub(crate) fn open(router: Arc<Router>, configured: Vec<Policy>, state_dir: &Path) -> io::Result<Self> {
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
        let index = self.find(zone)?;
        let mut said = self.said();
        let read = |(other, name): (usize, &str)| {
            other != index && said.configured[other].is_read() && !said.drained.contains(name)
        };
        let names = self.router.zones().iter().map(|zone| &*zone.name);
        let usable = |(other, _): &(usize, &str)| self.router.zones()[*other].unusable.is_none();
        if !names.enumerate().filter(usable).any(read) {
            return Err(WordError::Last(zone.to_owned()));
        }
        let mut drained = said.drained.clone();
        drained.insert(zone.to_owned());
        self.keep(&drained)?;
        said.drained = drained;
        self.apply(&said);
        tracing::warn!(zone, "zone is drained: no reads until it is undrained, copies still arrive");
        Ok(())
    }

    /// Undoes [`Word::drain`]. Waits for the disk.
    ///
    /// # Errors
    /// Nothing was changed: why.
    pub(crate) fn undrain(&self, zone: &str) -> Result<(), WordError> {
        let index = self.find(zone)?;
        let mut said = self.said();
        let mut drained = said.drained.clone();
        if !drained.remove(zone) && said.configured[index].drain {
            return Err(WordError::ByConfiguration(zone.to_owned()));
        }
        self.keep(&drained)?;
        said.drained = drained;
        self.apply(&said);
        tracing::info!(zone, "zone is undrained: it is read again");
        Ok(())
    }

    /// What a configuration says that was read again, for every zone in its order.
    pub(crate) fn configure(&self, configured: Vec<Policy>) {
        let mut said = self.said();
        said.configured = configured;
        self.apply(&said);
    }

    fn apply(&self, said: &Said) {
        let zones = self.router.zones();
        self.router.set_policies(|policies| {
            for ((policy, configured), zone) in policies.iter_mut().zip(&said.configured).zip(zones) {
                *policy = *configured;
                policy.drain |= said.drained.contains(&*zone.name);
            }
        });
    }

    fn find(&self, name: &str) -> Result<usize, WordError> {
        let zones = self.router.zones();
        zones.iter().position(|zone| &*zone.name == name).ok_or_else(|| {
            let known: Vec<_> = zones.iter().map(|zone| &*zone.name).collect();
            WordError::Unknown { name: name.to_owned(), known: known.join(", ") }
        })
    }

    /// Whole or not at all, whenever the power goes.
    fn keep(&self, drained: &BTreeSet<String>) -> Result<(), WordError> {
        let write = || {
            let folder = self.file.parent().unwrap_or(Path::new("."));
            let partial = self.file.with_extension("partial");
            let mut file = std::fs::File::create(&partial)?;
            for zone in drained {
                writeln!(file, "{zone}")?;
            }
            file.sync_all()?;
            std::fs::rename(&partial, &self.file)?;
            std::fs::File::open(folder)?.sync_all()
        };
        write().map_err(|error| WordError::NotKept { path: self.file.display().to_string(), error })
    }

    fn said(&self) -> std::sync::MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
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
        Word::open(router(), configured.to_vec(), dir).expect("opens")
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
        word.configure(vec![Policy { weight: 2.0, ..Policy::default() }; 3]);
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
        word.configure(vec![Policy::default(); 3]);
        assert!(matches!(word.drain("a"), Err(WordError::NotKept { .. })));
        assert_eq!(drained(&word), [false; 3]);
    }
}
