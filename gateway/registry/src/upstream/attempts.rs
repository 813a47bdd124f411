//! Sends one request to one instance after another until one answers.

use std::future::Future;
use std::hash::{DefaultHasher, Hasher as _};

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, StatusCode};
use http_body::Body as _;
use percent_encoding::percent_decode_str;
use tokio::time::{Duration, Instant, sleep};

use super::breaker::Evidence;
use super::exchange::{Ending, Exchanged, Failed, exchange, not_begun};
use super::first_piece::with_first_piece;
use super::instance::Instance;
use super::meaning::{Meaning, meaning, try_next};
use super::{Answer, Head, InstanceId, Order, Purpose, Upstream, ZoneIsDead};
use crate::{Read, Repeat, UploadRefusal, is_masked_bad_gateway, repeat, upload_repository};
use config::RegistryKind;
use gateway_http::{Body, BodyError, Fault, Problem};

/// The parameters that all attempts of a request share.
struct Attempt<'a> {
    head: &'a Head<'a>,
    repeat: Repeat,
    /// Whether there is another instance to try.
    others: bool,
    bound: Duration,
    /// The zone to whose store the request's bytes go, and a function that says whether a store is dead.
    zone: (&'a str, ZoneIsDead<'a>),
}

/// How an attempt ended.
enum Outcome {
    /// The instance answered.
    Answered(Exchanged),
    /// The instance gave no answer. The body is present if the next instance may get the request.
    Failed(Problem, Option<Body>),
}

impl Upstream {
    /// Sends a request to the instances in `order` until one answers. If no connection could be made, any
    /// request goes on to the next instance. A request that [`repeat`] allows to be sent twice also goes on
    /// if an instance broke off, answered 500, has nothing behind its proxy, or went out of use while the
    /// request waited.
    ///
    /// All attempts together take `bound`, one `registry_connect` for each instance, and the time that the
    /// client needs to send the body.
    pub(super) async fn through(
        &self,
        order: &Order,
        purpose: Purpose,
        head: Head<'_>,
        body: Body,
        bound: Duration,
        zone_is_dead: ZoneIsDead<'_>,
    ) -> Result<(Answer, InstanceId), Problem> {
        if self.gives_up && self.is_away() {
            return Err(Problem::away());
        }
        // No connection is used for a client that sends nothing.
        let body = with_first_piece(body).await.map_err(|error| not_begun(&error))?;
        if promises_more(&head.headers, &body) {
            return Err(not_begun(&BodyError::Client("it has no bytes, but a Content-Length".to_owned())));
        }
        if would_lose_body(&head.method, &head.headers, &body) {
            let why = format!("a {} with a body whose length is not named", head.method);
            let fix = "send it without a body, or with Content-Length";
            let problem = Problem::client(StatusCode::LENGTH_REQUIRED, "UNSUPPORTED", why, fix);
            return Err(Problem { unsent: true, ..problem });
        }
        let connection = self.connection(purpose).await?;
        let repeat = match body.is_end_stream() {
            true => repeat(&head.method, head.path.path(), head.path.query()),
            false => Repeat::Never,
        };
        let count = u32::try_from(order.0.len()).unwrap_or(u32::MAX);
        let deadline = Instant::now() + bound + self.timeouts.registry_connect * (count - 1);
        // If another instance continues the upload, it still writes to the first instance's store.
        let zone = order.0.first().map_or("", |place| &*self.instances[*place].zone);
        let mut next = Some(body);
        let mut said = Vec::new();
        let mut order = order.0.iter().copied().peekable();
        while let (Some(place), Some(body)) = (order.next(), next.take()) {
            let instance = &self.instances[place];
            let others = order.peek().is_some();
            let bound = match repeat {
                Repeat::Never => bound,
                Repeat::Begin if others => bound.min(self.timeouts.registry_upload_begin),
                _ => bound.min(deadline - Instant::now()),
            };
            let one = Attempt { head: &head, repeat, others, bound, zone: (zone, zone_is_dead) };
            match self.attempt(instance, &one, body).await? {
                Outcome::Answered(Exchanged { answer, unfinished, .. }) => {
                    if !(others && try_next(repeat, answer.status())) {
                        said.push(format!("{}: {}", instance.name, answer.status().as_u16()));
                        if repeat != Repeat::Never && answer.status().is_server_error() {
                            self.unserved.note(&said.join("; "));
                        }
                        return Ok((self.bounded(answer, connection, unfinished), InstanceId(place)));
                    }
                    said.push(format!("{}: {}", instance.name, answer.status().as_u16()));
                    next = Some(Body::empty());
                }
                Outcome::Failed(mut problem, body) => {
                    said.push(format!("{}: {}", instance.name, problem.message));
                    if body.is_none() || !others {
                        if said.len() > 1 {
                            problem.message = said.join("; ");
                        }
                        if repeat != Repeat::Never && problem.fault == Fault::Registry {
                            self.unserved.note(&said.join("; "));
                        }
                        return Err(problem);
                    }
                    next = body;
                }
            }
        }
        Err(Problem::gateway("the registry has no instance"))
    }

    /// Runs one attempt and records what it shows about the instance.
    async fn attempt(&self, instance: &Instance, one: &Attempt<'_>, body: Body) -> Result<Outcome, Problem> {
        let repeat = one.repeat;
        let request = self.request(one.head)?;
        let lost = || self.out_of_use(instance, one);
        let exchanged = exchange(&instance.client, &self.timeouts, request, body, one.bound, &lost);
        let exchanged = match repeat {
            Repeat::Never if !(self.gives_up && changes_nothing(one.head)) => exchanged.await,
            _ => {
                let others = one.others && repeat != Repeat::Never;
                self.wait_with_probes(instance, exchanged, others).await
            }
        };
        Ok(match exchanged {
            Ok(exchanged) => {
                self.note_answer(instance, one, &exchanged);
                Outcome::Answered(exchanged)
            }
            Err(Failed { problem, ending }) => {
                match ending {
                    Ending::GivenUp
                        if self.several() && upload_repository(one.head.path.path()).is_some() =>
                    {
                        instance.upload_failed(problem.status.as_u16());
                    }
                    // The breaker of the instance or of the zone already has this information.
                    Ending::Unresponsive | Ending::GivenUp => {}
                    Ending::NotSent(_) if problem.fault == Fault::Registry => {
                        instance.note(Evidence::Gone, &problem.message);
                    }
                    // The request itself may take long, or may make Quay break off, and one client may send
                    // many such requests. So a probe decides.
                    Ending::TimedOut | Ending::BrokeOff if problem.fault == Fault::Registry => {
                        instance.note(Evidence::Doubt, &problem.message);
                        // The store may hang, which says nothing about reads.
                        let waited = matches!(ending, Ending::TimedOut) && one.repeat == Repeat::Begin;
                        if waited && self.several() {
                            instance.upload_failed(problem.status.as_u16());
                        }
                    }
                    _ => {}
                }
                let again = match ending {
                    Ending::NotSent(body) => Some(body),
                    Ending::Unresponsive => Some(Body::empty()),
                    Ending::BrokeOff if matches!(repeat, Repeat::Read | Repeat::Begin) => Some(Body::empty()),
                    Ending::TimedOut if repeat == Repeat::Begin && problem.fault == Fault::Registry => {
                        Some(Body::empty())
                    }
                    Ending::BrokeOff | Ending::TimedOut | Ending::GivenUp => None,
                };
                Outcome::Failed(problem, again)
            }
        })
    }

    /// Waits for an exchange, and has the instance probed while there is no answer. So an instance that hangs
    /// is detected within seconds, and a slow instance gets the time that it needs. If the client leaves,
    /// this says nothing about the instance, because the request may take long. If there are `others`, the
    /// wait ends when the instance does not answer probes either. If the gateway may answer without the
    /// registry, it ends when the registry is away: so that this is known soon, all instances are probed.
    async fn wait_with_probes(
        &self,
        instance: &Instance,
        exchanged: impl Future<Output = Result<Exchanged, Failed>>,
        others: bool,
    ) -> Result<Exchanged, Failed> {
        let suspicious = self.timeouts.registry_probe / 3;
        tokio::pin!(exchanged);
        loop {
            if self.gives_up && self.is_away() {
                return Err(Failed { problem: Problem::away(), ending: Ending::GivenUp });
            }
            tokio::select! {
                exchanged = &mut exchanged => return exchanged,
                () = sleep(suspicious) => match self.gives_up {
                    true => self.instances.iter().for_each(|instance| instance.suspect()),
                    false => instance.suspect(),
                },
            }
            if others && instance.is_silent() {
                let why = "the registry gave no answer, and does not answer probes";
                let problem = Problem::registry(StatusCode::GATEWAY_TIMEOUT, why);
                return Err(Failed { problem, ending: Ending::Unresponsive });
            }
        }
    }

    /// Returns what the request waits for, if that is out of use and the request can never be sent twice.
    /// This is an instance that does not answer although there are other instances, or a zone whose store is
    /// dead.
    fn out_of_use(&self, instance: &Instance, one: &Attempt<'_>) -> Option<Problem> {
        if one.repeat != Repeat::Never {
            return None;
        }
        if self.several() && instance.is_silent() {
            let why = format!("the instance of Quay {} does not answer any more", instance.name);
            return Some(Problem::lost(Fault::Registry, why));
        }
        let (zone, is_dead) = one.zone;
        is_dead(zone).then(|| {
            let why = format!("the store of zone {zone}, where this upload goes, is out of use");
            Problem::lost(Fault::Zone, why)
        })
    }

    fn note_answer(&self, instance: &Instance, one: &Attempt<'_>, exchanged: &Exchanged) {
        let (path, status) = (one.head.path.path(), exchanged.answer.status());
        let masked = status == StatusCode::PAYLOAD_TOO_LARGE && self.masked(one.head, exchanged);
        match meaning(one.repeat, path, status, masked) {
            Meaning::Serves => instance.note(Evidence::Answered, ""),
            Meaning::Error => {
                instance.note(Evidence::Error(hash(path)), &format!("it answered {}", status.as_u16()))
            }
            Meaning::Doubt => instance.note(Evidence::Doubt, &format!("it answered {}", status.as_u16())),
            Meaning::OtherError => instance.erred(),
            Meaning::Nothing => {}
        }
        if masked && self.several() {
            instance.upload_failed(StatusCode::BAD_GATEWAY.as_u16());
        }
        if one.repeat == Repeat::Begin && status.is_server_error() && self.several() {
            instance.upload_failed(status.as_u16());
        }
    }

    /// Whether a 413 stands for a 502 of Quay's nginx.
    fn masked(&self, head: &Head<'_>, exchanged: &Exchanged) -> bool {
        let repository = upload_repository(head.path.path());
        let length = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        self.kind == RegistryKind::Quay
            && is_masked_bad_gateway(&UploadRefusal {
                repository: repository.as_deref(),
                length: length.or(exchanged.under_way),
                status: exchanged.answer.status(),
                headers: exchanged.answer.headers(),
                layer_max: self.layer_max,
            })
    }
}

/// Whether a request changes nothing at the registry, so that nobody needs to know how it would have ended. Clients try
/// `POST` for a token first, which Quay refuses.
fn changes_nothing(head: &Head<'_>) -> bool {
    matches!(head.method, Method::GET | Method::HEAD)
        || Read::parse(&head.method, head.path.path()) == Read::Token
}

/// Whether the head promises bytes that an empty body does not have. hyper would send this head and take the request
/// for done, so that the registry would read the next request on the connection as the body of this one.
fn promises_more(headers: &HeaderMap, body: &Body) -> bool {
    body.is_end_stream() && headers.get_all(CONTENT_LENGTH).iter().any(|length| length != "0")
}

/// Whether hyper would send a request without its body. It sends the body of a `GET` or `HEAD` in chunks only
/// if told to. A server that expects no body there might take the chunks for another request.
fn would_lose_body(method: &Method, headers: &HeaderMap, body: &Body) -> bool {
    let has_length = headers.contains_key(CONTENT_LENGTH) || body.size_hint().exact().is_some();
    matches!(*method, Method::GET | Method::HEAD) && !body.is_end_stream() && !has_length
}

/// A hash of a path. Escapes do not change it.
fn hash(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    for byte in percent_decode_str(path) {
        hasher.write_u8(byte);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_head_promises_what_its_body_does_not_have() {
        let of = |lengths: &[&str]| {
            let value = |length: &&str| (CONTENT_LENGTH, length.parse().expect("a value"));
            lengths.iter().map(value).collect::<HeaderMap>()
        };
        assert!(promises_more(&of(&["10"]), &Body::empty()));
        for lengths in [&[][..], &["0"]] {
            assert!(!promises_more(&of(lengths), &Body::empty()), "{lengths:?}");
        }
        assert!(!promises_more(&of(&["1"]), &Body::full("a")));
    }

    #[test]
    fn a_path_is_the_same_however_it_is_escaped() {
        assert_eq!(hash("/v2/o/a/manifests/v1"), hash("/v2/o/a/%6Danifests/v%31"));
        assert_ne!(hash("/v2/o/a/manifests/v1"), hash("/v2/o/a/manifests/v2"));
    }

    #[test]
    fn no_body_is_lost_silently() {
        let chunks = || Body::stream(futures_util::stream::iter([Ok(bytes::Bytes::from_static(b"a"))]));
        let (none, length) = (HeaderMap::new(), [(CONTENT_LENGTH, "1".parse().expect("a value"))]);
        let length = length.into_iter().collect();
        for method in [Method::GET, Method::HEAD] {
            assert!(would_lose_body(&method, &none, &chunks()), "{method}");
            assert!(!would_lose_body(&method, &length, &chunks()), "{method}");
            assert!(!would_lose_body(&method, &none, &Body::full("a")), "{method}");
            assert!(!would_lose_body(&method, &none, &Body::empty()), "{method}");
        }
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert!(!would_lose_body(&method, &none, &chunks()), "{method}");
        }
    }
}
