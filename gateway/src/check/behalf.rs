//! What the gateway asks and tells Quay on its own behalf: as `registry.account`, in Quay's database,
//! and under the locks in its Redis.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join3;
use rustls::ClientConfig;
use zone_router::postgres::PostgresError;

use super::Progress;
use super::advice::{Advice, Peer, Trouble};
use super::step::{Name, Note, Steps, Walk};
use crate::account::{self, Reader};
use crate::app;
use crate::config::{Placements, RedisSettings, Settings};
use crate::follow::Follow;
use crate::quay_database::QuayDatabase;
use crate::redis::{Locks, RedisError};
use crate::registry::{self, Names};
use crate::upstream::Upstream;

/// For a login: Quay's passwords are slow by design.
const LOGIN_BOUND: Duration = Duration::from_secs(20);

/// For a connection, and a look at the tables.
const DATABASE_BOUND: Duration = Duration::from_secs(20);

/// For a connection, and a word.
const LOCK_BOUND: Duration = Duration::from_secs(10);

/// What came of one of them.
#[derive(Debug, Clone)]
pub struct BehalfReport {
    /// `account`, `database` or `lock`.
    pub name: &'static str,
    /// Who, or where; without a password.
    pub what: String,
    /// Its steps.
    pub steps: Steps,
}

/// Checks those that are configured, all at once.
pub(super) async fn check(
    settings: &Settings,
    tls: &Arc<ClientConfig>,
    each: Option<Duration>,
    progress: &Progress,
) -> Vec<BehalfReport> {
    let placements = settings.replication.placements.as_ref();
    let redis = placements.and_then(|placements| placements.lock.as_ref());
    let account = async {
        let username = settings.account.as_ref()?.username.clone();
        let mut walk = Walk::new(Peer::default(), vec![Name::Login, Name::Catalog], progress.line("account"));
        let _ = log_in(&mut walk, settings, tls, each.unwrap_or(LOGIN_BOUND)).await;
        Some(BehalfReport { name: "account", what: username, steps: walk.end() })
    };
    let database = async {
        let placements = placements?;
        let mut walk = Walk::new(Peer::default(), vec![Name::Placements], progress.line("database"));
        let work = placements_kept(settings, placements);
        let _ = walk.step(Name::Placements, each.unwrap_or(DATABASE_BOUND), work).await;
        Some(BehalfReport { name: "database", what: placements.database.to_string(), steps: walk.end() })
    };
    let lock = async {
        let redis = redis?;
        let mut walk = Walk::new(Peer::default(), vec![Name::Lock], progress.line("lock"));
        let _ = walk.step(Name::Lock, each.unwrap_or(LOCK_BOUND), answers(settings, redis)).await;
        Some(BehalfReport { name: "lock", what: redis.to_string(), steps: walk.end() })
    };
    let (account, database, lock) = join3(account, database, lock).await;
    [account, database, lock].into_iter().flatten().collect()
}

/// Names of those that are configured.
pub(super) fn names(settings: &Settings) -> impl Iterator<Item = &'static str> + use<> {
    let placements = settings.replication.placements.as_ref();
    let lock = placements.is_some_and(|placements| placements.lock.is_some());
    let all = [("account", settings.account.is_some()), ("database", placements.is_some()), ("lock", lock)];
    all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name)
}

async fn log_in(
    walk: &mut Walk,
    settings: &Settings,
    tls: &Arc<ClientConfig>,
    bound: Duration,
) -> Option<()> {
    let reader = walk.step(Name::Login, bound, async {
        let reader = reader(settings, tls).map_err(|error| told(&error, ACCOUNT))?;
        reader.log_in().await.map_err(|error| account_trouble(&error))?;
        Ok((reader, None))
    });
    let reader = reader.await?;
    walk.step(Name::Catalog, bound, async {
        let page = reader.repositories(None).await.map_err(|error| account_trouble(&error))?;
        let note = match page.names.is_empty() {
            true => Note::Warning(
                "the account sees no repository at all, so the sweep finds nothing: give it read rights"
                    .to_owned(),
            ),
            false => {
                let more = if page.next.is_some() { "more than " } else { "" };
                Note::Info(format!("{more}{} repositories", page.names.len()))
            }
        };
        Ok(((), Some(note)))
    })
    .await
}

fn reader(settings: &Settings, tls: &Arc<ClientConfig>) -> anyhow::Result<Reader> {
    let upstream = Arc::new(Upstream::new(settings, tls)?);
    let names = Names::new(&settings.registry_hostname, &settings.hostname);
    let follow = Follow::new(tls, settings)?;
    let reader = Reader::new(settings, upstream, names, follow, registry::registry(settings), tls)?;
    reader.ok_or_else(|| anyhow::anyhow!("no account is configured"))
}

const ACCOUNT: (&str, &str) = (
    "the registry does not let the account in, or does not answer",
    "mend `registry.account`; wait a few minutes after wrong passwords, as Quay does",
);

fn account_trouble(error: &account::Trouble) -> Trouble {
    told(error, ACCOUNT)
}

fn told(said: &dyn std::fmt::Display, (cause, fix): (&str, &str)) -> Trouble {
    Trouble::Told(said.to_string(), Advice::new(cause, fix))
}

async fn placements_kept(
    settings: &Settings,
    placements: &Placements,
) -> Result<((), Option<Note>), Trouble> {
    const AWAY: (&str, &str) = (
        "the server is down, its address is wrong, or TLS to it fails: it must have a certificate for its name",
        "mend DB_URI and DB_CONNECTION_ARGS, or name it in `replication.database`; sslmode: disable where it has no TLS",
    );
    const REFUSED: (&str, &str) = (
        "user, password or database are not the server's, it is no database of Quay's, or the user may not read \
         its tables and add to imagestorageplacement",
        "mend them; GRANT SELECT ON imagestorage, imagestorageplacement, imagestoragelocation, userregion, \
         blobupload, \"user\"; GRANT INSERT ON imagestorageplacement; GRANT USAGE ON its sequence",
    );
    let tls = app::tls_with(settings, placements.root.as_ref())
        .map_err(|error| told(&format!("{error:#}"), AWAY))?;
    match QuayDatabase::check(&placements.database, &tls).await {
        Ok(()) => Ok(((), Some(Note::Info("a placement may be added".to_owned())))),
        Err(error @ PostgresError::Refused { .. }) => Err(told(&error, REFUSED)),
        Err(error) => Err(told(&error, AWAY)),
    }
}

async fn answers(settings: &Settings, redis: &RedisSettings) -> Result<((), Option<Note>), Trouble> {
    const AWAY: (&str, &str) = (
        "Redis is down, its address is wrong as seen from here, or TLS to it fails",
        "mend USER_EVENTS_REDIS, or Redis; where it has no TLS, `ssl` must not be true",
    );
    const REFUSED: (&str, &str) =
        ("its password is another, or the user may not do what a lock needs", "mend USER_EVENTS_REDIS");
    let tls =
        app::tls_with(settings, redis.root.as_ref()).map_err(|error| told(&format!("{error:#}"), AWAY))?;
    match Locks::new(redis.clone(), tls).ping().await {
        Ok(()) => Ok(((), None)),
        Err(error @ RedisError::Refused(_)) => Err(told(&error, REFUSED)),
        Err(error) => Err(told(&error, AWAY)),
    }
}
