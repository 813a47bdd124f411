#![doc = include_str!("../README.md")]

mod chain;
mod client;
mod container;
mod document;
mod environment;
mod imds;
mod profile;
mod sign;
mod sts;
mod web_identity;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use aws_credential_types::Credentials;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use store_answers::{Error, Kind, Result};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::{Instant, timeout};

pub use client::Http;
pub use environment::Environment;
pub use sign::{Scope, sign};
pub use sts::Role;

use chain::Chain;

/// Credentials are renewed in the background if their remaining validity is at most this, or at most half of
/// their initial validity. This is botocore's advisory refresh.
const RENEW: Duration = Duration::from_secs(15 * 60);

/// Requests wait for the renewal if the remaining validity is at most this, or at most a quarter of the
/// initial validity. If the renewal fails, credentials that have not expired are still used.
const WAIT: Duration = Duration::from_secs(60);

/// The timeout of one fetch, however many sources it asks.
const FETCH: Duration = Duration::from_secs(20);

/// After a fetch has failed, its error is the answer for this long. Callers that waited for the fetch and new
/// callers therefore do not repeat it one after the other. The same time passes between two background
/// renewals.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// The minimum time between two renewals that are caused by a store's refusal, if the credentials are not
/// known to have expired.
const RENEWALS_APART: Duration = Duration::from_secs(10);

/// The same, if the store does not say that it refuses the credentials.
const SUSPICIONS_APART: Duration = Duration::from_secs(60);

/// How a store refuses credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The store says that they have expired.
    Expired,
    /// The store refuses without a reason.
    Silent,
}

/// Provides credentials for signatures. Clones share their credentials.
#[derive(Debug, Clone)]
pub struct Provider(Arc<ProviderState>);

#[derive(Debug)]
struct ProviderState {
    source: Origin,
    held: ArcSwapOption<HeldCredentials>,
    /// Locked while a fetch runs.
    attempts: Arc<Mutex<Attempts>>,
}

/// The source of credentials.
#[derive(Debug)]
enum Origin {
    /// The configuration. These credentials never change.
    Fixed(Credentials),
    /// The environment of the process, as in boto3.
    Chain(Chain),
    /// STS, for a role, with credentials from another source.
    Role { role: Role, user: Provider, chain: Chain },
}

/// Credentials, and the time when they were fetched.
#[derive(Debug)]
struct HeldCredentials {
    credentials: Credentials,
    since: SystemTime,
}

#[derive(Debug, Default)]
struct Attempts {
    failed: Option<(Instant, Kind, String)>,
    last: Option<Instant>,
    renewed: Option<Instant>,
}

/// Whether credentials need a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Later,
    Soon,
    Now,
}

impl Provider {
    /// Uses these keys. If there are none, uses boto3's default chain. If there is a `role`, assumes it with these
    /// credentials. Opens no connection.
    #[must_use]
    pub fn new(
        keys: Option<Credentials>,
        role: Option<&Role>,
        environment: &Environment,
        http: &Arc<dyn Http>,
    ) -> Self {
        let chain = || Chain::new(environment.clone(), Arc::clone(http));
        let user = Self::of(keys.map_or_else(|| Origin::Chain(chain()), Origin::Fixed));
        match role {
            Some(role) => Self::of(Origin::Role { role: role.clone(), user, chain: chain() }),
            None => user,
        }
    }

    fn of(source: Origin) -> Self {
        Self(Arc::new(ProviderState { source, held: ArcSwapOption::empty(), attempts: Arc::default() }))
    }

    /// The credentials to sign with now.
    ///
    /// # Errors
    /// [`Kind::Denied`] if no credentials are found or a source refuses. [`Kind::Invalid`] if the environment
    /// contradicts itself. Otherwise the error of the source.
    pub async fn get(&self) -> Result<Credentials> {
        if let Origin::Fixed(credentials) = &self.0.source {
            return Ok(credentials.clone());
        }
        let held = self.0.held.load_full();
        match held.as_deref().map(|held| held.due(SystemTime::now())) {
            Some(Due::Now) | None => {}
            due => {
                if due == Some(Due::Soon) {
                    self.fetch_ahead();
                }
                return held.map(|held| held.credentials.clone()).ok_or_else(none);
            }
        }
        match (self.fetch_once().await, held) {
            (Ok(fresh), _) => Ok(fresh.credentials.clone()),
            (Err(_), Some(held)) if !held.expired(SystemTime::now()) => Ok(held.credentials.clone()),
            (Err(error), _) => Err(error),
        }
    }

    /// Whether there are now other credentials than `used`, which a store has refused.
    pub async fn renew(&self, used: &Credentials, refusal: Refusal) -> bool {
        if matches!(self.0.source, Origin::Fixed(_)) {
            return false;
        }
        let mut attempts = Arc::clone(&self.0.attempts).lock_owned().await;
        if let Some(held) = self.0.held.load_full()
            && !same(&held.credentials, used)
        {
            return true;
        }
        let apart = match refusal {
            Refusal::Expired => RENEWALS_APART,
            Refusal::Silent => SUSPICIONS_APART,
        };
        if attempts.renewed.is_some_and(|last| last.elapsed() < apart) {
            return false;
        }
        attempts.renewed = Some(Instant::now());
        match self.fetch(attempts).await {
            Ok(fresh) => !same(&fresh.credentials, used),
            Err(_) => false,
        }
    }

    /// Renews in the background, unless a fetch is running or has just been tried.
    fn fetch_ahead(&self) {
        let Ok(attempts) = Arc::clone(&self.0.attempts).try_lock_owned() else { return };
        if attempts.last.is_none_or(|last| last.elapsed() >= RETRY_PAUSE) {
            drop(tokio::spawn(Arc::clone(&self.0).fetch(attempts)));
        }
    }

    /// Fetches credentials, or waits for the fetch that is running.
    async fn fetch_once(&self) -> Result<Arc<HeldCredentials>> {
        let attempts = Arc::clone(&self.0.attempts).lock_owned().await;
        if let Some(held) = self.0.held.load_full()
            && held.due(SystemTime::now()) != Due::Now
        {
            return Ok(held);
        }
        match &attempts.failed {
            Some((when, kind, why)) if when.elapsed() < RETRY_PAUSE => Err(Error::new(*kind, why.clone())),
            _ => self.fetch(attempts).await,
        }
    }

    /// Runs the fetch in its own task, because the caller may be cancelled while other callers wait.
    async fn fetch(&self, attempts: OwnedMutexGuard<Attempts>) -> Result<Arc<HeldCredentials>> {
        tokio::spawn(Arc::clone(&self.0).fetch(attempts)).await.unwrap_or_else(|_| Err(none()))
    }
}

impl ProviderState {
    fn fetch(
        self: Arc<Self>,
        mut attempts: OwnedMutexGuard<Attempts>,
    ) -> BoxFuture<'static, Result<Arc<HeldCredentials>>> {
        async move {
            attempts.last = Some(Instant::now());
            let found = timeout(FETCH, self.ask()).await.unwrap_or_else(|_| {
                Err(Error::new(Kind::Timeout, format!("get credentials: no result within {FETCH:?}")))
            });
            let since = SystemTime::now();
            match found.map(|credentials| HeldCredentials { credentials, since }) {
                Ok(held) if !held.expired(since) => {
                    attempts.failed = None;
                    let held = Arc::new(held);
                    self.held.store(Some(Arc::clone(&held)));
                    Ok(held)
                }
                found => {
                    let error = match found {
                        Ok(_) => Error::new(
                            Kind::Denied,
                            "get credentials: the source returned expired credentials",
                        ),
                        Err(error) => error,
                    };
                    // The error contains no secret: sources report their request, never their answer.
                    tracing::warn!(%error, "the store's credentials could not be renewed");
                    attempts.failed = Some((Instant::now(), error.kind(), error.to_string()));
                    Err(error)
                }
            }
        }
        .boxed()
    }

    async fn ask(&self) -> Result<Credentials> {
        match &self.source {
            Origin::Fixed(credentials) => Ok(credentials.clone()),
            Origin::Chain(chain) => chain.find().await,
            Origin::Role { role, user, chain } => {
                let keys = user.get().await?;
                match chain.assume(role, &keys).await {
                    Err(error)
                        if error.code().is_some_and(store_answers::answer::is_expired)
                            && user.renew(&keys, Refusal::Expired).await =>
                    {
                        chain.assume(role, &user.get().await?).await
                    }
                    assumed => assumed,
                }
            }
        }
    }
}

impl HeldCredentials {
    fn due(&self, now: SystemTime) -> Due {
        let Some(expiry) = self.credentials.expiry() else { return Due::Later };
        let life = expiry.duration_since(self.since).unwrap_or_default();
        let left = expiry.duration_since(now).unwrap_or_default();
        if left <= WAIT.min(life / 4) {
            Due::Now
        } else if left <= RENEW.min(life / 2) {
            Due::Soon
        } else {
            Due::Later
        }
    }

    fn expired(&self, now: SystemTime) -> bool {
        self.credentials.expiry().is_some_and(|expiry| expiry <= now)
    }
}

fn same(a: &Credentials, b: &Credentials) -> bool {
    (a.access_key_id(), a.secret_access_key(), a.session_token())
        == (b.access_key_id(), b.secret_access_key(), b.session_token())
}

fn none() -> Error {
    Error::new(Kind::Unavailable, "get credentials: the fetch was aborted")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn held(life: Option<u64>) -> HeldCredentials {
        let expiry = life.map(|life| SystemTime::UNIX_EPOCH + Duration::from_secs(life));
        let credentials = Credentials::new("AK", "hunter2", Some("hunter3".to_owned()), expiry, "test");
        HeldCredentials { credentials, since: SystemTime::UNIX_EPOCH }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn credentials_are_renewed_before_they_expire() {
        for (life, changes) in [(3600, [2700, 3540]), (900, [450, 840]), (60, [30, 45])] {
            let held = held(Some(life));
            assert_eq!(held.due(at(changes[0] - 1)), Due::Later, "{life}");
            assert_eq!(held.due(at(changes[0])), Due::Soon, "{life}");
            assert_eq!(held.due(at(changes[1] - 1)), Due::Soon, "{life}");
            assert_eq!(held.due(at(changes[1])), Due::Now, "{life}");
            assert!(!held.expired(at(life - 1)) && held.expired(at(life)));
        }
        assert_eq!(held(None).due(at(u64::from(u32::MAX))), Due::Later);
    }

    #[test]
    fn no_secret_is_printed() {
        let printed = format!("{:?}", held(Some(1)));
        assert!(!printed.contains("hunter"), "{printed}");
    }

    proptest! {
        #[test]
        fn expired_credentials_need_a_renewal(life in 0..100_000_u64, now in 0..200_000_u64) {
            let held = held(Some(life));
            prop_assert!(!held.expired(at(now)) || held.due(at(now)) == Due::Now);
        }
    }
}
