//! One request at one instance, and what can become of it.

use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, Error};
use tokio::sync::watch;

use super::connect::Connect;
use super::lent::Lent;
use super::stall::{Progress, Unstalled};
use crate::config::Timeouts;
use crate::http::{Body, BodyError, Problem};

/// A request that got no answer.
pub(super) struct Failed {
    pub(super) problem: Problem,
    pub(super) how: How,
}

/// How far it had got.
pub(super) enum How {
    /// There was no connection: nothing was sent, and this is its body.
    Unsent(Body),
    /// The registry broke off before it answered.
    Broke,
    /// It was silent for too long, or the client is at fault.
    Over,
}

impl Failed {
    fn over(problem: Problem) -> Self {
        Self { problem, how: How::Over }
    }
}

/// Sends a request and streams its body; `bound` is for the answer, from the body's last byte.
pub(super) async fn exchange(
    client: &Client<Connect, Body>,
    timeouts: &Timeouts,
    request: Request<()>,
    body: Body,
    bound: Duration,
) -> Result<Response<Incoming>, Failed> {
    let (progress, mut sent) = watch::channel(Progress::Sending(0));
    let (body, returned) = Lent::new(body);
    let body = Body::new(Unstalled::watched(body, timeouts.client_stall, BodyError::Client, progress));
    let request = request.map(|()| body);
    let response = client.request(request);
    tokio::pin!(response);
    loop {
        let state = *sent.borrow_and_update();
        let wait = match state {
            // The registry may read nothing for as long as it may take to answer; a client that
            // sends nothing is ended by the body's own bound.
            Progress::Sending(_) => timeouts.client_stall + bound,
            Progress::Sent => bound,
            Progress::Broken | Progress::Stalled => timeouts.registry_connect,
        };
        tokio::select! {
            answer = &mut response => return answer.map_err(|error| {
                let problem = failed(&error, *sent.borrow());
                let how = match returned.take().filter(|_| error.is_connect()) {
                    Some(body) => How::Unsent(body),
                    None if unfinished(*sent.borrow()).is_some() => How::Over,
                    None => How::Broke,
                };
                Failed { problem, how }
            }),
            Ok(()) = sent.changed() => {}
            () = tokio::time::sleep(wait) => {
                return Err(Failed::over(unfinished(*sent.borrow()).unwrap_or_else(|| {
                    let why = format!("the registry gave no answer within {} s", wait.as_secs());
                    Problem::registry(StatusCode::GATEWAY_TIMEOUT, why)
                })));
            }
        }
    }
}

/// What is wrong with the client's part of a request, if anything.
fn unfinished(progress: Progress) -> Option<Problem> {
    const CODE: &str = "SIZE_INVALID";
    match progress {
        Progress::Broken => {
            let why = "the request body broke off or is malformed";
            Some(Problem::client(StatusCode::BAD_REQUEST, CODE, why, "send it again, whole"))
        }
        Progress::Stalled => {
            let why = "the request body stopped coming";
            Some(Problem::client(StatusCode::REQUEST_TIMEOUT, CODE, why, "send it again, without a pause"))
        }
        Progress::Sending(_) | Progress::Sent => None,
    }
}

fn failed(error: &Error, progress: Progress) -> Problem {
    if let Some(problem) = unfinished(progress) {
        return problem;
    }
    let timed_out = sources(error).any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
    });
    let causes: Vec<String> = sources(error).map(ToString::to_string).collect();
    let (status, what) = match (error.is_connect(), timed_out) {
        (true, true) => (StatusCode::GATEWAY_TIMEOUT, "the registry cannot be reached"),
        (true, false) => (StatusCode::BAD_GATEWAY, "the registry cannot be reached"),
        (false, _) => (StatusCode::BAD_GATEWAY, "the registry broke off"),
    };
    Problem::registry(status, format!("{what}: {}", causes.join(": ")))
}

fn sources(error: &Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |error| error.source())
}
