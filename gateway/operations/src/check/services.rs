//! Checks what the gateway needs besides the registry and the zones: the service account, Quay's database, Quay's Redis,
//! the certificates that clients see, and the admin API over TLS.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::join;
use postgres_connection::PostgresError;
use rustls::ClientConfig;

use super::CheckProgress;
use super::admin;
use super::advice::{Advice, Peer, StepError};
use super::certificate;
use super::step::{StepName, StepNote, StepRunner, Steps};
use config::{Placements, RedisSettings, Settings};
use quay_db::QuayDatabase;
use quay_db::redis::{Locks, RedisError};
use registry::service_account::{ReadError, Reader};
use registry::{self, RegistryClient};

/// The timeout of a login. Quay's password hashes are slow by design.
const LOGIN_BOUND: Duration = Duration::from_secs(20);

/// The timeout for connecting to the database and checking its tables.
const DATABASE_BOUND: Duration = Duration::from_secs(20);

/// The timeout for connecting to Redis and one command.
const LOCK_BOUND: Duration = Duration::from_secs(10);

/// The most pages of repositories that are counted, of 100 each.
const PAGES_MAX: usize = 100;

/// The most namespaces that a warning names.
const NAMED_MAX: usize = 5;

/// The timeout for reading the certificates that clients see.
const CERTIFICATE_BOUND: Duration = Duration::from_secs(10);

/// The timeout for one request to the admin API.
const ADMIN_BOUND: Duration = Duration::from_secs(10);

/// How to give the gateway a service account that can read everything.
const READ_ALL_FIX: &str = "set registry.account to a user that Quay's config.yaml lists in GLOBAL_READONLY_SUPER_USERS \
                            (a robot belongs to one namespace and cannot read repositories of others)";

/// The result of checking one service.
#[derive(Debug, Clone)]
pub struct ServiceCheck {
    /// `account`, `database`, `lock`, `certificate` or `admin`.
    pub name: &'static str,
    /// The user or the address, without a password.
    pub what: String,
    /// The steps.
    pub steps: Steps,
    /// A problem that does not make a step fail.
    pub warning: Option<String>,
}

impl ServiceCheck {
    fn new(name: &'static str, what: String, steps: Steps) -> Self {
        Self { name, what, steps, warning: None }
    }
}

/// Checks the services that are configured, at the same time.
pub(super) async fn check(
    settings: &Settings,
    tls: &Arc<ClientConfig>,
    each: Option<Duration>,
    progress: &CheckProgress,
) -> Vec<ServiceCheck> {
    let placements = settings.replication.placements.as_ref();
    let redis = placements.and_then(|placements| placements.lock.as_ref());
    let account = async {
        let username = settings.account.as_ref()?.username.clone();
        let mut runner = StepRunner::new(
            Peer::default(),
            vec![StepName::Login, StepName::Catalog],
            progress.line("account"),
        );
        let seen = log_in(&mut runner, settings, tls, each.unwrap_or(LOGIN_BOUND)).await;
        Some((ServiceCheck::new("account", username, runner.end()), seen))
    };
    let database = async {
        let placements = placements?;
        let mut runner =
            StepRunner::new(Peer::default(), vec![StepName::Placements], progress.line("database"));
        let work = check_placements(settings, placements);
        let _ = runner.step(StepName::Placements, each.unwrap_or(DATABASE_BOUND), work).await;
        let report = ServiceCheck::new("database", placements.database.to_string(), runner.end());
        let namespaces = match settings.account.is_some() && report.steps.passed() {
            true => namespaces(settings, placements, each.unwrap_or(DATABASE_BOUND)).await,
            false => None,
        };
        Some((report, namespaces))
    };
    let lock = async {
        let redis = redis?;
        let mut runner = StepRunner::new(Peer::default(), vec![StepName::Lock], progress.line("lock"));
        let _ = runner.step(StepName::Lock, each.unwrap_or(LOCK_BOUND), ping_lock(settings, redis)).await;
        Some(ServiceCheck::new("lock", redis.to_string(), runner.end()))
    };
    let certificate = async {
        let files: Vec<_> =
            settings.tls.pairs.iter().map(|pair| pair.certificate.display().to_string()).collect();
        let mut runner =
            StepRunner::new(Peer::default(), vec![StepName::Certificate], progress.line("certificate"));
        let work = certificate::check(settings);
        let _ = runner.step(StepName::Certificate, each.unwrap_or(CERTIFICATE_BOUND), work).await;
        Some(ServiceCheck::new("certificate", files.join(", "), runner.end()))
    };
    let certificate = async { if certificate::is_configured(settings) { certificate.await } else { None } };
    let admin = async {
        let mut runner = StepRunner::new(Peer::default(), vec![StepName::Admin], progress.line("admin"));
        let work = admin::check(settings);
        let _ = runner.step(StepName::Admin, each.unwrap_or(ADMIN_BOUND), work).await;
        Some(ServiceCheck::new("admin", settings.admin.listen.to_string(), runner.end()))
    };
    let admin = async { if settings.admin.tls { admin.await } else { None } };
    let (account, database, lock, certificate, admin) = join!(account, database, lock, certificate, admin);
    let (database, namespaces) = database.map_or((None, None), |(report, all)| (Some(report), all));
    let account = account.map(|(mut report, seen)| {
        report.warning = seen.and_then(|seen| unseen(&report.what, &seen, namespaces.as_ref()));
        report
    });
    [account, database, lock, certificate, admin].into_iter().flatten().collect()
}

/// The namespaces of the repositories that the account can list.
#[derive(Debug, Default)]
struct VisibleNamespaces {
    namespaces: BTreeSet<String>,
    /// Whether these are all. If not, there are more pages than are read.
    all: bool,
}

/// A warning about namespaces that the account cannot read. They are known from Quay's database; without it,
/// a robot account is known to read only one namespace.
fn unseen(username: &str, seen: &VisibleNamespaces, all: Option<&BTreeSet<String>>) -> Option<String> {
    let effect = "the sweep finds no missing copies there, and blobs there that no zone has are not fetched";
    match all {
        Some(_) if !seen.all => None,
        Some(all) => {
            let missing: Vec<_> = all.difference(&seen.namespaces).map(String::as_str).collect();
            let named = missing.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
            let more = if missing.len() > NAMED_MAX { ", …" } else { "" };
            (!missing.is_empty()).then(|| {
                format!(
                    "it can read no repository in {} of {} namespaces ({named}{more}): {effect}; \
                     {READ_ALL_FIX}",
                    missing.len(),
                    all.len()
                )
            })
        }
        None => {
            let (namespace, _) = username.split_once('+')?;
            Some(format!(
                "it is a robot, which can read only {namespace} and public repositories: in other \
                 namespaces, {effect}; {READ_ALL_FIX}"
            ))
        }
    }
}

/// The namespaces with repositories, from Quay's database. `None` if the query fails, for example because the
/// user may not read the table of repositories.
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

/// The names of the services that are configured.
pub(super) fn names(settings: &Settings) -> impl Iterator<Item = &'static str> + use<> {
    let placements = settings.replication.placements.as_ref();
    let lock = placements.is_some_and(|placements| placements.lock.is_some());
    let all = [
        ("account", settings.account.is_some()),
        ("database", placements.is_some()),
        ("lock", lock),
        ("certificate", certificate::is_configured(settings)),
        ("admin", settings.admin.tls),
    ];
    all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name)
}

async fn log_in(
    runner: &mut StepRunner,
    settings: &Settings,
    tls: &Arc<ClientConfig>,
    bound: Duration,
) -> Option<VisibleNamespaces> {
    let reader = runner.step(StepName::Login, bound, async {
        let reader = reader(settings, tls).map_err(|error| explained(&error, ACCOUNT))?;
        reader.log_in().await.map_err(|error| account_error(&error))?;
        Ok((reader, None))
    });
    let reader = reader.await?;
    runner
        .step(StepName::Catalog, bound, async {
            let (seen, repositories) = catalogue(&reader).await.map_err(|error| account_error(&error))?;
            let note = match repositories {
                0 => StepNote::Warning(format!(
                    "the account can read no repository at all, so the sweep finds nothing: {READ_ALL_FIX}"
                )),
                _ => {
                    let more = if seen.all { "" } else { "more than " };
                    StepNote::Info(format!(
                        "{more}{repositories} repositories in {} namespaces",
                        seen.namespaces.len()
                    ))
                }
            };
            Ok((seen, Some(note)))
        })
        .await
}

/// The namespaces of the repositories that the account may list, and the number of these repositories.
async fn catalogue(reader: &Reader) -> Result<(VisibleNamespaces, usize), ReadError> {
    let (mut seen, mut repositories, mut next) = (VisibleNamespaces::default(), 0, None);
    for _ in 0..PAGES_MAX {
        let page = reader.repositories(next.as_ref()).await?;
        repositories += page.names.len();
        // A repository without a namespace is in Quay's `library`.
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
    "the registry refuses the account, or does not answer",
    "correct `registry.account`; after wrong passwords, Quay refuses the account for a few minutes",
);

fn account_error(error: &ReadError) -> StepError {
    explained(error, ACCOUNT)
}

fn explained(error: &dyn std::fmt::Display, (cause, fix): (&str, &str)) -> StepError {
    StepError::Explained(error.to_string(), Advice::new(cause, fix))
}

async fn check_placements(
    settings: &Settings,
    placements: &Placements,
) -> Result<((), Option<StepNote>), StepError> {
    const AWAY: (&str, &str) = (
        "the server is down, its address is wrong, or TLS to it fails: it must have a certificate for its name",
        "correct DB_URI and DB_CONNECTION_ARGS, or set `replication.database`; if the server has no TLS, set \
         `sslmode: disable`",
    );
    const REFUSED: (&str, &str) = (
        "the user, the password or the database is wrong, it is not Quay's database, or the user may not read \
         its tables and add rows to imagestorageplacement",
        "correct them; GRANT SELECT ON imagestorage, imagestorageplacement, imagestoragelocation, userregion, \
         \"user\"; GRANT INSERT ON imagestorageplacement; GRANT USAGE ON its sequence",
    );
    let tls = certificates::client_with(settings, placements.root.as_ref())
        .map_err(|error| explained(&format!("{error:#}"), AWAY))?;
    const NO_TLS: (&str, &str) = (
        "DB_CONNECTION_ARGS has no sslmode. Quay then uses TLS only if the server offers it (libpq's `prefer`); \
         the gateway requires TLS, and the server has none",
        "add one line below DB_CONNECTION_ARGS in Quay's config.yaml: `sslmode: disable` (it changes nothing for \
         Quay), or give the server a certificate",
    );
    const UNVERIFIED: (&str, &str) = (
        "DB_CONNECTION_ARGS has no sslmode. Quay then uses TLS without verifying the server (libpq's `prefer`); \
         the gateway verifies it, and its certificate is not trusted here, or is for another name",
        "add one line below DB_CONNECTION_ARGS in Quay's config.yaml: `sslrootcert: FILE`, with the PEM file of the \
         CA that signed the server's certificate",
    );
    match QuayDatabase::check(&placements.database, &tls).await {
        Ok(()) => Ok(((), Some(StepNote::Info("a placement may be added".to_owned())))),
        Err(error) if placements.sslmode_missing && error.to_string().contains("does not support TLS") => {
            Err(explained(&error, NO_TLS))
        }
        Err(error) if placements.sslmode_missing && error.to_string().contains("certificate") => {
            Err(explained(&error, UNVERIFIED))
        }
        Err(error @ PostgresError::Refused { .. }) => Err(explained(&error, REFUSED)),
        Err(error) => Err(explained(&error, AWAY)),
    }
}

async fn ping_lock(settings: &Settings, redis: &RedisSettings) -> Result<((), Option<StepNote>), StepError> {
    const AWAY: (&str, &str) = (
        "Redis is down, its address cannot be reached from this machine, or TLS to it fails",
        "correct USER_EVENTS_REDIS, or start Redis; if Redis has no TLS, `ssl` must not be true",
    );
    const REFUSED: (&str, &str) = (
        "the password is wrong, or the user may not run the commands for a lock",
        "correct USER_EVENTS_REDIS",
    );
    let tls = certificates::client_with(settings, redis.root.as_ref())
        .map_err(|error| explained(&format!("{error:#}"), AWAY))?;
    match Locks::new(redis.clone(), tls).ping().await {
        Ok(()) => Ok(((), None)),
        Err(error @ RedisError::Refused(_)) => Err(explained(&error, REFUSED)),
        Err(error) => Err(explained(&error, AWAY)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(names: &[&str], all: bool) -> VisibleNamespaces {
        VisibleNamespaces { namespaces: names.iter().map(|name| (*name).to_owned()).collect(), all }
    }

    #[test]
    fn namespaces_that_the_account_cannot_read_give_a_warning() {
        let all = seen(&["a", "b", "c"], true).namespaces;
        assert_eq!(unseen("reader", &seen(&["a", "b", "c", "public"], true), Some(&all)), None);
        assert_eq!(unseen("reader", &seen(&["a"], false), Some(&all)), None, "more pages than are read");
        let message = unseen("a+bot", &seen(&["a"], true), Some(&all)).expect("a warning");
        assert!(
            message.contains("in 2 of 3 namespaces (b, c)")
                && message.contains("GLOBAL_READONLY_SUPER_USERS")
        );
        assert_eq!(unseen("a+bot", &seen(&["a"], true), Some(&seen(&["a"], true).namespaces)), None);
        let message = unseen("a+bot", &seen(&["a"], true), None).expect("a warning");
        assert!(message.contains("can read only a and"), "{message}");
        assert_eq!(unseen("reader", &seen(&["a"], true), None), None);
    }
}
