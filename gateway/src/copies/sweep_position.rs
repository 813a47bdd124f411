//! The position of the sweep, which is kept over restarts.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backends::Digest;
use serde::{Deserialize, Serialize};

/// The name of the file in `state_dir`.
const FILE: &str = "sweep.json";

/// Manifests that are remembered within a round. If there are more, some are read twice.
const SEEN_MAX: usize = 50_000;

/// The position of a round.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SweepPosition {
    /// When the round began, in seconds since 1970. `None` before the first round.
    pub(crate) began: Option<u64>,
    /// When the round ended. `None` while it is in progress.
    pub(crate) ended: Option<u64>,
    /// The current page of the list of repositories. `None` for the first page.
    pub(crate) page: Option<String>,
    /// The last repository of that page that is done.
    pub(crate) repository: Option<String>,
    pub(crate) tally: Tally,
    /// The manifests that were read in this round, in hexadecimal.
    seen: HashSet<String>,
}

/// The counts of a round.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Tally {
    pub(crate) repositories: u64,
    pub(crate) manifests: u64,
    pub(crate) jobs: u64,
    /// Lists and manifests that could not be read.
    pub(crate) skipped: u64,
}

/// The file that keeps the position.
#[derive(Debug)]
pub(crate) struct PositionFile(PathBuf);

impl SweepPosition {
    /// The position as JSON.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        // Numbers and texts can always be written as JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Whether a round has begun and not ended.
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

    /// Records a manifest. Returns whether it is new in this round.
    pub(crate) fn is_new(&mut self, digest: &Digest) -> bool {
        if self.seen.len() >= SEEN_MAX {
            self.seen.clear();
        }
        self.seen.insert(digest.hex())
    }

    /// Removes a manifest that could not be read.
    pub(crate) fn forget(&mut self, digest: &Digest) {
        self.seen.remove(&digest.hex());
    }

    /// The time until the next round, if rounds begin at intervals of `every`. Zero while a round is in
    /// progress.
    pub(crate) fn wait(&self, now: SystemTime, every: Duration) -> Duration {
        let (Some(began), Some(_)) = (self.began, self.ended) else { return Duration::ZERO };
        let next =
            UNIX_EPOCH.checked_add(Duration::from_secs(began)).and_then(|began| began.checked_add(every));
        // If the clock was set back, the wait must not become longer than `every`.
        next.and_then(|next| next.duration_since(now).ok()).unwrap_or_default().min(every)
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl PositionFile {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self(state_dir.join(FILE))
    }

    /// Reads the position. If the file cannot be understood, the sweep begins again. Waits for the disk.
    pub(crate) fn read(&self) -> SweepPosition {
        let read = std::fs::read(&self.0);
        match read.map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(position)) => position,
            Err(error) if error.kind() == io::ErrorKind::NotFound => SweepPosition::default(),
            Ok(Err(error)) => self.restart(&error),
            Err(error) => self.restart(&error),
        }
    }

    fn restart(&self, error: &dyn std::fmt::Display) -> SweepPosition {
        tracing::warn!(file = %self.0.display(), %error, "where the sweep stood is not known: it begins anew");
        SweepPosition::default()
    }

    /// Replaces the file atomically, so that a power failure leaves the old or the new file. Waits for the
    /// disk.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write(&self, position: &[u8]) -> io::Result<()> {
        atomic_file::write(&self.0, position, atomic_file::SHARED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_continues_after_a_restart() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = PositionFile::new(dir.path());
        assert_eq!(file.read(), SweepPosition::default());
        let mut position = SweepPosition::default();
        position.begin(UNIX_EPOCH + Duration::from_secs(1000));
        position.page = Some("/v2/_catalog?n=2&next_page=x".into());
        assert!(position.is_new(&Digest::EMPTY) && !position.is_new(&Digest::EMPTY));
        file.write(&position.bytes()).expect("writes");
        let mut again = file.read();
        assert_eq!(again, position);
        assert!(!again.is_new(&Digest::EMPTY));
        again.forget(&Digest::EMPTY);
        assert!(again.is_new(&Digest::EMPTY));
        std::fs::write(dir.path().join(FILE), b"{\"began\": 1, \"be").expect("writes");
        assert_eq!(file.read(), SweepPosition::default());
    }

    #[test]
    fn rounds_begin_at_intervals() {
        let hour = Duration::from_secs(3600);
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds);
        let mut position = SweepPosition::default();
        assert_eq!(position.wait(at(5000), hour), Duration::ZERO);
        position.begin(at(5000));
        assert_eq!(position.wait(at(5001), hour), Duration::ZERO);
        position.end(at(6000));
        assert_eq!(position.wait(at(6000), hour), Duration::from_secs(2600));
        assert_eq!(position.wait(at(9000), hour), Duration::ZERO);
        assert_eq!(position.wait(at(10), hour), hour);
    }

    #[test]
    fn the_remembered_manifests_are_bounded() {
        let mut position = SweepPosition::default();
        for at in 0..SEEN_MAX * 2 {
            assert!(position.is_new(&Digest::of(&at.to_le_bytes())));
            assert!(position.seen.len() <= SEEN_MAX);
        }
    }
}
