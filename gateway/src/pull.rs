//! A pull: the life of `GET` and `HEAD` of a blob, from top to bottom.

mod answer;

use std::sync::Arc;
use std::time::Duration;

use backends::Digest;
use futures_util::{FutureExt, TryStreamExt};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use tokio::time::Instant;
use zone_router::{Blob, NotOpened};

use self::answer::Answerer;
use crate::Gateway;
use crate::auth::{self, Verdict};
use crate::cache::{CachedBlob, Filled, Follower, Lookup, NotKept, Opened, Origin};
use crate::client::Client;
use crate::follow::{self, Fetched};
use crate::forward;
use crate::http::{Body, BodyError, Problem, Requested, Spec};
use crate::upstream::Purpose;

/// Answers a blob request.
pub(crate) async fn pull(
    gateway: &Arc<Gateway>,
    request: &Parts,
    repository: &str,
    digest: Digest,
    client: &Client,
) -> Response<Body> {
    let deadline = Instant::now() + gateway.settings.timeouts.blob_answer;
    let pull = Pull { gateway, request, repository, blob: gateway.blob(digest), client, deadline };
    let answered = pull.answer().await;
    answered.unwrap_or_else(|problem| {
        if !problem.is_overload() {
            tracing::warn!(%digest, repository, status = problem.status.as_u16(), problem = problem.message, "pull failed");
        }
        problem.response()
    })
}

struct Pull<'a> {
    gateway: &'a Arc<Gateway>,
    request: &'a Parts,
    repository: &'a str,
    blob: Blob,
    client: &'a Client,
    /// For the first byte of what a zone could serve.
    deadline: Instant,
}

impl Pull<'_> {
    async fn answer(&self) -> Result<Response<Body>, Problem> {
        // Who may read: the registry decides.
        let granted =
            match auth::may_read(self.gateway, self.request, self.repository, &self.blob, self.client).await?
            {
                Verdict::Yes(granted) => granted,
                Verdict::No(answer) => return self.refused(*answer).await,
            };
        let expected = granted.size;
        let answer = Answerer::new(self.blob.digest, &self.request.headers, granted.headers);
        if answer.client_has_it() {
            return Ok(answer.not_modified(self.held()));
        }
        if self.request.method == Method::HEAD {
            return self.head(&answer, expected).await;
        }
        if let Some(refusal) = answer.refusal(expected) {
            return Ok(refusal);
        }
        if self.blob.digest == Digest::EMPTY {
            // Some registries record it without ever storing an object.
            return Ok(answer.empty());
        }
        match self.gateway.cache.get(&self.blob.digest).await {
            Lookup::Hit(blob) => Ok(self.hit(&answer, blob)),
            Lookup::Absent => self.miss(&answer, expected, true).await,
            Lookup::Unusable => self.miss(&answer, expected, false).await,
        }
    }

    /// The registry's no, with the body that a `HEAD` lacks.
    async fn refused(&self, answer: crate::upstream::Answer) -> Result<Response<Body>, Problem> {
        match self.request.method == Method::HEAD {
            true => Ok(forward::relay(self.gateway, answer)),
            false => {
                // Its connection goes back before another is asked for.
                drop(answer);
                self.registrys_answer().await
            }
        }
    }

    async fn registrys_answer(&self) -> Result<Response<Body>, Problem> {
        let bound = self.gateway.settings.timeouts.registry_answer;
        let headers = forward::headers(self.gateway, self.request, self.client);
        let (method, path) = (self.request.method.clone(), forward::path(self.request)?);
        let answer = self
            .gateway
            .upstream
            .ask(Purpose::Any(self.client.identity), method, path, headers, bound)
            .await?;
        Ok(forward::relay(self.gateway, answer))
    }

    async fn head(&self, answer: &Answerer, expected: Option<u64>) -> Result<Response<Body>, Problem> {
        let size = match expected {
            Some(size) => Some(size),
            None => self.size_elsewhere().await,
        };
        match size {
            Some(size) => Ok(answer.head(size, self.held())),
            None => self.registrys_answer().await,
        }
    }

    /// The `Cache-Status` of an answer without a body.
    fn held(&self) -> &'static str {
        let held = self.blob.digest == Digest::EMPTY || self.gateway.cache.holds(&self.blob.digest);
        if held { "hit" } else { "fwd=miss" }
    }

    /// The size where the registry's yes names none.
    async fn size_elsewhere(&self) -> Option<u64> {
        match self.gateway.cache.get(&self.blob.digest).await {
            Lookup::Hit(blob) => Some(blob.size),
            _ => {
                let head = self.gateway.router.head(&self.blob);
                tokio::time::timeout_at(self.deadline, head).await.ok().flatten().map(|meta| meta.size)
            }
        }
    }

    fn hit(&self, answer: &Answerer, blob: CachedBlob) -> Response<Body> {
        self.gateway.metrics.blob_answered("hit");
        answer.file(blob, "hit")
    }

    async fn miss(
        &self,
        answer: &Answerer,
        expected: Option<u64>,
        keep: bool,
    ) -> Result<Response<Body>, Problem> {
        let filled = async {
            if keep {
                let who = &self.client.identity;
                return self.gateway.cache.fill_for(who, self.blob.digest, || self.zones(expected)).await;
            }
            match self.zones(expected).await {
                Ok(opened) => Filled::Alone(opened, NotKept::Disk),
                Err(why) => Filled::NotOpened(Arc::new(why)),
            }
        };
        // Where the registry took its time, a zone gets its own all the same.
        let deadline = self.deadline.max(Instant::now() + self.gateway.settings.timeouts.zone_first_byte);
        let filled = tokio::time::timeout_at(deadline, filled).await.map_err(|_| {
            let mut problem =
                Problem::zones("no zone gave the blob's first byte in time; it may be there soon");
            problem.status = StatusCode::GATEWAY_TIMEOUT;
            problem
        })?;
        let not_opened = match filled {
            Filled::NotOpened(why) => why,
            filled => return self.filled(answer, filled).await,
        };
        // No zone has it: the registry's own way.
        match follow::fetch(self.gateway, self.request, &self.blob, expected, self.client).await? {
            Fetched::Relay(response) => Ok(response),
            Fetched::Blob(opened) => {
                tracing::info!(digest = %self.blob.digest, zones = %not_opened, from = %opened.from, "no zone gave it, the registry does");
                let filled =
                    if keep { self.fill_from(opened).await } else { Filled::Alone(opened, NotKept::Disk) };
                self.filled(answer, filled).await
            }
        }
    }

    async fn filled(&self, answer: &Answerer, filled: Filled) -> Result<Response<Body>, Problem> {
        match filled {
            Filled::Hit(blob) => Ok(self.hit(answer, blob)),
            Filled::Following(follower, joined) => Ok(self.follow(answer, follower, joined).await),
            Filled::Alone(opened, reason) => Ok(self.alone(answer, opened, reason)),
            Filled::NotOpened(why) => Err(Problem::zones(format!("no zone gave the blob: {why}"))),
            Filled::Broken(why) => {
                Err(Problem::zones(format!("the blob broke off before its first byte: {why}")))
            }
        }
    }

    /// Reads behind a fill. A range is answered as such if the whole is here soon enough.
    async fn follow(&self, answer: &Answerer, mut follower: Follower, joined: bool) -> Response<Body> {
        if let Some(refusal) = answer.refusal(Some(follower.size())) {
            return refusal;
        }
        let from = follower.source();
        self.gateway.metrics.blob_answered(&from);
        let collapsed = if joined { "; collapsed" } else { "" };
        let status = format!("fwd=miss{collapsed}; stored; detail=\"{from}\"");
        if matches!(answer.requested(), Requested::Part(Spec::From { first: 0, last: None })) {
            // All of it: no reason to wait.
            return answer.whole(follower.size(), Body::stream(follower.into_stream()), &status);
        }
        if *answer.requested() != Requested::Whole
            && let Some(blob) = follower.whole_within(self.range_wait()).await
        {
            return answer.file(blob, &status);
        }
        answer.whole(follower.size(), Body::stream(follower.into_stream()), &status)
    }

    /// What is left of the time to a first byte, but no more than a range may wait.
    fn range_wait(&self) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        left.min(self.gateway.settings.timeouts.range_wait)
    }

    /// Streams what is not kept to this client alone.
    fn alone(&self, answer: &Answerer, opened: Opened, reason: NotKept) -> Response<Body> {
        self.gateway.metrics.blob_answered(&opened.from);
        let status = format!("fwd=miss; detail=\"{}, not stored: {}\"", opened.from, reason.as_str());
        let body = Body::stream(opened.body.map_err(|error| BodyError::Blob(error.to_string())));
        match opened.size {
            Some(size) => answer.whole(size, body, &status),
            None => answer.unsized_whole(body, &status),
        }
    }

    /// The best zone that has it.
    fn zones(&self, expected: Option<u64>) -> Origin {
        let (gateway, blob) = (Arc::clone(self.gateway), self.blob.clone());
        let repository = self.repository.to_owned();
        async move {
            let reading = gateway.router.open(&blob, expected).await?;
            if reading.home_lacks_it {
                repair_home(&gateway, &repository, &blob, reading.size);
            }
            let (router, size) = (Arc::clone(&gateway.router), reading.size);
            Ok(Opened {
                size: Some(size),
                from: format!("zone={}", reading.zone).into(),
                body: reading.body,
                resume: Some(Arc::new(move |seen| router.resume(&blob, size, seen))),
            })
        }
        .boxed()
    }

    /// A fill from a stream that is open already, or whichever fill is under way; where that comes
    /// to nothing, the stream is still there.
    async fn fill_from(&self, opened: Opened) -> Filled {
        let held = std::sync::Mutex::new(Some(opened));
        let take = || held.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let origin = || -> Origin {
            let taken = take();
            async move { taken.ok_or(NotOpened { answers: Vec::new() }) }.boxed()
        };
        // A fill joined first may be one that is still asking the zones: then the next is ours.
        for _ in 0..2 {
            let filled = self.gateway.cache.fill_for(&self.client.identity, self.blob.digest, origin).await;
            let came_to_nothing = matches!(filled, Filled::NotOpened(_) | Filled::Broken(_));
            if !came_to_nothing || held.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_none() {
                return filled;
            }
        }
        match take() {
            Some(opened) => Filled::Alone(opened, NotKept::Busy),
            None => Filled::Broken("the registry's stream is gone".into()),
        }
    }
}

/// Home had not got it, another zone had: the copy home is queued.
fn repair_home(gateway: &Arc<Gateway>, repository: &str, blob: &Blob, size: u64) {
    let Some(home) = gateway.repairable_home().filter(|_| gateway.repairs.take()) else { return };
    let (gateway, repository, blob) = (Arc::clone(gateway), repository.to_owned(), blob.clone());
    tokio::spawn(async move {
        let digest = blob.digest;
        if let Err(error) = gateway.fanout.enqueue(&repository, &[(blob, Some(size))], &[home]).await {
            tracing::warn!(%digest, %error, "the copy home is not queued");
        }
    });
}
