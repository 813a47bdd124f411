//! Credentials: those of the configuration, or fetched, kept, and renewed before they expire.

mod chain;
mod container;
mod document;
mod environment;
mod imds;
mod profile;
mod sts;
mod web_identity;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use aws_credential_types::Credentials;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::{Instant, timeout};

pub use environment::Environment;
pub use sts::Role;

use super::config::S3Config;
use super::sign::keys;
use crate::transport::HttpClient;
use crate::{Error, Kind, Result};
use chain::Chain;

/// Credentials are renewed, in the background, once they are good for no longer than this, or than
/// half of what they were good for when they came. Botocore's advisory refresh.
const RENEW: Duration = Duration::from_secs(15 * 60);

/// Requests wait for a renewal once the credentials are good for no longer than this, or than a
/// quarter of what they were good for. Only what has expired is not used if the renewal fails.
const WAIT: Duration = Duration::from_secs(60);

/// All of one fetch, however many sources it asks.
const FETCH: Duration = Duration::from_secs(20);

/// After a fetch has failed, its error is the answer for so long, so that neither those who waited
/// for it nor those who come next ask one after the other; and so long between two fetches ahead of
/// need.
const REST: Duration = Duration::from_secs(2);

/// Between two renewals because a store refuses what is not known to have expired.
const RENEWALS_APART: Duration = Duration::from_secs(10);

/// The same, where the store does not say that it is the credentials that it refuses.
const SUSPICIONS_APART: Duration = Duration::from_secs(60);

/// How a store refuses credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::s3) enum Refusal {
    /// It says that they have expired.
    Expired,
    /// It says no, and not why.
    Silent,
}

/// Gives credentials to whoever signs. Clones share what they have.
#[derive(Debug, Clone)]
pub(in crate::s3) struct Provider(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: Source,
    held: ArcSwapOption<Held>,
    /// Held by the one who fetches.
    attempts: Arc<Mutex<Attempts>>,
}

/// Where credentials come from.
#[derive(Debug)]
enum Source {
    /// From the configuration: they never change.
    Fixed(Credentials),
    /// From whatever the process finds around it, as boto3 does.
    Chain(Chain),
    /// From STS, for a role, with credentials from elsewhere.
    Role { role: Role, user: Provider, chain: Chain },
}

/// Credentials, and when they came.
#[derive(Debug)]
struct Held {
    credentials: Credentials,
    since: SystemTime,
}

#[derive(Debug, Default)]
struct Attempts {
    failed: Option<(Instant, Kind, String)>,
    last: Option<Instant>,
    renewed: Option<Instant>,
}

/// Whether credentials want renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Later,
    Soon,
    Now,
}

impl Provider {
    /// The keys of `config`, or boto3's default chain where it has none, or `role` assumed with
    /// either. Opens no connection.
    pub(in crate::s3) fn new(
        config: &S3Config,
        role: Option<&Role>,
        environment: &Environment,
        http: &HttpClient,
    ) -> Self {
        let chain = || Chain::new(environment.clone(), http.clone());
        let user = if config.access_key.reveal().is_empty() || config.secret_key.reveal().is_empty() {
            Self::of(Source::Chain(chain()))
        } else {
            Self::of(Source::Fixed(keys(config)))
        };
        match role {
            Some(role) => Self::of(Source::Role { role: role.clone(), user, chain: chain() }),
            None => user,
        }
    }

    fn of(source: Source) -> Self {
        Self(Arc::new(Inner { source, held: ArcSwapOption::empty(), attempts: Arc::default() }))
    }

    /// Credentials to sign with now.
    ///
    /// # Errors
    /// Why there are none: [`Kind::Denied`] where none are to be found or a source refuses,
    /// [`Kind::Invalid`] where the environment contradicts itself, or what befell the source.
    pub(in crate::s3) async fn get(&self) -> Result<Credentials> {
        if let Source::Fixed(credentials) = &self.0.source {
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

    /// Whether there are other credentials now than those `used`, which a store has refused.
    pub(in crate::s3) async fn renew(&self, used: &Credentials, refusal: Refusal) -> bool {
        if matches!(self.0.source, Source::Fixed(_)) {
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

    /// Renews in the background, unless somebody does already or has just tried.
    fn fetch_ahead(&self) {
        let Ok(attempts) = Arc::clone(&self.0.attempts).try_lock_owned() else { return };
        if attempts.last.is_none_or(|last| last.elapsed() >= REST) {
            drop(tokio::spawn(Arc::clone(&self.0).fetch(attempts)));
        }
    }

    /// Fetches, or waits for who does.
    async fn fetch_once(&self) -> Result<Arc<Held>> {
        let attempts = Arc::clone(&self.0.attempts).lock_owned().await;
        if let Some(held) = self.0.held.load_full()
            && held.due(SystemTime::now()) != Due::Now
        {
            return Ok(held);
        }
        match &attempts.failed {
            Some((when, kind, why)) if when.elapsed() < REST => Err(Error::new(*kind, why.clone())),
            _ => self.fetch(attempts).await,
        }
    }

    /// A task of its own: whoever waits may give up, and others wait too.
    async fn fetch(&self, attempts: OwnedMutexGuard<Attempts>) -> Result<Arc<Held>> {
        tokio::spawn(Arc::clone(&self.0).fetch(attempts)).await.unwrap_or_else(|_| Err(none()))
    }
}

impl Inner {
    fn fetch(
        self: Arc<Self>,
        mut attempts: OwnedMutexGuard<Attempts>,
    ) -> BoxFuture<'static, Result<Arc<Held>>> {
        async move {
            attempts.last = Some(Instant::now());
            let found = timeout(FETCH, self.ask()).await.unwrap_or_else(|_| {
                Err(Error::new(Kind::Timeout, format!("get credentials: not within {FETCH:?}")))
            });
            let since = SystemTime::now();
            match found.map(|credentials| Held { credentials, since }) {
                Ok(held) if !held.expired(since) => {
                    attempts.failed = None;
                    let held = Arc::new(held);
                    self.held.store(Some(Arc::clone(&held)));
                    Ok(held)
                }
                found => {
                    let error = match found {
                        Ok(_) => {
                            Error::new(Kind::Denied, "get credentials: those given have expired already")
                        }
                        Err(error) => error,
                    };
                    // Holds no secret: sources print what they were asked for, never what they said.
                    tracing::warn!(%error, "no new credentials");
                    attempts.failed = Some((Instant::now(), error.kind(), error.to_string()));
                    Err(error)
                }
            }
        }
        .boxed()
    }

    async fn ask(&self) -> Result<Credentials> {
        match &self.source {
            Source::Fixed(credentials) => Ok(credentials.clone()),
            Source::Chain(chain) => chain.find().await,
            Source::Role { role, user, chain } => {
                let keys = user.get().await?;
                match chain.assume(role, &keys).await {
                    Err(error)
                        if error.code().is_some_and(crate::answer::is_expired)
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

impl Held {
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
    Error::new(Kind::Unavailable, "get credentials: broken off")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn held(life: Option<u64>) -> Held {
        let expiry = life.map(|life| SystemTime::UNIX_EPOCH + Duration::from_secs(life));
        let credentials = Credentials::new("AK", "hunter2", Some("hunter3".to_owned()), expiry, "test");
        Held { credentials, since: SystemTime::UNIX_EPOCH }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn renewed_in_time() {
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
    fn prints_no_secret() {
        let printed = format!("{:?}", held(Some(1)));
        assert!(!printed.contains("hunter"), "{printed}");
    }

    proptest! {
        #[test]
        fn what_has_expired_is_due(life in 0..100_000_u64, now in 0..200_000_u64) {
            let held = held(Some(life));
            prop_assert!(!held.expired(at(now)) || held.due(at(now)) == Due::Now);
        }
    }
}
