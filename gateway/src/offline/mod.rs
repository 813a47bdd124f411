//! Answers while the registry is away: what the registry served lately, to whom it served it.
//!
//! Every request goes to the registry first. Only if the registry gives no answer, or an error of its own (5xx), is the
//! request answered from what is remembered. A 4xx is an answer, and counts.

mod learn;
mod login;
mod read;

use std::sync::Arc;
use std::time::SystemTime;

use backends::Digest;
use gateway_http::{Fault, Problem};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use limits::pool::Pool;
use offline::{Remembered, Shown};
use registry::bearer::bearer_token;
use registry::upstream::Answer;
use tokio::time::Instant;

pub(crate) use self::learn::{learn, learn_links, learn_read};
pub(crate) use self::read::{read, unauthorized};
use crate::Gateway;
use crate::forward;
use crate::permissions::{Changed, Granted};

/// Logins that are hashed at once. Each takes 19 MiB and some 30 ms of a core.
const LOGINS_MAX: usize = 2;

/// Logins that wait for that.
const LOGINS_WAITING_MAX: usize = 256;

/// What the gateway needs to answer without the registry.
#[derive(Debug)]
pub(crate) struct Offline {
    remembered: Arc<Remembered>,
    logins: Arc<Pool>,
}

impl Offline {
    pub(crate) fn new(remembered: Remembered) -> Self {
        let logins = Pool::fixed("logins while the registry is away", LOGINS_MAX, LOGINS_WAITING_MAX);
        Self { remembered: Arc::new(remembered), logins }
    }

    /// The pool of logins, which clients share.
    pub(crate) fn logins(&self) -> &Arc<Pool> {
        &self.logins
    }

    /// The registry does not know this blob in this repository.
    pub(crate) fn forget_link(&self, repository: &str, digest: Digest) {
        self.remembered.store().forget_link(repository, digest);
    }

    /// A request changed something at the registry, which said so. A change that names no repository takes nothing from
    /// everybody: what it removed is forgotten one by one, by the registry's 404s.
    pub(crate) fn forget_changed(&self, changed: &Changed) {
        if let Changed::Names(names) = changed {
            names.iter().for_each(|name| self.remembered.store().forget(name));
        }
    }

    /// Writes everything to the disk. It blocks.
    pub(crate) fn close(&self) {
        self.remembered.close();
    }

    /// Runs a function that reads the disk.
    async fn reading<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Remembered) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let remembered = Arc::clone(&self.remembered);
        let read = tokio::task::spawn_blocking(move || {
            // What was just learned or taken back counts.
            remembered.store().flush();
            read(&remembered)
        });
        let read = read.await;
        read.map_err(|_| Problem::gateway("what is remembered for offline use cannot be read"))
    }
}

/// The registry's permission from before it went away, for a blob that it confirmed to be in this repository. `None` if it
/// did not give one, or nothing is remembered.
pub(crate) async fn permitted(
    gateway: &Gateway,
    headers: &HeaderMap,
    repository: &str,
    digest: Digest,
) -> Option<Allowed> {
    let offline = gateway.offline.as_ref()?;
    let who = Who::of(gateway, headers, repository);
    let repository = repository.to_owned();
    let now = SystemTime::now();
    let (may, linked) = offline
        .reading(move |remembered| {
            (
                who.may_read(remembered, &repository, now),
                remembered.store().is_linked(&repository, &digest, now),
            )
        })
        .await
        .ok()?;
    match (may, linked) {
        (true, true) => Some(Allowed::Yes(gateway.permissions.granted_lately())),
        (false, _) => Some(Allowed::No),
        (true, false) => None,
    }
}

/// What is remembered about a client and a blob.
#[derive(Debug)]
pub(crate) enum Allowed {
    /// The registry let this client read this blob lately.
    Yes(Granted),
    /// The registry let no such client read this repository lately. Another credential may do.
    No,
}

/// What a request shows of its client, on its own so that it can be judged off the executor.
#[derive(Debug)]
enum Who {
    /// The registry signed a token that permits to read the repository, and that is still valid.
    Permitted,
    /// Nothing that the registry may judge.
    Nobody,
    /// A token that may be the gateway's own.
    Token(backends::Secret),
    /// Anything else. Only the registry can judge it.
    Unknown,
}

impl Who {
    fn of(gateway: &Gateway, headers: &HeaderMap, repository: &str) -> Self {
        if !forward::only_authorization_is_judged(gateway, headers) {
            return Self::Unknown;
        }
        if !headers.contains_key(AUTHORIZATION) {
            return Self::Nobody;
        }
        let Some(token) = bearer_token(headers) else { return Self::Unknown };
        let verified = gateway.tokens.as_ref().and_then(|tokens| tokens.verified(token).ok());
        match verified.is_some_and(|verified| verified.grants().may_pull(repository)) {
            true => Self::Permitted,
            false => Self::Token(backends::Secret::new(token)),
        }
    }

    fn may_read(&self, remembered: &Remembered, repository: &str, now: SystemTime) -> bool {
        match self {
            Self::Permitted => true,
            Self::Nobody => remembered.may_read(Shown::Nothing, repository, now),
            Self::Token(token) => remembered.may_read(Shown::Token(token.reveal()), repository, now),
            Self::Unknown => false,
        }
    }
}

/// Whether the registry gave no answer, or an error of its own.
pub(crate) fn fails(answered: &Result<Answer, Problem>) -> bool {
    match answered {
        Ok(answer) => answer.status().is_server_error(),
        Err(problem) => problem.fault == Fault::Registry,
    }
}

/// The time of the clock at a moment in the past.
fn clock(at: Instant) -> SystemTime {
    SystemTime::now() - at.elapsed()
}
