//! What the gateway asks and tells Quay on its own behalf: as `registry.account`, in Quay's database,
//! and under the locks in its Redis.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join3;
use postgres_connection::PostgresError;
use rustls::ClientConfig;

use super::Progress;
use super::advice::{Advice, Peer, Trouble};
use super::step::{Name, Note, Steps, Walk};
use config::{Placements, RedisSettings, Settings};
use quay_db::QuayDatabase;
use quay_db::redis::{Locks, RedisError};
use registry::service_account::{ReadError, Reader};
use registry::{self, RegistryClient};

/// For a login: Quay's passwords are slow by design.
const LOGIN_BOUND: Duration = Duration::from_secs(20);

/// For a connection, and a look at the tables.
const DATABASE_BOUND: Duration = Duration::from_secs(20);

/// For a connection, and a word.
const LOCK_BOUND: Duration = Duration::from_secs(10);

/// Pages of repositories that are counted, of 100 each.
const PAGES_MAX: usize = 100;

/// Namespaces that a warning names.
const NAMED_MAX: usize = 5;

/// What the account should be, as nothing less reads all.
const ALL_SEEING: &str = "let registry.account be a user that Quay's config.yaml lists in GLOBAL_READONLY_SUPER_USERS \
                          (a robot belongs to one namespace, and cannot be given repositories of others)";

/// What came of one of them.
#[derive(Debug, Clone)]
pub struct BehalfReport {
    /// `account`, `database` or `lock`.
    pub name: &'static str,
    /// Who, or where; without a password.
    pub what: String,
    /// Its steps.
    pub steps: Steps,
    /// What is odd about it although its steps passed.
    pub warning: Option<String>,
}

impl BehalfReport {
    fn new(name: &'static str, what: String, steps: Steps) -> Self {
        Self { name, what, steps, warning: None }
    }
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
        let seen = log_in(&mut walk, settings, tls, each.unwrap_or(LOGIN_BOUND)).await;
        Some((BehalfReport::new("account", username, walk.end()), seen))
    };
    let database = async {
        let placements = placements?;
        let mut walk = Walk::new(Peer::default(), vec![Name::Placements], progress.line("database"));
        let work = placements_kept(settings, placements);
        let _ = walk.step(Name::Placements, each.unwrap_or(DATABASE_BOUND), work).await;
        let report = BehalfReport::new("database", placements.database.to_string(), walk.end());
        let namespaces = match settings.account.is_some() && report.steps.passed() {
            true => namespaces(settings, placements, each.unwrap_or(DATABASE_BOUND)).await,
            false => None,
        };
        Some((report, namespaces))
    };
    let lock = async {
        let redis = redis?;
        let mut walk = Walk::new(Peer::default(), vec![Name::Lock], progress.line("lock"));
        let _ = walk.step(Name::Lock, each.unwrap_or(LOCK_BOUND), answers(settings, redis)).await;
        Some(BehalfReport::new("lock", redis.to_string(), walk.end()))
    };
    let (account, database, lock) = join3(account, database, lock).await;
    let (database, namespaces) = database.map_or((None, None), |(report, all)| (Some(report), all));
    let account = account.map(|(mut report, seen)| {
        report.warning = seen.and_then(|seen| unseen(&report.what, &seen, namespaces.as_ref()));
        report
    });
    [account, database, lock].into_iter().flatten().collect()
}

/// Namespaces of the repositories that the account sees.
#[derive(Debug, Default)]
struct Seen {
    namespaces: BTreeSet<String>,
    /// Whether these are all: there are not more pages than are read.
    all: bool,
}

/// What the account does not see: by Quay's database where that says so, else by what the account is.
fn unseen(username: &str, seen: &Seen, all: Option<&BTreeSet<String>>) -> Option<String> {
    let blind = "the sweep finds no gaps there, and blobs there that no zone has are not fetched";
    match all {
        Some(_) if !seen.all => None,
        Some(all) => {
            let missing: Vec<_> = all.difference(&seen.namespaces).map(String::as_str).collect();
            let named = missing.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
            let more = if missing.len() > NAMED_MAX { ", …" } else { "" };
            (!missing.is_empty()).then(|| {
                format!(
                    "it sees no repository in {} of {} namespaces ({named}{more}): {blind}; {ALL_SEEING}",
                    missing.len(),
                    all.len()
                )
            })
        }
        None => {
            let (namespace, _) = username.split_once('+')?;
            Some(format!(
                "it is a robot, which reads {namespace} alone, and what is public: {blind} in other namespaces; \
                 {ALL_SEEING}"
            ))
        }
    }
}

/// Namespaces with repositories, as Quay's database has them; `None` where it does not say, as where the
/// user may not read its table of repositories.
async fn namespaces(
    settings: &Settings,
    placements: &Placements,
    bound: Duration,
) -> Option<BTreeSet<String>> {
    let asked = async {
        let tls = certificates::client_with(settings, placements.root.as_ref()).ok()?;
        let database = QuayDatabase::connect(&placements.database, &tls).await.ok()?;
        database.namespaces().await.ok()
    };
    tokio::time::timeout(bound, asked).await.ok()?
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
) -> Option<Seen> {
    let reader = walk.step(Name::Login, bound, async {
        let reader = reader(settings, tls).map_err(|error| told(&error, ACCOUNT))?;
        reader.log_in().await.map_err(|error| account_trouble(&error))?;
        Ok((reader, None))
    });
    let reader = reader.await?;
    walk.step(Name::Catalog, bound, async {
        let (seen, repositories) = catalogue(&reader).await.map_err(|error| account_trouble(&error))?;
        let note = match repositories {
            0 => Note::Warning(format!(
                "the account sees no repository at all, so the sweep finds nothing: {ALL_SEEING}"
            )),
            _ => {
                let more = if seen.all { "" } else { "more than " };
                Note::Info(format!(
                    "{more}{repositories} repositories in {} namespaces",
                    seen.namespaces.len()
                ))
            }
        };
        Ok((seen, Some(note)))
    })
    .await
}

/// What the account may list, and how many repositories that is.
async fn catalogue(reader: &Reader) -> Result<(Seen, usize), ReadError> {
    let (mut seen, mut repositories, mut next) = (Seen::default(), 0, None);
    for _ in 0..PAGES_MAX {
        let page = reader.repositories(next.as_ref()).await?;
        repositories += page.names.len();
        // Quay's `library` holds what has no namespace.
        let namespace = |name: &String| name.split_once('/').map_or("library", |(first, _)| first).to_owned();
        seen.namespaces.extend(page.names.iter().map(namespace));
        next = page.next;
        if next.is_none() {
            seen.all = true;
            break;
        }
    }
    Ok((seen, repositories))
}

fn reader(settings: &Settings, tls: &Arc<ClientConfig>) -> anyhow::Result<Reader> {
    let client = RegistryClient::new("registry", settings, tls)?;
    let reader = Reader::new(settings, &client, registry::registry(settings), tls)?;
    reader.ok_or_else(|| anyhow::anyhow!("no account is configured"))
}

const ACCOUNT: (&str, &str) = (
    "the registry does not let the account in, or does not answer",
    "mend `registry.account`; wait a few minutes after wrong passwords, as Quay does",
);

fn account_trouble(error: &ReadError) -> Trouble {
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
         \"user\"; GRANT INSERT ON imagestorageplacement; GRANT USAGE ON its sequence",
    );
    let tls = certificates::client_with(settings, placements.root.as_ref())
        .map_err(|error| told(&format!("{error:#}"), AWAY))?;
    const NO_TLS: (&str, &str) = (
        "DB_CONNECTION_ARGS has no sslmode. Quay then takes TLS where the server offers it and goes without \
         otherwise (libpq's `prefer`); the gateway wants TLS, and the server has none",
        "add one line below DB_CONNECTION_ARGS in Quay's config.yaml: `sslmode: disable` (it changes nothing for \
         Quay), or give the server a certificate",
    );
    const UNVERIFIED: (&str, &str) = (
        "DB_CONNECTION_ARGS has no sslmode. Quay then takes TLS without verifying the server (libpq's `prefer`); \
         the gateway verifies it, and its certificate is not trusted here, or is for another name",
        "add one line below DB_CONNECTION_ARGS in Quay's config.yaml: `sslrootcert: FILE`, with the PEM file of who \
         signed the server's certificate",
    );
    match QuayDatabase::check(&placements.database, &tls).await {
        Ok(()) => Ok(((), Some(Note::Info("a placement may be added".to_owned())))),
        Err(error) if placements.sslmode_missing && error.to_string().contains("does not support TLS") => {
            Err(told(&error, NO_TLS))
        }
        Err(error) if placements.sslmode_missing && error.to_string().contains("certificate") => {
            Err(told(&error, UNVERIFIED))
        }
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
    let tls = certificates::client_with(settings, redis.root.as_ref())
        .map_err(|error| told(&format!("{error:#}"), AWAY))?;
    match Locks::new(redis.clone(), tls).ping().await {
        Ok(()) => Ok(((), None)),
        Err(error @ RedisError::Refused(_)) => Err(told(&error, REFUSED)),
        Err(error) => Err(told(&error, AWAY)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(names: &[&str], all: bool) -> Seen {
        Seen { namespaces: names.iter().map(|name| (*name).to_owned()).collect(), all }
    }

    #[test]
    fn what_the_account_does_not_see_is_said() {
        let all = seen(&["a", "b", "c"], true).namespaces;
        assert_eq!(unseen("reader", &seen(&["a", "b", "c", "public"], true), Some(&all)), None);
        assert_eq!(unseen("reader", &seen(&["a"], false), Some(&all)), None, "more pages than are read");
        let said = unseen("a+bot", &seen(&["a"], true), Some(&all)).expect("a warning");
        assert!(said.contains("in 2 of 3 namespaces (b, c)") && said.contains("GLOBAL_READONLY_SUPER_USERS"));
        assert_eq!(unseen("a+bot", &seen(&["a"], true), Some(&seen(&["a"], true).namespaces)), None);
        let said = unseen("a+bot", &seen(&["a"], true), None).expect("a warning");
        assert!(said.contains("reads a alone"), "{said}");
        assert_eq!(unseen("reader", &seen(&["a"], true), None), None);
    }
}
