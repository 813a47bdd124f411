//! Fetches the registry's key set, and keeps it on disk for the next start.

use std::fmt::Display;
use std::future::pending;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

use super::verifier::KEYS_LIFE;
use super::{KEY_SET_BYTES_MAX, TokenVerifier};
use crate::{RegistryClient, read_body};

/// From one fetch of the set to the next.
const RENEW_EVERY: Duration = Duration::from_secs(5 * 60);

/// From a fetch that failed to the next.
const RETRY_EVERY: Duration = Duration::from_secs(15);

/// The least time between two fetches, however many tokens have unknown keys. Clients can make up such tokens.
const PAUSE: Duration = Duration::from_secs(5);

/// How long the registry may take for a set.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The bytes of the file that are read.
const FILE_BYTES_MAX: u64 = 2 * KEY_SET_BYTES_MAX as u64;

/// The file in `state_dir`.
const FILE: &str = "token-keys.json";

/// Where the key set comes from, and where it is kept.
#[derive(Debug)]
pub struct KeySource {
    /// The path of the set at the registry.
    path: String,
    file: PathBuf,
    /// The registry whose keys they are. Keys of another registry must not count.
    registry: String,
}

/// The file: a key set, whose keys they are, and when the registry gave them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    registry: String,
    /// Seconds since 1970.
    fetched: u64,
    set: String,
}

impl KeySource {
    /// The keys of this service at Quay (`endpoints/keyserver`). `registry` names this very registry.
    #[must_use]
    pub fn new(service: &str, registry: String, state_dir: &Path) -> Self {
        Self { path: format!("/keys/services/{service}/keys"), file: state_dir.join(FILE), registry }
    }

    /// Gives the verifier the keys of the last run, unless they are too old. A file that cannot be used counts as none.
    /// It reads a file, so it may block.
    pub fn load(&self, verifier: &TokenVerifier) {
        match self.kept(SystemTime::now()) {
            Ok((set, age)) => {
                let taken = Instant::now().checked_sub(age).map(|at| verifier.take(set.as_bytes(), at));
                tracing::debug!(?taken, age = age.as_secs(), "token keys of the last run");
            }
            Err(why) => tracing::debug!(%why, "no token keys of the last run"),
        }
    }

    fn kept(&self, now: SystemTime) -> anyhow::Result<(String, Duration)> {
        let mut text = String::new();
        std::fs::File::open(&self.file)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
        let kept: Kept = serde_json::from_str(&text).context("not a key file")?;
        ensure!(kept.registry == self.registry, "the keys are those of another registry");
        let age =
            now.duration_since(UNIX_EPOCH + Duration::from_secs(kept.fetched)).context("a time to come")?;
        ensure!(age <= KEYS_LIFE, "they are too old");
        Ok((kept.set, age))
    }

    fn keep(&self, set: String, fetched: SystemTime) -> anyhow::Result<()> {
        let fetched = fetched.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let kept = Kept { registry: self.registry.clone(), fetched, set };
        Ok(atomic_file::write(&self.file, &serde_json::to_vec(&kept)?, atomic_file::PRIVATE)?)
    }

    /// Keeps the verifier's keys up to date, for ever: at once, every five minutes, and soon after a token with an
    /// unknown key.
    pub async fn run(&self, verifier: &TokenVerifier, client: &RegistryClient) {
        follow(verifier, &AtRegistry { source: self, verifier, client: client.within(ANSWER_MAX) }).await;
    }

    async fn written(&self, verifier: &TokenVerifier) {
        let Some((set, age)) = verifier.json() else { return };
        let fetched = SystemTime::now().checked_sub(age).unwrap_or(UNIX_EPOCH);
        let source =
            Self { path: self.path.clone(), file: self.file.clone(), registry: self.registry.clone() };
        let written = tokio::task::spawn_blocking(move || source.keep(set, fetched)).await;
        let failed = match &written {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error as &dyn Display),
            Err(error) => Some(error as &dyn Display),
        };
        if let Some(error) = failed {
            tracing::warn!(%error, file = %self.file.display(), "the registry's token keys are not kept for the next start");
        }
    }
}

/// Gives key sets.
trait Fetch: Sync {
    fn fetch(&self) -> impl Future<Output = anyhow::Result<Vec<u8>>> + Send;

    /// Runs after each set that the verifier took.
    fn taken(&self) -> impl Future<Output = ()> + Send;
}

struct AtRegistry<'a> {
    source: &'a KeySource,
    verifier: &'a TokenVerifier,
    client: RegistryClient,
}

impl Fetch for AtRegistry<'_> {
    async fn fetch(&self) -> anyhow::Result<Vec<u8>> {
        let answer = self.client.get(&self.source.path, HeaderMap::new()).await?;
        ensure!(answer.status() == StatusCode::OK, "the registry answers {}", answer.status());
        Ok(read_body(answer, KEY_SET_BYTES_MAX).await?)
    }

    async fn taken(&self) {
        self.source.written(self.verifier).await;
    }
}

/// Fetches key sets until it is dropped.
async fn follow(verifier: &TokenVerifier, from: &impl Fetch) {
    let mut failed = false;
    loop {
        // Measured before the question, because a key may have ended since the answer was made.
        let at = Instant::now();
        let fetched = from.fetch().await.and_then(|set| Ok(verifier.take(&set, at)?));
        let next = match fetched {
            Ok(keys) => {
                tracing::debug!(keys, "the registry's token keys");
                if std::mem::take(&mut failed) {
                    tracing::info!(keys, "the registry's token keys are known again");
                }
                from.taken().await;
                RENEW_EVERY
            }
            Err(error) => {
                if !std::mem::replace(&mut failed, true) {
                    tracing::warn!(%error, "the registry's token keys cannot be fetched: once the known ones are too old, each blob costs a question to the registry");
                }
                RETRY_EVERY
            }
        };
        let woken = async {
            sleep_until(at + PAUSE).await;
            match failed {
                // The next try is due soon anyway.
                true => pending().await,
                false => verifier.unknown_key().await,
            }
        };
        tokio::select! {
            () = sleep_until(at + next) => {}
            () = woken => {}
        }
        // One fetch that takes long is followed by a pause too.
        sleep_until(at + PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::verify::test_tokens::{QUAY, claims, rules};
    use super::super::{KeyedHash, Unproven};
    use super::*;

    fn verifier() -> TokenVerifier {
        TokenVerifier::new(rules(), KeyedHash::new().expect("random bytes"))
    }

    fn set() -> Vec<u8> {
        serde_json::json!({ "keys": [QUAY.jwk] }).to_string().into_bytes()
    }

    fn source(folder: &Path, registry: &str) -> KeySource {
        KeySource::new("quay", registry.to_owned(), folder)
    }

    struct Counted<'a> {
        fetches: &'a AtomicUsize,
        /// Which of the fetches fail.
        failing: std::ops::Range<usize>,
    }

    impl Fetch for Counted<'_> {
        async fn fetch(&self) -> anyhow::Result<Vec<u8>> {
            let number = self.fetches.fetch_add(1, Ordering::Relaxed);
            ensure!(!self.failing.contains(&number), "the registry answers 502");
            Ok(set())
        }

        async fn taken(&self) {}
    }

    #[tokio::test]
    async fn keys_survive_a_restart_for_their_life_and_for_their_registry() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = source(folder.path(), "quay.example.com");
        let now = SystemTime::now();
        assert!(own.kept(now).is_err(), "no file");
        let text = String::from_utf8(set()).expect("a text");
        own.keep(text.clone(), now).expect("writes");
        let later = |seconds: u64| own.kept(now + Duration::from_secs(seconds));
        assert_eq!(later(60).expect("kept").0, text);
        assert!(later(KEYS_LIFE.as_secs() + 2).is_err(), "too old");
        assert!(own.kept(now - Duration::from_secs(60)).is_err(), "from the future");
        assert!(source(folder.path(), "other.example.com").kept(now).is_err());
        let verifier = verifier();
        own.load(&verifier);
        assert_eq!(verifier.json().map(|(json, _)| json.contains("quay-1")), Some(true));
        for bad in ["", "{}", r#"{"registry":"quay.example.com","fetched":1,"set":"","more":1}"#] {
            std::fs::write(&own.file, bad).expect("writes");
            assert!(own.kept(now).is_err(), "{bad}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn unknown_keys_cause_one_fetch_at_a_time() {
        let (verifier, fetches) = (verifier(), AtomicUsize::new(0));
        let token =
            QUAY.raw(r#"{"alg":"RS256","kid":"made-up"}"#, &claims(&serde_json::json!({})).to_string());
        let from = Counted { fetches: &fetches, failing: 0..0 };
        let flood = async {
            for _ in 0..6000 {
                assert_eq!(verifier.verified(&token).err(), Some(Unproven::UnknownKey));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = follow(&verifier, &from) => {}
            () = flood => {}
        }
        let fetches = fetches.load(Ordering::Relaxed);
        assert!((12..=13).contains(&fetches), "{fetches} in a minute");
    }

    #[tokio::test(start_paused = true)]
    async fn without_unknown_keys_the_set_is_renewed_and_a_failure_is_tried_again() {
        let (verifier, fetches) = (verifier(), AtomicUsize::new(0));
        let from = Counted { fetches: &fetches, failing: 1..3 };
        let mut seen = Vec::new();
        let hour = async {
            for _ in 0..60 {
                tokio::time::sleep(Duration::from_secs(60)).await;
                seen.push(fetches.load(Ordering::Relaxed));
                assert!(verifier.json().is_some_and(|(_, age)| age <= KEYS_LIFE));
            }
        };
        tokio::select! {
            () = follow(&verifier, &from) => {}
            () = hour => {}
        }
        assert_eq!((seen[3], seen[5]), (1, 4), "renewed after five minutes, then tried again");
        assert_eq!(seen.last(), Some(&14));
    }
}
