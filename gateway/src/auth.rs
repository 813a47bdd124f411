//! Who may read: the registry decides, and its yes is remembered for a moment.

mod judged;
mod kept;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use backends::Digest;
use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use moka::sync::Cache;
use tokio::time::Instant;
use zone_router::Blob;

use self::judged::judged;
use crate::Gateway;
use crate::client::Client;
use crate::forgotten::Forgotten;
use crate::forward;
use gateway_http::Problem;
use registry::token_life::{self, Life};
use registry::upstream::{Answer, Head, Purpose};

/// The registry's word on one read.
pub(crate) enum Verdict {
    /// It may go on.
    Yes(Granted),
    /// The registry's answer to `HEAD`, which is no yes.
    No(Box<Answer>),
}

/// What the registry's yes says of a blob.
#[derive(Debug, Clone)]
pub(crate) struct Granted {
    /// Its size, if the registry named one that the blob can have.
    pub(crate) size: Option<u64>,
    /// What answers made here keep of the registry's own.
    pub(crate) headers: Arc<HeaderMap>,
}

/// Yeses of the registry, per repository, digest and whatever else it may have judged. A no is never
/// remembered.
#[derive(Debug)]
pub(crate) struct Permissions {
    yes: Cache<Asked, Yes>,
    /// Blobs of repositories to which there is a yes, whoever asked.
    named: Cache<Digest, ()>,
    forgotten: Forgotten,
    memory: Duration,
    shared: kept::Shared,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Asked {
    /// What the registry may have judged, told apart without keeping it.
    judged: Digest,
    repository: String,
    digest: Digest,
}

#[derive(Debug, Clone)]
struct Yes {
    granted: Granted,
    /// When the question was asked.
    asked: Instant,
    until: Instant,
}

impl Permissions {
    /// Remembers at most `entries` yeses, each for `memory` at most; an answer takes `answer` at most.
    #[must_use]
    pub(crate) fn new(entries: u64, memory: Duration, answer: Duration) -> Self {
        Self {
            yes: Cache::builder().max_capacity(entries).time_to_live(memory).build(),
            named: Cache::builder().max_capacity(entries).time_to_live(memory).build(),
            forgotten: Forgotten::new(memory.saturating_add(answer)),
            memory,
            shared: kept::Shared::default(),
        }
    }

    fn remembered(&self, asked: &Asked) -> Option<Yes> {
        let unchanged = |yes: &Yes| self.forgotten.is_unchanged(&asked.repository, yes.asked);
        self.yes.get(asked).filter(|yes| Instant::now() < yes.until && unchanged(yes))
    }

    /// Drops what is remembered of a repository, or of a namespace with a slash at its end, for all
    /// credentials; the answers to questions under way are not remembered either.
    pub(crate) fn forget(&self, name: &str) {
        self.forgotten.note(name);
        tracing::debug!(name, "remembered permissions dropped");
    }

    /// Drops what is remembered of all repositories, as [`Permissions::forget`] does.
    pub(crate) fn forget_all(&self) {
        self.forgotten.note_all();
        tracing::debug!("all remembered permissions dropped");
    }

    /// The registry does not know this blob in this repository. Where somebody else was told of it, what
    /// is remembered of the repository is out of date. Other refusals speak of the client.
    fn unknown(&self, repository: &str, digest: &Digest) {
        let name = named(repository, digest);
        if self.named.contains_key(&name) {
            self.named.invalidate(&name);
            self.forget(repository);
        }
    }

    /// Remembers a yes to a question that was asked at `when`. Its life is counted from there: the registry may
    /// have judged at any moment since, and a token that ended meanwhile opens nothing.
    fn remember(&self, asked: Asked, granted: Granted, life: Life, when: Instant) {
        let memory = match life {
            Life::Unknown => self.memory,
            Life::Left(life) => life.min(self.memory),
            Life::Unreadable => return,
        };
        let until = when + memory;
        if until <= Instant::now() {
            return;
        }
        self.named.insert(named(&asked.repository, &asked.digest), ());
        self.yes.insert(asked, Yes { granted, asked: when, until });
    }
}

/// A blob of a repository, as a key of fixed size.
fn named(repository: &str, digest: &Digest) -> Digest {
    Digest::of(format!("{repository}@{digest}").as_bytes())
}

/// Asks whether this client may read this blob of this repository.
///
/// # Errors
/// The registry gave no answer: 502 or 504.
pub(crate) async fn may_read(
    gateway: &Gateway,
    request: &Parts,
    repository: &str,
    blob: &Blob,
    client: &Client,
) -> Result<Verdict, Problem> {
    // As the registry sees them: what it does not see, it has not judged.
    let headers = unconditional(forward::headers(gateway, request, client));
    let target = forward::path(request)?;
    let judged = judged(&headers, target, |name| gateway.registry.may_judge(name));
    let asked = judged.map(|judged| Asked { judged, repository: repository.to_owned(), digest: blob.digest });
    if let Some(yes) = asked.as_ref().and_then(|asked| gateway.permissions.remembered(asked)) {
        return Ok(Verdict::Yes(yes.granted));
    }
    let when = Instant::now();
    let life = token_life::shortest(&headers, target.query(), SystemTime::now());
    let answer = ask(gateway, request, headers, blob, client).await?;
    if !gateway.registry.permits(answer.status(), answer.headers(), &blob.digest) {
        if answer.status() == StatusCode::NOT_FOUND {
            gateway.permissions.unknown(repository, &blob.digest);
        }
        return Ok(Verdict::No(Box::new(answer)));
    }
    let is_redirect = answer.status() != StatusCode::OK;
    let size = gateway_http::content_length(answer.headers())
        .filter(|size| !is_redirect && blob.digest.may_have(*size));
    let headers = gateway.permissions.shared.one(kept::kept(answer.headers(), is_redirect));
    let granted = Granted { size, headers };
    if let Some(asked) = asked {
        gateway.permissions.remember(asked, granted.clone(), life, when);
    }
    Ok(Verdict::Yes(granted))
}

/// `HEAD` at the registry with the client's own headers.
///
/// The first pull of a proxy-cache organisation keeps the answer back for minutes, so the short
/// bound holds only for what the cache or a zone could serve.
async fn ask(
    gateway: &Gateway,
    request: &Parts,
    headers: HeaderMap,
    blob: &Blob,
    client: &Client,
) -> Result<Answer, Problem> {
    let path = forward::path(request)?;
    let timeouts = &gateway.settings.timeouts;
    let upstream = &gateway.upstream;
    let purpose = Purpose::Permission(client.identity);
    let order = upstream.order();
    let head = || Head { method: Method::HEAD, path, headers: headers.clone() };
    let late = {
        let answer = upstream.ask_in(&order, purpose, head(), timeouts.registry_first_pull);
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => return answer,
            () = tokio::time::sleep(timeouts.registry_permission) => {}
        }
        let held = gateway.cache.holds(&blob.digest);
        tokio::select! {
            answer = &mut answer => return answer,
            Some(()) = async { (held || gateway.router.head(blob).await.is_some()).then_some(()) } => {}
        }
        let seconds = timeouts.registry_permission.as_secs();
        Problem::registry(
            StatusCode::GATEWAY_TIMEOUT,
            format!("the registry did not say within {seconds} s who may read this blob"),
        )
    };
    if !upstream.several() {
        return Err(late);
    }
    // Perhaps another instance knows sooner.
    let bound = timeouts.blob_answer.saturating_sub(timeouts.registry_permission);
    upstream.ask_in(&upstream.order_after(&order), purpose, head(), bound).await.map_err(|_| late)
}

/// Headers that ask for the whole, whatever the client has of it.
pub(crate) fn unconditional(mut headers: HeaderMap) -> HeaderMap {
    for conditional in [RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE] {
        headers.remove(conditional);
    }
    headers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn granted() -> Granted {
        Granted { size: Some(1), headers: Arc::default() }
    }

    fn asked(repository: &str) -> Asked {
        Asked { judged: Digest::EMPTY, repository: repository.into(), digest: Digest::EMPTY }
    }

    #[tokio::test(start_paused = true)]
    async fn a_yes_ends() {
        let permissions = Permissions::new(10, MINUTE, MINUTE);
        permissions.remember(asked("a"), granted(), Life::Unknown, Instant::now());
        assert!(permissions.remembered(&asked("a")).is_some());
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(permissions.remembered(&asked("a")).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_before_a_change_is_forgotten() {
        let permissions = Permissions::new(10, MINUTE, MINUTE);
        let before = Instant::now();
        for repository in ["o/a", "o/b"] {
            permissions.remember(asked(repository), granted(), Life::Unknown, before);
        }
        tokio::time::advance(Duration::from_millis(1)).await;
        permissions.forget("o/a");
        assert!(permissions.remembered(&asked("o/a")).is_none());
        assert!(permissions.remembered(&asked("o/b")).is_some());
        // Its question was under way.
        permissions.remember(asked("o/a"), granted(), Life::Unknown, before);
        assert!(permissions.remembered(&asked("o/a")).is_none());
        tokio::time::advance(Duration::from_millis(1)).await;
        permissions.remember(asked("o/a"), granted(), Life::Unknown, Instant::now());
        assert!(permissions.remembered(&asked("o/a")).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_no_counts_where_somebody_had_a_yes() {
        let permissions = Permissions::new(10, MINUTE, MINUTE);
        permissions.remember(asked("o/a"), granted(), Life::Unknown, Instant::now());
        tokio::time::advance(Duration::from_millis(1)).await;
        // Clients ask for what they are about to push: that is no news.
        permissions.unknown("o/a", &Digest::of(b"new"));
        assert!(permissions.remembered(&asked("o/a")).is_some());
        permissions.unknown("o/a", &Digest::EMPTY);
        assert!(permissions.remembered(&asked("o/a")).is_none());
    }

    proptest! {
        #[test]
        fn a_yes_outlives_neither_its_token_nor_the_memory(token in 0u64..100, answer in 0u64..100, later in 0u64..200) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            let remembered = runtime.expect("a runtime").block_on(async {
                let permissions = Permissions::new(10, MINUTE, MINUTE);
                let when = Instant::now();
                tokio::time::advance(Duration::from_secs(answer)).await;
                permissions.remember(asked("a"), granted(), Life::Left(Duration::from_secs(token)), when);
                tokio::time::advance(Duration::from_secs(later)).await;
                permissions.remembered(&asked("a")).is_some()
            });
            prop_assert_eq!(remembered, answer + later < token.min(60));
        }
    }
}
