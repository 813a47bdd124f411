//! Who may read: the registry decides, and its yes is remembered for a moment.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backends::{Digest, Hasher};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{
    AUTHORIZATION, COOKIE, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use moka::sync::Cache;
use serde::Deserialize;
use tokio::time::Instant;
use zone_router::Blob;

use crate::Gateway;
use crate::client::Client;
use crate::forgotten::Forgotten;
use crate::forward;
use crate::http::Problem;
use crate::upstream::{Answer, Purpose};

/// The registry's word on one read.
pub(crate) enum Verdict {
    /// It may go on; the size is the registry's, if it named one.
    Yes(Option<u64>),
    /// The registry's answer to `HEAD`, which is no yes.
    No(Box<Answer>),
}

/// Yeses of the registry, per credential, repository and digest. A no is never remembered.
#[derive(Debug)]
pub(crate) struct Permissions {
    yes: Cache<Asked, Yes>,
    /// Blobs of repositories to which there is a yes, whoever asked.
    named: Cache<Digest, ()>,
    forgotten: Forgotten,
    memory: Duration,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Asked {
    credential: Digest,
    repository: String,
    digest: Digest,
}

#[derive(Debug, Clone, Copy)]
struct Yes {
    size: Option<u64>,
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

    /// The registry does not know this blob in this repository. Where somebody else was told of it, what
    /// is remembered of the repository is out of date. Other refusals speak of the client.
    fn unknown(&self, repository: &str, digest: &Digest) {
        let name = named(repository, digest);
        if self.named.contains_key(&name) {
            self.named.invalidate(&name);
            self.forget(repository);
        }
    }

    fn remember(&self, asked: Asked, size: Option<u64>, life: Life, when: Instant) {
        let memory = match life {
            Life::Unknown => self.memory,
            Life::Left(life) => life.min(self.memory),
            Life::Unreadable => return,
        };
        self.named.insert(named(&asked.repository, &asked.digest), ());
        self.yes.insert(asked, Yes { size, asked: when, until: Instant::now() + memory });
    }
}

/// A blob of a repository, as a key of fixed size.
fn named(repository: &str, digest: &Digest) -> Digest {
    Digest::of(format!("{repository}@{digest}").as_bytes())
}

/// How long a credential lives still.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// None is given, or it is no token with an end.
    Unknown,
    Left(Duration),
    /// A token whose end cannot be read.
    Unreadable,
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
    let asked =
        Asked { credential: credential(&headers), repository: repository.to_owned(), digest: blob.digest };
    if let Some(yes) = gateway.permissions.remembered(&asked) {
        return Ok(Verdict::Yes(yes.size));
    }
    let life = token_life(&headers, SystemTime::now());
    let when = Instant::now();
    let answer = ask(gateway, request, headers, blob, client).await?;
    if !gateway.registry.permits(answer.status(), answer.headers(), &blob.digest) {
        if answer.status() == StatusCode::NOT_FOUND {
            gateway.permissions.unknown(repository, &blob.digest);
        }
        return Ok(Verdict::No(Box::new(answer)));
    }
    let size = forward::content_length(answer.headers()).filter(|_| answer.status() == StatusCode::OK);
    gateway.permissions.remember(asked, size, life, when);
    Ok(Verdict::Yes(size))
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
    let ask = |bound| upstream.ask(purpose, Method::HEAD, path, headers.clone(), bound);
    let late = {
        let answer = ask(timeouts.registry_first_pull);
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
    // The instance that was silent is passed over now, so this asks another.
    match upstream.several() {
        true => {
            ask(timeouts.blob_answer.saturating_sub(timeouts.registry_permission)).await.map_err(|_| late)
        }
        false => Err(late),
    }
}

/// Headers that ask for the whole, whatever the client has of it.
pub(crate) fn unconditional(mut headers: HeaderMap) -> HeaderMap {
    for conditional in [RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE] {
        headers.remove(conditional);
    }
    headers
}

/// Tells credentials apart without keeping them.
fn credential(headers: &HeaderMap) -> Digest {
    let mut hasher = Hasher::new();
    for name in [AUTHORIZATION, COOKIE] {
        for value in headers.get_all(&name) {
            hasher.update(&(value.len() as u64).to_le_bytes());
            hasher.update(value.as_bytes());
        }
        hasher.update(b"\0");
    }
    hasher.finish()
}

/// How long a bearer token lives still, read without proof: it only ever shortens the memory of a
/// yes, so that an expired token is refused as promptly as by the registry.
pub(crate) fn token_life(headers: &HeaderMap, now: SystemTime) -> Life {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    let Some(authorization) = headers.get(AUTHORIZATION) else { return Life::Unknown };
    let token = authorization.to_str().ok().and_then(|text| text.split_once(' '));
    let Some((scheme, token)) = token else { return Life::Unreadable };
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Life::Unknown;
    }
    // A JWT has three parts; other tokens have no end that can be read.
    let mut parts = token.trim().split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Life::Unknown;
    };
    let claims = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('='));
    let claims = claims.ok().and_then(|claims| serde_json::from_slice::<Claims>(&claims).ok());
    let end = claims.and_then(|claims| Duration::try_from_secs_f64(claims.exp).ok());
    match (end, now.duration_since(UNIX_EPOCH)) {
        (Some(end), Ok(now)) => Life::Left(end.saturating_sub(now)),
        _ => Life::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(payload: &str) -> HeaderMap {
        let token = format!("Bearer e30.{}.sig", URL_SAFE_NO_PAD.encode(payload));
        [(AUTHORIZATION, token.parse().expect("value"))].into_iter().collect()
    }

    #[test]
    fn a_token_shortens_the_memory() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        assert_eq!(token_life(&bearer(r#"{"exp":1007}"#), now), Life::Left(Duration::from_secs(7)));
        assert_eq!(token_life(&bearer(r#"{"exp":1007.5}"#), now), Life::Left(Duration::from_millis(7500)));
        assert_eq!(token_life(&bearer(r#"{"exp":7}"#), now), Life::Left(Duration::ZERO));
        assert_eq!(token_life(&bearer("{}"), now), Life::Unreadable);
        assert_eq!(token_life(&HeaderMap::new(), now), Life::Unknown);
        let opaque = [(AUTHORIZATION, "Bearer opaque".parse().expect("value"))].into_iter().collect();
        assert_eq!(token_life(&opaque, now), Life::Unknown);
        let basic = [(AUTHORIZATION, "Basic YTpi".parse().expect("value"))].into_iter().collect();
        assert_eq!(token_life(&basic, now), Life::Unknown);
    }

    #[test]
    fn credentials_differ() {
        let none = credential(&HeaderMap::new());
        let one = credential(&bearer("{}"));
        let other = credential(&bearer(r#"{"exp":1}"#));
        assert!(none != one && one != other);
        assert_eq!(one, credential(&bearer("{}")));
    }

    const MINUTE: Duration = Duration::from_secs(60);

    fn asked(repository: &str) -> Asked {
        Asked { credential: Digest::EMPTY, repository: repository.into(), digest: Digest::EMPTY }
    }

    #[tokio::test(start_paused = true)]
    async fn a_yes_ends() {
        let permissions = Permissions::new(10, MINUTE, MINUTE);
        permissions.remember(asked("a"), Some(1), Life::Unknown, Instant::now());
        assert!(permissions.remembered(&asked("a")).is_some());
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(permissions.remembered(&asked("a")).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_before_a_change_is_forgotten() {
        let permissions = Permissions::new(10, MINUTE, MINUTE);
        let before = Instant::now();
        for repository in ["o/a", "o/b"] {
            permissions.remember(asked(repository), Some(1), Life::Unknown, before);
        }
        tokio::time::advance(Duration::from_millis(1)).await;
        permissions.forget("o/a");
        assert!(permissions.remembered(&asked("o/a")).is_none());
        assert!(permissions.remembered(&asked("o/b")).is_some());
        // Its question was under way.
        permissions.remember(asked("o/a"), Some(1), Life::Unknown, before);
        assert!(permissions.remembered(&asked("o/a")).is_none());
        tokio::time::advance(Duration::from_millis(1)).await;
        permissions.remember(asked("o/a"), Some(1), Life::Unknown, Instant::now());
        assert!(permissions.remembered(&asked("o/a")).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_no_counts_where_somebody_had_a_yes() {
        let permissions = Permissions::new(10, MINUTE, MINUTE);
        permissions.remember(asked("o/a"), Some(1), Life::Unknown, Instant::now());
        tokio::time::advance(Duration::from_millis(1)).await;
        // Clients ask for what they are about to push: that is no news.
        permissions.unknown("o/a", &Digest::of(b"new"));
        assert!(permissions.remembered(&asked("o/a")).is_some());
        permissions.unknown("o/a", &Digest::EMPTY);
        assert!(permissions.remembered(&asked("o/a")).is_none());
    }
}
