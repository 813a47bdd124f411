//! Verifies the tokens of requests, with the latest key set, and remembers what it verified.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use moka::sync::Cache;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::keyed_hash::Hashed;
use super::{KeySet, KeyedHash, Rules, Unproven, Verified, verify};

/// How long a key set counts after the registry gave it. Quay's keys are valid for two hours, and are renewed an hour
/// before their end.
pub const KEYS_LIFE: Duration = Duration::from_secs(15 * 60);

/// The bytes of memory for verified tokens.
const MEMO_BYTES: u64 = 16 * 1024 * 1024;

/// The memory of a verified token without its names: the entry itself, and what the cache keeps for it.
const ENTRY_BYTES: usize = 512;

/// How long a verified token is remembered at most. It ends with the token, and with its key.
const MEMO_LIFE: Duration = Duration::from_secs(600);

/// Verifies tokens. A verification costs tens of microseconds, so its result is remembered under a keyed hash of the
/// token. Only tokens that the registry signed take a place there.
#[derive(Debug)]
pub struct TokenVerifier {
    rules: Rules,
    hash: KeyedHash,
    memo: Cache<Hashed, Arc<Verified>>,
    keys: ArcSwap<Confirmed>,
    unknown: Notify,
}

/// A key set, and when the registry gave it.
#[derive(Debug, Default)]
struct Confirmed {
    keys: KeySet,
    at: Option<Instant>,
    /// Whether they count for ever, because the operator gave them.
    fixed: bool,
}

impl Confirmed {
    fn is_current(&self) -> bool {
        self.fixed || self.at.is_some_and(|at| at.elapsed() <= KEYS_LIFE)
    }
}

impl TokenVerifier {
    /// A verifier without keys.
    #[must_use]
    pub fn new(rules: Rules, hash: KeyedHash) -> Self {
        let weigh = |_: &Hashed, verified: &Arc<Verified>| {
            u32::try_from(ENTRY_BYTES + verified.grants().bytes()).unwrap_or(u32::MAX)
        };
        let memo = Cache::builder().weigher(weigh).max_capacity(MEMO_BYTES).time_to_live(MEMO_LIFE).build();
        Self { rules, hash, memo, keys: ArcSwap::default(), unknown: Notify::new() }
    }

    /// A verifier with these keys only.
    #[must_use]
    pub fn with_keys(rules: Rules, hash: KeyedHash, keys: KeySet) -> Self {
        let verifier = Self::new(rules, hash);
        verifier.keys.store(Arc::new(Confirmed { keys, at: None, fixed: true }));
        verifier
    }

    /// Verifies a token now. If its key is unknown, the key set is fetched again soon; nobody waits for that.
    ///
    /// # Errors
    /// The token is not a plain yes, for the reason in the error.
    pub fn verified(&self, token: &str) -> Result<Arc<Verified>, Unproven> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.verified_at(token, now)
    }

    fn verified_at(&self, token: &str, now: Duration) -> Result<Arc<Verified>, Unproven> {
        let confirmed = self.keys.load();
        if !confirmed.is_current() {
            return Err(Unproven::UnknownKey);
        }
        if token.len() > super::TOKEN_BYTES_MAX {
            return Err(Unproven::TooLong);
        }
        let hashed = self.hash.of([token.as_bytes()]);
        if let Some(known) = self.memo.get(&hashed).filter(|known| known.counts(&confirmed.keys, now)) {
            return Ok(known);
        }
        let verified = verify(token, &confirmed.keys, &self.rules, now).inspect_err(|why| {
            if *why == Unproven::UnknownKey {
                self.unknown.notify_one();
            }
        })?;
        let verified = Arc::new(verified);
        self.memo.insert(hashed, Arc::clone(&verified));
        Ok(verified)
    }

    /// Takes a set that the registry gave at `at`. Returns the number of its keys.
    ///
    /// # Errors
    /// The errors of [`KeySet::parse`]. The set from before then stays, until [`KEYS_LIFE`] is over.
    pub fn take(&self, json: &[u8], at: Instant) -> Result<usize, super::KeySetError> {
        let keys = KeySet::parse(json, &self.keys.load().keys)?;
        let count = keys.len();
        self.keys.store(Arc::new(Confirmed { keys, at: Some(at), fixed: false }));
        Ok(count)
    }

    /// The keys as JSON, and how long ago the registry gave them. `None` before the first set.
    #[must_use]
    pub fn json(&self) -> Option<(String, Duration)> {
        let confirmed = self.keys.load();
        Some((confirmed.keys.json(), confirmed.at?.elapsed()))
    }

    /// The number of keys that verify tokens now.
    #[must_use]
    pub fn keys(&self) -> usize {
        let confirmed = self.keys.load();
        if confirmed.is_current() { confirmed.keys.len() } else { 0 }
    }

    /// Waits for a token with an unknown key.
    pub(super) async fn unknown_key(&self) {
        self.unknown.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::verify::test_tokens::{NOW, QUAY, claims, rules};
    use super::*;

    fn verifier() -> TokenVerifier {
        TokenVerifier::new(rules(), KeyedHash::new().expect("random bytes"))
    }

    fn keys(listed: &[&serde_json::Value]) -> Vec<u8> {
        serde_json::json!({ "keys": listed }).to_string().into_bytes()
    }

    #[tokio::test(start_paused = true)]
    async fn a_set_counts_for_its_life_and_a_verified_token_no_longer_than_it() {
        let verifier = verifier();
        let token = QUAY.sign(&claims(&serde_json::json!({})));
        let at = |seconds: u64| verifier.verified_at(&token, Duration::from_secs(NOW + seconds)).err();
        assert_eq!(at(0), Some(Unproven::UnknownKey), "before the first set");
        verifier.take(&keys(&[&QUAY.jwk]), Instant::now()).expect("a key set");
        assert_eq!(at(0), None);
        assert!(verifier.memo.contains_key(&verifier.hash.of([token.as_bytes()])));
        assert_eq!(at(3629), None);
        assert_eq!(at(3630), Some(Unproven::Time), "the memory does not outlive the token");
        tokio::time::advance(KEYS_LIFE).await;
        assert_eq!(at(0), None);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(at(0), Some(Unproven::UnknownKey));
        verifier.take(&keys(&[&QUAY.jwk]), Instant::now()).expect("a key set");
        assert_eq!(at(0), None);
        let other = super::super::verify::test_tokens::Signer::new("other");
        verifier.take(&keys(&[&other.jwk]), Instant::now()).expect("a key set");
        assert_eq!(at(0), Some(Unproven::UnknownKey), "the memory does not outlive the key");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_set_changes_nothing_and_refused_tokens_take_no_memory() {
        let verifier = verifier();
        verifier.take(&keys(&[&QUAY.jwk]), Instant::now()).expect("a key set");
        assert!(verifier.take(b"<html>", Instant::now()).is_err());
        let token = QUAY.sign(&claims(&serde_json::json!({})));
        let (message, signature) = token.rsplit_once('.').expect("a token");
        let other = if signature.starts_with('A') { "B" } else { "A" };
        let forged = format!("{message}.{other}{}", &signature[1..]);
        let now = Duration::from_secs(NOW);
        assert!(verifier.verified_at(&token, now).is_ok());
        for refused in [forged, QUAY.sign(&claims(&serde_json::json!({"aud": "other"}))), "a.b.c".into()] {
            assert!(verifier.verified_at(&refused, now).is_err());
        }
        verifier.memo.run_pending_tasks();
        assert_eq!(verifier.memo.entry_count(), 1);
    }
}
