//! A pull: the life of `GET` and `HEAD` of a blob, from top to bottom.

mod answer;
mod registry_fallback;

use std::sync::Arc;

use backends::Digest;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use tokio::time::Instant;
use zone_router::{Blob, NotOpened};

use self::answer::Answerer;
use self::registry_fallback::Fetched;
use crate::Gateway;
use crate::authorize::{self, Verdict};
use crate::forward;
use crate::request::Client;
use blob_cache::{CachedBlob, Filled, Follower, Lookup, NotKept, Opened, Origin, Resume, proven_part};
use gateway_http::{Body, BodyError, Problem};
use limits::memory::{BLOB_READ, Reservation, Use};
use registry::upstream::Purpose;

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
            match authorize::may_read(self.gateway, self.request, self.repository, &self.blob, self.client)
                .await?
            {
                Verdict::Yes(granted) => granted,
                Verdict::No(answer) => return self.refused(*answer).await,
            };
        // Where bytes contradicted somebody's size, the bytes are believed.
        let expected = self.gateway.sizes.proven(&self.blob.digest).or(granted.size);
        let answer = Answerer::new(self.blob.digest, &self.request.headers, granted.headers);
        if answer.client_has_it() {
            return Ok(answer.not_modified(self.held()));
        }
        if self.request.method == Method::HEAD {
            return self.head(&answer, expected).await;
        }
        if let Some(refusal) = answer.refusal(expected)
            && self.is_as_long(expected).await
        {
            return Ok(refusal);
        }
        if self.blob.digest == Digest::EMPTY {
            // Some registries record it without ever storing an object.
            return Ok(answer.empty());
        }
        match self.gateway.cache.get(&self.blob.digest).await {
            Lookup::Hit(blob) => Ok(self.hit(&answer, blob, expected)),
            Lookup::Absent => self.miss(&answer, expected, true).await,
            Lookup::Unusable => self.miss(&answer, expected, false).await,
        }
    }

    /// The registry's no, with the body that a `HEAD` lacks.
    async fn refused(&self, answer: registry::upstream::Answer) -> Result<Response<Body>, Problem> {
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
        // Bytes that were proven say it best.
        let held = self.gateway.cache.size_of(&self.blob.digest);
        if let (Some(held), Some(said)) = (held, expected) {
            self.contradicted(said, held);
        }
        let size = match held.or(expected) {
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

    /// The size that the cache or a zone names.
    async fn size_elsewhere(&self) -> Option<u64> {
        match self.gateway.cache.get(&self.blob.digest).await {
            Lookup::Hit(blob) => Some(blob.size),
            _ => {
                let head = self.gateway.router.head(&self.blob);
                tokio::time::timeout_at(self.deadline, head).await.ok().flatten().map(|meta| meta.size)
            }
        }
    }

    /// Whether nobody who may know it better names another size than the registry.
    async fn is_as_long(&self, expected: Option<u64>) -> bool {
        let Some(expected) = expected else { return true };
        self.size_elsewhere().await.is_none_or(|size| size == expected)
    }

    /// The registry named one size, and proven bytes have another.
    fn contradicted(&self, said: u64, size: u64) {
        if said != size {
            let digest = self.blob.digest;
            self.gateway.sizes.contradicted(&self.gateway.metrics, digest, "registry", said, size);
        }
    }

    fn hit(&self, answer: &Answerer, blob: CachedBlob, expected: Option<u64>) -> Response<Body> {
        self.contradicted(expected.unwrap_or(blob.size), blob.size);
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
                let (who, origin) = (&self.client.identity, || self.zones(expected, expected));
                return self.gateway.cache.fill_for(who, self.blob.digest, origin).await;
            }
            match self.zones(expected, expected).await {
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
            filled => return self.filled(answer, filled, expected).await,
        };
        // No zone has it: the registry's own way.
        let memory = self.read_ahead().ok_or_else(|| Problem::overload("limits.memory has no room"))?;
        let fetched =
            registry_fallback::fetch(self.gateway, self.request, &self.blob, expected, self.client).await;
        let fetched = match fetched {
            Err(problem) if keep && not_opened.is_about_size() => {
                // Where zones have it in another size than the registry named, the digest decides.
                let origin = || self.zones(None, expected);
                let who = &self.client.identity;
                return match self.gateway.cache.fill_for(who, self.blob.digest, origin).await {
                    Filled::NotOpened(_) => Err(problem),
                    filled => self.filled(answer, filled, expected).await,
                };
            }
            fetched => fetched?,
        };
        match fetched {
            Fetched::Relay(response) => Ok(response),
            Fetched::Blob(opened) => {
                let opened = opened.holding(memory);
                tracing::info!(digest = %self.blob.digest, zones = %not_opened, from = %opened.from, "no zone gave it, the registry does");
                let filled =
                    if keep { self.fill_from(opened).await } else { Filled::Alone(opened, NotKept::Disk) };
                self.filled(answer, filled, expected).await
            }
        }
    }

    async fn filled(
        &self,
        answer: &Answerer,
        filled: Filled,
        expected: Option<u64>,
    ) -> Result<Response<Body>, Problem> {
        match filled {
            Filled::Hit(blob) => Ok(self.hit(answer, blob, expected)),
            Filled::Following(follower, joined) => Ok(self.follow(answer, follower, joined)),
            Filled::Alone(opened, reason) => Ok(self.alone(answer, opened, reason)),
            Filled::NotOpened(why) => Err(Problem::zones(format!("no zone gave the blob: {why}"))),
            Filled::Broken(why) => {
                Err(Problem::zones(format!("the blob broke off before its first byte: {why}")))
            }
        }
    }

    /// Reads behind a fill. A part is answered as one at once, and its bytes follow as they come in.
    fn follow(&self, answer: &Answerer, follower: Follower, joined: bool) -> Response<Body> {
        let from = follower.source();
        self.gateway.metrics.blob_answered(&from);
        let collapsed = if joined { "; collapsed" } else { "" };
        let status = format!("fwd=miss{collapsed}; stored; detail=\"{from}\"");
        let size = follower.size();
        answer.bytes(size, |range| Body::stream(follower.into_stream(range)), &status)
    }

    /// Streams what is not kept to this client alone. For a part all of it passes here; where too many
    /// do, the whole is the answer, and the client's own pace bounds what is read (RFC 9110, 14.2: a
    /// range may be ignored).
    fn alone(&self, answer: &Answerer, opened: Opened, reason: NotKept) -> Response<Body> {
        self.gateway.metrics.blob_answered(&opened.from);
        let status = format!("fwd=miss; detail=\"{}, not stored: {}\"", opened.from, reason.as_str());
        let blob_error = |error: backends::Error| BodyError::Blob(error.to_string());
        let whole = opened.body;
        let Some(size) = opened.size else {
            return answer.unsized_whole(Body::stream(whole.map_err(blob_error)), &status);
        };
        if answer.part(size).is_none() {
            return answer.bytes(size, |_| Body::stream(whole.map_err(blob_error)), &status);
        }
        let Ok(slot) = self.gateway.unkept_parts.try_take(&self.client.identity) else {
            return answer.whole(size, Body::stream(whole.map_err(blob_error)), &status);
        };
        let body = |range| {
            Body::stream(proven_part(whole, 0, range).map_err(blob_error).inspect(move |_| {
                // Held for as long as the body is.
                let _ = &slot;
            }))
        };
        answer.bytes(size, body, &status)
    }

    /// Memory for what is read ahead of a blob that is not here.
    fn read_ahead(&self) -> Option<Reservation> {
        self.gateway.memory.reserve(Use::Blobs, Some(self.client.holder()), BLOB_READ)
    }

    /// The best zone that has it, in this size if one is expected; `said` is the registry's.
    fn zones(&self, expected: Option<u64>, said: Option<u64>) -> Origin {
        // Where there is no memory for it, the registry's way has none either, and says so.
        let Some(memory) = self.read_ahead() else {
            return async { Err(NotOpened { answers: Vec::new() }) }.boxed();
        };
        let (gateway, blob) = (Arc::clone(self.gateway), self.blob.clone());
        let repository = self.repository.to_owned();
        async move {
            let reading = gateway.router.open(&blob, expected).await?;
            if reading.home_lacks_it {
                repair_home(&gateway, &repository, &blob, reading.size);
            }
            let body = gateway.noting_sizes(reading.body, blob.digest, reading.size, said);
            let router = Arc::clone(&gateway.router);
            let resume = |size| -> Resume { Arc::new(move |seen| router.resume(&blob, size, seen)) };
            Ok(Opened {
                size: reading.size,
                from: format!("zone={}", reading.zone).into(),
                body,
                resume: reading.size.map(resume),
            }
            .holding(memory))
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
fn repair_home(gateway: &Arc<Gateway>, repository: &str, blob: &Blob, size: Option<u64>) {
    let Some(home) = gateway.repairable_home().filter(|_| gateway.repairs.take()) else { return };
    let (gateway, repository, blob) = (Arc::clone(gateway), repository.to_owned(), blob.clone());
    tokio::spawn(async move {
        let digest = blob.digest;
        if let Err(error) = gateway.fanout.enqueue(&repository, &[(blob, size)], &[home]).await {
            tracing::warn!(%digest, %error, "the copy home is not queued");
        }
    });
}
