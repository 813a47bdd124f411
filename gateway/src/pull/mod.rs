//! A pull: the steps of `GET` and `HEAD` of a blob, in order.

mod answer;
mod fill;
mod registry_fallback;

use std::sync::Arc;

use backends::{Digest, in_current_request};
use futures_util::TryStreamExt;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use tokio::time::Instant;
use tracing::Span;
use zone_router::{Blob, NotOpened};

use self::answer::Answerer;
use self::fill::{Opened, Served, Unserved};
use self::registry_fallback::Fetched;
use crate::Gateway;
use crate::authorize::{self, Verdict};
use crate::forward;
use crate::metrics::Source;
use crate::offline;
use crate::request::Client;
use crate::spans;
use blob_cache::{BypassReason, CachedBlob, Follower, Lookup, NoFill, part_of};
use gateway_http::{Body, Problem};
use limits::memory::{BLOB_READ, Reservation, Use};
use operations::reports::HIT;
use registry::upstream::Purpose;

/// How many fills a client joins or starts if they break before their first byte.
const FILL_TRIES_MAX: usize = 3;

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
    /// The deadline for the first byte of a blob that a zone has.
    deadline: Instant,
}

impl Pull<'_> {
    async fn answer(&self) -> Result<Response<Body>, Problem> {
        // The registry decides who may read.
        let granted =
            match authorize::may_read(self.gateway, self.request, self.repository, &self.blob, self.client)
                .await?
            {
                Verdict::Yes(granted) => granted,
                Verdict::No(answer) => return self.refused(*answer).await,
                Verdict::NotLately => {
                    return Ok(offline::unauthorized(self.gateway, Some(self.repository), self.client));
                }
            };
        // If proven bytes contradict a size that was named, the size of the bytes is right.
        let expected = self.gateway.sizes.proven(&self.blob.digest).or(granted.size);
        let answer = Answerer::new(self.blob.digest, &self.request.headers, granted.headers);
        if answer.client_has_it() {
            return Ok(self.with_source_of_head(answer.not_modified(self.held())));
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
            // Some registries record the empty blob without storing an object.
            return Ok(answer.empty());
        }
        match self.gateway.cache.lookup(&self.client.identity, &self.blob.digest).await {
            Lookup::Hit(blob) => Ok(self.hit(&answer, blob, expected)),
            miss => self.miss(&answer, expected, miss).await,
        }
    }

    /// The registry's refusal, with the body that an answer to `HEAD` does not have.
    async fn refused(&self, answer: registry::upstream::Answer) -> Result<Response<Body>, Problem> {
        match self.request.method == Method::HEAD {
            true => Ok(forward::relay(self.gateway, answer, self.client)),
            false => {
                // The connection is returned before another one is taken.
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
        authorize::refused(self.gateway, self.repository, &self.blob, answer.status());
        Ok(forward::relay(self.gateway, answer, self.client))
    }

    async fn head(&self, answer: &Answerer, expected: Option<u64>) -> Result<Response<Body>, Problem> {
        // The size of proven bytes is the true size.
        let held = self.gateway.cache.size_of(&self.blob.digest);
        if let (Some(held), Some(said)) = (held, expected) {
            self.contradicted(said, held);
        }
        let size = match held.or(expected) {
            Some(size) => Some(size),
            None => self.size_elsewhere().await,
        };
        match size {
            Some(size) => Ok(self.with_source_of_head(answer.head(size, self.held()))),
            None => self.registrys_answer().await,
        }
    }

    /// The `Cache-Status` of an answer without a body.
    fn held(&self) -> &'static str {
        let held = self.blob.digest == Digest::EMPTY || self.gateway.cache.holds(&self.blob.digest);
        if held { HIT } else { "fwd=miss" }
    }

    /// Records where an answer without a body comes from: the cache, if it has the blob.
    fn with_source_of_head(&self, response: Response<Body>) -> Response<Body> {
        let source = if self.held() == HIT { Source::HIT } else { Source::GATEWAY };
        source.of(response)
    }

    /// The size according to the cache or a zone.
    async fn size_elsewhere(&self) -> Option<u64> {
        match self.gateway.cache.get(&self.client.identity, &self.blob.digest).await {
            Ok(Some(blob)) => Some(blob.size),
            Ok(None) | Err(_) => {
                let head = self.gateway.router.head(&self.blob);
                tokio::time::timeout_at(self.deadline, head).await.ok().flatten().map(|meta| meta.size)
            }
        }
    }

    /// Whether neither the cache nor a zone has another size than the registry named.
    async fn is_as_long(&self, expected: Option<u64>) -> bool {
        let Some(expected) = expected else { return true };
        self.size_elsewhere().await.is_none_or(|size| size == expected)
    }

    /// Records that the registry named one size, and proven bytes have another.
    fn contradicted(&self, said: u64, size: u64) {
        if said != size {
            let digest = self.blob.digest;
            self.gateway.sizes.note(&self.gateway.metrics, digest, "registry", said, size);
        }
    }

    fn hit(&self, answer: &Answerer, blob: CachedBlob, expected: Option<u64>) -> Response<Body> {
        self.contradicted(expected.unwrap_or(blob.size), blob.size);
        self.counted(HIT, answer.file(blob, HIT))
    }

    /// Serves the blob from the zones, through the cache if it keeps the blob. If no zone has it, uses the
    /// registry fallback.
    async fn miss(
        &self,
        answer: &Answerer,
        expected: Option<u64>,
        lookup: Lookup,
    ) -> Result<Response<Body>, Problem> {
        // If the registry was slow, the zones still get the time for a first byte.
        let deadline = self.deadline.max(Instant::now() + self.gateway.settings.timeouts.zone_first_byte);
        let read = self.read_zones(lookup, expected, expected);
        let not_opened = match tokio::time::timeout_at(deadline, read).await {
            Err(_) => return Err(no_first_byte()),
            Ok(Err(Unserved::NotOpened(why))) => why,
            Ok(served) => return Ok(self.serve(answer, served?, expected)),
        };
        let memory = self.read_ahead().ok_or_else(|| Problem::overload("limits.memory has no room"))?;
        let fetched =
            registry_fallback::fetch(self.gateway, self.request, &self.blob, expected, self.client).await;
        match fetched {
            Ok(Fetched::Relay(response)) => {
                authorize::refused(self.gateway, self.repository, &self.blob, response.status());
                Ok(response)
            }
            Ok(Fetched::Blob(Opened { from, body })) => {
                match self.gateway.router.home() {
                    Some(_) => {
                        tracing::info!(digest = %self.blob.digest, zones = %not_opened, %from, "no zone gave it, the registry does")
                    }
                    None => tracing::debug!(digest = %self.blob.digest, %from, "the registry gives it"),
                }
                let served = self.keep_fetched(Opened { from, body: body.holding(memory) }).await?;
                Ok(self.serve(answer, served, expected))
            }
            Err(problem) if not_opened.is_about_size() => {
                // Zones have the blob in another size than the registry named. The digest decides.
                let lookup = self.join_or_fill().await;
                match self.read_zones(lookup, None, expected).await {
                    Err(Unserved::NotOpened(_)) => Err(problem),
                    served => Ok(self.serve(answer, served?, expected)),
                }
            }
            Err(problem) => Err(problem),
        }
    }

    /// Joins the fill of the blob, or starts one from the zones. If it breaks before its first byte, starts
    /// another. A zone's object must have the `expected` size, if there is one. `said` is the size that the
    /// registry named.
    async fn read_zones(
        &self,
        mut lookup: Lookup,
        expected: Option<u64>,
        said: Option<u64>,
    ) -> Result<Served, Unserved> {
        let mut broken = Arc::from("");
        for _ in 0..FILL_TRIES_MAX {
            let (join, given_back) = match lookup {
                Lookup::Hit(blob) => return Ok(Served::Hit(blob)),
                Lookup::Bypass(bypass) => {
                    return Ok(Served::bypass(self.open_zones(expected, said).await?, bypass));
                }
                Lookup::Join(join) => (join, None),
                Lookup::Fill(writer, join) => {
                    (join, Some(fill::start(writer, self.fill_span(), self.open_zones(expected, said))))
                }
            };
            let joined = given_back.is_none();
            match join.follow().await {
                Ok(follower) => return Ok(Served::Follow { follower, joined }),
                Err(NoFill::Bypass(bypass)) => {
                    let opened = match given_back {
                        Some(given_back) => given_back.await.ok(),
                        None => None,
                    };
                    let opened = match opened {
                        Some(opened) => opened,
                        None => self.open_zones(expected, said).await?,
                    };
                    return Ok(Served::bypass(opened, bypass));
                }
                Err(NoFill::NotOpened(why)) => return Err(Unserved::NotOpened(why)),
                Err(NoFill::Broken(why)) => broken = why,
            }
            lookup = self.join_or_fill().await;
        }
        Err(Unserved::Broken(broken))
    }

    /// Fills the cache from what the registry returned, or joins a fill that is in progress. If that fill
    /// fails, the registry's body is still available.
    async fn keep_fetched(&self, opened: Opened) -> Result<Served, Unserved> {
        // The first fill may be one that still asks the zones. The next one uses the registry's body.
        for _ in 0..2 {
            let followed = match self.join_or_fill().await {
                Lookup::Hit(blob) => return Ok(Served::Hit(blob)),
                Lookup::Bypass(bypass) => return Ok(Served::bypass(opened, bypass)),
                Lookup::Fill(writer, join) => {
                    let given_back = fill::start(writer, self.fill_span(), std::future::ready(Ok(opened)));
                    return match join.follow().await {
                        Ok(follower) => Ok(Served::Follow { follower, joined: false }),
                        Err(NoFill::Bypass(bypass)) => match given_back.await {
                            Ok(opened) => Ok(Served::bypass(opened, bypass)),
                            Err(_) => Err(Unserved::Broken("the registry's stream is gone".into())),
                        },
                        Err(NoFill::NotOpened(why)) => Err(Unserved::NotOpened(why)),
                        Err(NoFill::Broken(why)) => Err(Unserved::Broken(why)),
                    };
                }
                Lookup::Join(join) => join.follow().await,
            };
            match followed {
                Ok(follower) => return Ok(Served::Follow { follower, joined: true }),
                Err(NoFill::Bypass(bypass)) => return Ok(Served::bypass(opened, bypass)),
                Err(NoFill::NotOpened(_) | NoFill::Broken(_)) => {}
            }
        }
        Ok(Served::Bypass(opened, BypassReason::Busy))
    }

    fn fill_span(&self) -> Span {
        spans::fill(self.repository, &self.blob.digest)
    }

    async fn join_or_fill(&self) -> Lookup {
        self.gateway.cache.join_or_fill(&self.client.identity, &self.blob.digest).await
    }

    fn serve(&self, answer: &Answerer, served: Served, expected: Option<u64>) -> Response<Body> {
        match served {
            Served::Hit(blob) => self.hit(answer, blob, expected),
            Served::Follow { follower, joined } => self.follow(answer, follower, joined),
            Served::Bypass(opened, reason) => self.bypass(answer, opened, reason),
        }
    }

    /// Counts an answer by where its body comes from.
    fn counted(&self, place: &str, mut response: Response<Body>) -> Response<Body> {
        response.extensions_mut().insert(self.gateway.traffic.begun(place));
        self.gateway.metrics.blob_answered(place).of(response)
    }

    /// Reads behind a fill. The answer for a part is sent at once, and its bytes follow as they arrive.
    fn follow(&self, answer: &Answerer, follower: Follower, joined: bool) -> Response<Body> {
        let place = Arc::clone(follower.source());
        spans::note_source(&place);
        let collapsed = if joined { "; collapsed" } else { "" };
        let status = format!("fwd=miss{collapsed}; stored; detail=\"{place}\"");
        let size = follower.size();
        let (router, blob) = (Arc::clone(&self.gateway.router), self.blob.clone());
        let body = |range| Body::stream(fill::follow(follower, range, router, blob));
        self.counted(&place, answer.bytes(size, body, &status))
    }

    /// Streams a blob that is not kept to this client only. For a part, the whole blob is read. If too many
    /// such reads are in progress, the answer is the whole blob, so that the client's own speed limits the
    /// read (RFC 9110, 14.2: a range may be ignored).
    fn bypass(&self, answer: &Answerer, opened: Opened, reason: BypassReason) -> Response<Body> {
        spans::note_source(&opened.from);
        let place = Arc::clone(&opened.from);
        self.counted(&place, self.bypassed(answer, opened, reason))
    }

    fn bypassed(&self, answer: &Answerer, opened: Opened, reason: BypassReason) -> Response<Body> {
        let Opened { from, body: whole } = opened;
        let status = format!("fwd=miss; detail=\"{from}, not stored: {}\"", reason.as_str());
        let Some(size) = whole.size() else {
            return answer.unsized_whole(
                self.request.version,
                Body::stream(whole.map_err(fill::cut)),
                &status,
            );
        };
        if answer.part(size).is_none() {
            return answer.bytes(size, |_| Body::stream(whole.map_err(fill::cut)), &status);
        }
        let Ok(slot) = self.gateway.bypass_parts.try_take(&self.client.identity) else {
            return answer.whole(size, Body::stream(whole.map_err(fill::cut)), &status);
        };
        let body = |range| Body::stream(part_of(whole.holding(slot), 0, range).map_err(fill::cut));
        answer.bytes(size, body, &status)
    }

    /// Reserves memory for reading ahead in a blob that is not in the cache.
    fn read_ahead(&self) -> Option<Reservation> {
        self.gateway.memory.reserve(Use::Blobs, Some(self.client.holder()), BLOB_READ)
    }

    /// Opens the blob in the best zone that has it, in the `expected` size if there is one. `said` is the
    /// size that the registry named. The future borrows nothing, because a fill outlives its client.
    fn open_zones(
        &self,
        expected: Option<u64>,
        said: Option<u64>,
    ) -> impl Future<Output = Result<Opened, NotOpened>> + Send + use<> {
        let memory = self.read_ahead();
        let (gateway, blob) = (Arc::clone(self.gateway), self.blob.clone());
        let repository = self.repository.to_owned();
        async move {
            // Without memory here, the registry fallback has none either, and reports it.
            let Some(memory) = memory else { return Err(NotOpened { answers: Vec::new() }) };
            let reading = gateway.router.open(&blob, expected).await?;
            if reading.home_lacks_it {
                repair_home(&gateway, &repository, &blob, reading.size);
            }
            let body = gateway.watch_size(reading.body, said).holding(memory);
            Ok(Opened { from: format!("zone={}", reading.zone).into(), body })
        }
    }
}

fn no_first_byte() -> Problem {
    let mut problem = Problem::zones("no zone gave the blob's first byte in time; it may be there soon");
    problem.status = StatusCode::GATEWAY_TIMEOUT;
    problem
}

/// Queues the copy home if the home zone does not have the blob and another zone does.
fn repair_home(gateway: &Arc<Gateway>, repository: &str, blob: &Blob, size: Option<u64>) {
    let Some(home) = gateway.repairable_home().filter(|_| gateway.repairs.take()) else { return };
    let (gateway, repository, blob) = (Arc::clone(gateway), repository.to_owned(), blob.clone());
    tokio::spawn(in_current_request(async move {
        let digest = blob.digest;
        if let Err(error) = gateway.fanout.enqueue(&repository, &[(blob, size)], &[home]).await {
            tracing::warn!(%digest, %error, "the copy home is not queued");
        }
    }));
}
