//! One request at one instance after the other.

use std::future::Future;

use http::StatusCode;
use http::header::CONTENT_LENGTH;
use http_body::Body as _;
use tokio::time::{Duration, Instant, sleep};

use super::begun::begun;
use super::breaker::Evidence;
use super::exchange::{Exchanged, Failed, How, exchange, not_begun};
use super::instance::Instance;
use super::{Answer, Head, InstanceId, Order, Purpose, Upstream, ZoneIsDead};
use crate::{Refused, Repeat, is_masked_bad_gateway, repeat, upload_repository};
use config::RegistryKind;
use gateway_http::{Body, Fault, Problem};

/// How a request is tried.
struct Try<'a> {
    head: &'a Head<'a>,
    repeat: Repeat,
    /// Whether there is another instance to go on to.
    others: bool,
    bound: Duration,
    /// The zone whose store the request's bytes go to, and whether it is dead.
    zone: (&'a str, ZoneIsDead<'a>),
}

/// What an instance did with a request.
enum Outcome {
    /// It answered.
    Answered(Exchanged),
    /// It gave no answer; the body, where the next instance may have the request.
    Failed(Problem, Option<Body>),
}

impl Upstream {
    /// One instance after the other. Any request goes on to the next where there was no connection to
    /// send it on; what [`repeat`] allows also where an instance broke off, answered 500 or that nothing
    /// is behind it, or went out of use while the request waited for it.
    ///
    /// In all it takes `bound` and `registry_connect` for each instance, plus what the client takes
    /// to send the body.
    pub(super) async fn through(
        &self,
        order: &Order,
        purpose: Purpose,
        head: Head<'_>,
        body: Body,
        bound: Duration,
        zone_is_dead: ZoneIsDead<'_>,
    ) -> Result<(Answer, InstanceId), Problem> {
        // A client that sends nothing costs no connection.
        let body = begun(body).await.map_err(|error| not_begun(&error))?;
        let connection = self.connection(purpose).await?;
        let repeat = match body.is_end_stream() {
            true => repeat(&head.method, head.path.path(), head.path.query()),
            false => Repeat::Never,
        };
        let count = u32::try_from(order.0.len()).unwrap_or(u32::MAX);
        let deadline = Instant::now() + bound + self.timeouts.registry_connect * (count - 1);
        // What goes on with another instance's upload writes to that one's store.
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
            let one = Try { head: &head, repeat, others, bound, zone: (zone, zone_is_dead) };
            match self.attempt(instance, &one, body).await? {
                Outcome::Answered(Exchanged { answer, unfinished, .. }) => {
                    if !(others && goes_on(repeat, head.path.path(), answer.status())) {
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

    /// A request at one instance. Remembers how the instance fared.
    async fn attempt(&self, instance: &Instance, one: &Try<'_>, body: Body) -> Result<Outcome, Problem> {
        let repeat = one.repeat;
        let request = self.request(one.head)?;
        let lost = || self.lost(instance, one);
        let exchanged = exchange(&instance.client, &self.timeouts, request, body, one.bound, &lost);
        let exchanged = match repeat {
            Repeat::Never => exchanged.await,
            _ => self.attended(instance, exchanged, one.others).await,
        };
        Ok(match exchanged {
            Ok(exchanged) => {
                self.note_answer(instance, one, &exchanged);
                Outcome::Answered(exchanged)
            }
            Err(Failed { problem, how }) => {
                match how {
                    How::Lost if self.several() && upload_repository(one.head.path.path()).is_some() => {
                        instance.upload_failed(problem.status.as_u16());
                    }
                    // Its breaker, or its zone's, knows already.
                    How::Left | How::Lost => {}
                    // Perhaps its store hangs: that is no matter of what reads.
                    How::Over if one.repeat == Repeat::Begin && self.several() => {
                        instance.suspect();
                        instance.upload_failed(problem.status.as_u16());
                    }
                    // What was asked for may take long, and one client may ask for it: probes tell.
                    How::Over if one.repeat == Repeat::Never && problem.fault == Fault::Registry => {
                        instance.suspect();
                    }
                    _ if problem.fault == Fault::Registry => {
                        instance.note(Evidence::Gone, &problem.message);
                    }
                    _ => {}
                }
                let again = match how {
                    How::Unsent(body) => Some(body),
                    How::Left => Some(Body::empty()),
                    How::Broke if matches!(repeat, Repeat::Read | Repeat::Begin) => Some(Body::empty()),
                    How::Over if repeat == Repeat::Begin && problem.fault == Fault::Registry => {
                        Some(Body::empty())
                    }
                    How::Broke | How::Over | How::Lost => None,
                };
                Outcome::Failed(problem, again)
            }
        })
    }

    /// Waits for an exchange, and has the instance probed as long as there is no answer: an instance that
    /// hangs is known within seconds, and one that is merely slow is waited for. A client that leaves says
    /// nothing more: what it asked for may take long. With `others` to go on to, the wait ends when the
    /// instance does not answer probes either.
    async fn attended(
        &self,
        instance: &Instance,
        exchanged: impl Future<Output = Result<Exchanged, Failed>>,
        others: bool,
    ) -> Result<Exchanged, Failed> {
        let suspicious = self.timeouts.registry_probe / 3;
        tokio::pin!(exchanged);
        loop {
            tokio::select! {
                exchanged = &mut exchanged => return exchanged,
                () = sleep(suspicious) => instance.suspect(),
            }
            if others && instance.is_silent() {
                let why = "the registry gave no answer, and does not answer probes";
                let problem = Problem::registry(StatusCode::GATEWAY_TIMEOUT, why);
                return Err(Failed { problem, how: How::Left });
            }
        }
    }

    /// What a request that is never sent again waits for in vain: an instance that answers nobody although
    /// others may, or a zone whose store is dead.
    fn lost(&self, instance: &Instance, one: &Try<'_>) -> Option<Problem> {
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

    fn note_answer(&self, instance: &Instance, one: &Try<'_>, exchanged: &Exchanged) {
        let (path, status) = (one.head.path.path(), exchanged.answer.status());
        let why = format!("it answered {}", status.as_u16());
        match status {
            _ if unavailable(path, status) => instance.note(Evidence::Gone, &why),
            StatusCode::INTERNAL_SERVER_ERROR if one.repeat != Repeat::Never => {
                instance.note(Evidence::Error, &why);
            }
            StatusCode::PAYLOAD_TOO_LARGE if self.masked(one.head, exchanged) => {
                instance.note(Evidence::Gone, "its nginx answered 413 for a 502 of its own");
                if self.several() {
                    instance.upload_failed(StatusCode::BAD_GATEWAY.as_u16());
                }
            }
            _ if status.is_server_error() => instance.erred(),
            // `/v2/` is answered 401 without a look into Quay's database.
            _ if path == "/v2/" || one.repeat == Repeat::Never => {}
            _ => instance.note(Evidence::Answered, ""),
        }
        if one.repeat == Repeat::Begin && status.is_server_error() && self.several() {
            instance.upload_failed(status.as_u16());
        }
    }

    /// Whether a 413 is Quay's nginx's own 502.
    fn masked(&self, head: &Head<'_>, exchanged: &Exchanged) -> bool {
        let repository = upload_repository(head.path.path());
        let length = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        self.kind == RegistryKind::Quay
            && is_masked_bad_gateway(&Refused {
                repository: repository.as_deref(),
                length: length.or(exchanged.under_way),
                status: exchanged.answer.status(),
                headers: exchanged.answer.headers(),
                layer_max: self.layer_max,
            })
    }
}

/// Whether this answer sends a request on to the next instance.
fn goes_on(repeat: Repeat, path: &str, status: StatusCode) -> bool {
    let error = status == StatusCode::INTERNAL_SERVER_ERROR;
    match repeat {
        Repeat::Never => false,
        // Nothing was decided: Quay answers a login that it refuses, or counts, with 401, 403 or 429.
        Repeat::Login => error,
        Repeat::Read | Repeat::Begin => error || unavailable(path, status),
    }
}

/// Whether what stands before an instance says that nothing is behind it. Such an answer elsewhere
/// may be about something else: `/health/endtoend` says so of a store, and Quay's nginx gives up on a
/// long catalog after 10 s.
fn unavailable(path: &str, status: StatusCode) -> bool {
    let gone = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT]
        .contains(&status);
    gone && path.starts_with("/v2/") && path != "/v2/_catalog"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_that_was_decided_is_never_sent_again() {
        for status in [200, 400, 401, 403, 404, 405, 429, 502, 503, 504] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert!(!goes_on(Repeat::Login, "/v2/auth", status), "{status}");
        }
        assert!(goes_on(Repeat::Login, "/v2/auth", StatusCode::INTERNAL_SERVER_ERROR));
    }

    #[test]
    fn what_reads_or_begins_goes_on_where_nothing_serves() {
        for repeat in [Repeat::Read, Repeat::Begin] {
            for status in [500, 502, 503, 504] {
                let status = StatusCode::from_u16(status).expect("a status");
                assert!(goes_on(repeat, "/v2/a/blobs/uploads/", status), "{status}");
                assert!(!goes_on(Repeat::Never, "/v2/a/blobs/uploads/1", status), "{status}");
            }
            for status in [200, 202, 401, 404, 429] {
                let status = StatusCode::from_u16(status).expect("a status");
                assert!(!goes_on(repeat, "/v2/a/tags/list", status), "{status}");
            }
        }
    }
}
