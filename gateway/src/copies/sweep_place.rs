//! Where a sweep stands, over restarts.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backends::Digest;
use serde::{Deserialize, Serialize};

/// The file in `state_dir`.
const FILE: &str = "sweep.json";

/// Manifests remembered within a round. Where there are more, some are looked at twice.
const SEEN_MAX: usize = 50_000;

/// Where a round stands.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Place {
    /// When it began, in seconds since 1970; none before the first.
    pub(crate) began: Option<u64>,
    /// When it ended; none while it goes on.
    pub(crate) ended: Option<u64>,
    /// The page of repositories that it is at; none for the first.
    pub(crate) page: Option<String>,
    /// The last repository of that page that is done.
    pub(crate) repository: Option<String>,
    pub(crate) tally: Tally,
    /// Manifests that were looked at, in hexadecimal.
    seen: HashSet<String>,
}

/// What a round has come to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Tally {
    pub(crate) repositories: u64,
    pub(crate) manifests: u64,
    pub(crate) jobs: u64,
    /// Lists and manifests that were not had.
    pub(crate) skipped: u64,
}

/// Where the place is kept.
#[derive(Debug)]
pub(crate) struct Keeper(PathBuf);

impl Place {
    /// As it is kept.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        // Numbers and texts are always JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Whether a round has begun, and not ended.
    pub(crate) fn is_under_way(&self) -> bool {
        self.began.is_some() && self.ended.is_none()
    }

    /// Begins a round.
    pub(crate) fn begin(&mut self, now: SystemTime) {
        *self = Self { began: Some(seconds(now)), ..Self::default() };
    }

    pub(crate) fn end(&mut self, now: SystemTime) {
        *self = Self { began: self.began, ended: Some(seconds(now)), tally: self.tally, ..Self::default() };
    }

    /// Whether this manifest comes for the first time in this round.
    pub(crate) fn is_new(&mut self, digest: &Digest) -> bool {
        if self.seen.len() >= SEEN_MAX {
            self.seen.clear();
        }
        self.seen.insert(digest.hex())
    }

    /// It was not had after all.
    pub(crate) fn forget(&mut self, digest: &Digest) {
        self.seen.remove(&digest.hex());
    }

    /// How long until the next round, at `every`; nothing where one is under way.
    pub(crate) fn wait(&self, now: SystemTime, every: Duration) -> Duration {
        let (Some(began), Some(_)) = (self.began, self.ended) else { return Duration::ZERO };
        let next =
            UNIX_EPOCH.checked_add(Duration::from_secs(began)).and_then(|began| began.checked_add(every));
        // A clock that was set back must not end all sweeps.
        next.and_then(|next| next.duration_since(now).ok()).unwrap_or_default().min(every)
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Keeper {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self(state_dir.join(FILE))
    }

    /// What was kept; a file that is not understood begins anew. Waits for the disk.
    pub(crate) fn read(&self) -> Place {
        let read = std::fs::read(&self.0);
        match read.map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(place)) => place,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Place::default(),
            Ok(Err(error)) => self.anew(&error),
            Err(error) => self.anew(&error),
        }
    }

    fn anew(&self, error: &dyn std::fmt::Display) -> Place {
        tracing::warn!(file = %self.0.display(), %error, "where the sweep stood is not known: it begins anew");
        Place::default()
    }

    /// Whole or not at all, whenever the power goes. Waits for the disk.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn write(&self, place: &[u8]) -> io::Result<()> {
        atomic_file::write(&self.0, place, atomic_file::SHARED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_goes_on_where_it_stood() {
        let dir = tempfile::tempdir().expect("a folder");
        let keeper = Keeper::new(dir.path());
        assert_eq!(keeper.read(), Place::default());
        let mut place = Place::default();
        place.begin(UNIX_EPOCH + Duration::from_secs(1000));
        place.page = Some("/v2/_catalog?n=2&next_page=x".into());
        assert!(place.is_new(&Digest::EMPTY) && !place.is_new(&Digest::EMPTY));
        keeper.write(&place.bytes()).expect("writes");
        let mut again = keeper.read();
        assert_eq!(again, place);
        assert!(!again.is_new(&Digest::EMPTY));
        again.forget(&Digest::EMPTY);
        assert!(again.is_new(&Digest::EMPTY));
        std::fs::write(dir.path().join(FILE), b"{\"began\": 1, \"be").expect("writes");
        assert_eq!(keeper.read(), Place::default());
    }

    #[test]
    fn rounds_begin_as_often_as_they_should() {
        let hour = Duration::from_secs(3600);
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds);
        let mut place = Place::default();
        assert_eq!(place.wait(at(5000), hour), Duration::ZERO);
        place.begin(at(5000));
        assert_eq!(place.wait(at(5001), hour), Duration::ZERO);
        place.end(at(6000));
        assert_eq!(place.wait(at(6000), hour), Duration::from_secs(2600));
        assert_eq!(place.wait(at(9000), hour), Duration::ZERO);
        assert_eq!(place.wait(at(10), hour), hour);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut place = Place::default();
        for at in 0..SEEN_MAX * 2 {
            assert!(place.is_new(&Digest::of(&at.to_le_bytes())));
            assert!(place.seen.len() <= SEEN_MAX);
        }
    }
}
