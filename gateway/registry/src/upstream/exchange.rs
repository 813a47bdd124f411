//! Sends one request to one instance, and describes the possible outcomes.

use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, Error};
use tokio::time::{Instant, sleep, sleep_until};

use super::connect::Connect;
use super::progress::{Progress, Reporting};
use super::reclaimable::{Reclaimable, Unfinished};
use config::Timeouts;
use gateway_http::{Body, BodyError, Problem};

/// How often it is checked whether a request waits for something that is out of use.
const CHECK_EVERY: Duration = Duration::from_millis(250);

/// Names what the request waits for and is out of use, if anything is.
pub(super) type OutOfUse<'a> = &'a (dyn Fn() -> Option<Problem> + Sync);

/// An answer.
pub(super) struct Exchanged {
    pub(super) answer: Response<Incoming>,
    /// Must be kept until the answer to an unfinished request was read.
    pub(super) unfinished: Option<Unfinished>,
    /// The number of bytes of the request that were sent by then, if the request was not complete.
    pub(super) under_way: Option<u64>,
}

/// A request that got no answer.
pub(super) struct Failed {
    pub(super) problem: Problem,
    pub(super) ending: Ending,
}

/// How a request without an answer ended.
pub(super) enum Ending {
    /// There was no connection. Nothing was sent, and this is the request's body.
    NotSent(Body),
    /// The registry closed the connection before it answered.
    BrokeOff,
    /// The instance does not answer probes either.
    Unresponsive,
    /// The request waited too long for something that is out of use.
    GivenUp,
    /// The time for an answer is over, or the client is at fault.
    TimedOut,
}

impl Failed {
    fn over(problem: Problem) -> Self {
        Self { problem, ending: Ending::TimedOut }
    }
}

/// Sends a request and streams its body. The answer must come within `bound` of the body's last byte. If no
/// byte moves for `registry_lost`, and `lost` names something out of use during all of that time, the request
/// is given up.
///
/// If the registry answers before the end of the body, [`Unfinished`] must be kept until the answer was read;
/// then the connection is closed. If the registry refuses the request, the rest of the body is not sent.
pub(super) async fn exchange(
    client: &Client<Connect, Body>,
    timeouts: &Timeouts,
    request: Request<()>,
    body: Body,
    bound: Duration,
    lost: OutOfUse<'_>,
) -> Result<Exchanged, Failed> {
    let (body, reclaim) = Reclaimable::new(body);
    let (body, mut sent) = Reporting::new(body);
    let request = request.map(|()| Body::new(body));
    let response = client.request(request);
    tokio::pin!(response);
    let mut moved = Instant::now();
    let mut lost_since = None;
    loop {
        let wait = match *sent.borrow_and_update() {
            // The registry may stop reading for as long as it may take to answer. If the client sends
            // nothing, the body's own timeout ends it.
            Progress::Sending(_) => timeouts.client_stall + bound,
            Progress::Sent => bound,
            Progress::Broken | Progress::Slow(_) => timeouts.registry_connect,
        };
        tokio::select! {
            answer = &mut response => return match answer {
                Ok(answer) => {
                    let refused = answer.status().is_client_error() || answer.status().is_server_error();
                    let unfinished = reclaim.unfinished();
                    if let Some(unfinished) = unfinished.as_ref().filter(|_| refused) {
                        unfinished.take_back();
                    }
                    Ok(Exchanged { answer, unfinished, under_way: under_way(*sent.borrow()) })
                }
                Err(error) => {
                    let mut problem = failed(&error, *sent.borrow());
                    let ending = match reclaim.returned().filter(|_| error.is_connect()) {
                        Some(body) => Ending::NotSent(body),
                        None if unfinished(*sent.borrow()).is_some() => Ending::TimedOut,
                        None => Ending::BrokeOff,
                    };
                    problem.unsent = matches!(ending, Ending::NotSent(_));
                    Err(Failed { problem, ending })
                }
            },
            Ok(()) = sent.changed() => (moved, lost_since) = (Instant::now(), None),
            () = sleep_until(moved + wait) => {
                return Err(Failed::over(unfinished(*sent.borrow()).unwrap_or_else(|| {
                    let why = format!("the registry gave no answer within {} s", wait.as_secs());
                    Problem::registry(StatusCode::GATEWAY_TIMEOUT, why)
                })));
            }
            () = sleep(CHECK_EVERY) => match lost() {
                None => lost_since = None,
                Some(problem) => {
                    let since: Instant = *lost_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= timeouts.registry_lost {
                        return Err(Failed { problem, ending: Ending::GivenUp });
                    }
                }
            },
        }
    }
}

/// The number of bytes that were sent, if the body is not complete.
fn under_way(progress: Progress) -> Option<u64> {
    match progress {
        Progress::Sending(bytes) => Some(bytes),
        Progress::Sent | Progress::Broken | Progress::Slow(_) => None,
    }
}

/// What is wrong with the client's body, if anything is.
fn unfinished(progress: Progress) -> Option<Problem> {
    match progress {
        Progress::Broken => Some(broken()),
        Progress::Slow(why) => Some(slow(why)),
        Progress::Sending(_) | Progress::Sent => None,
    }
}

const CODE: &str = "SIZE_INVALID";

fn broken() -> Problem {
    let why = "the request body broke off or is malformed";
    Problem::client(StatusCode::BAD_REQUEST, CODE, why, "send it again, whole")
}

fn slow(why: &'static str) -> Problem {
    let why = format!("the request body stalled or is too slow: {why}");
    Problem::client(StatusCode::REQUEST_TIMEOUT, CODE, why, "send it again, without pauses")
}

/// The error for a body whose first piece did not arrive.
pub(super) fn not_begun(error: &BodyError) -> Problem {
    let problem = match error {
        BodyError::Slow(why) => slow(why),
        _ => broken(),
    };
    Problem { unsent: true, ..problem }
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::{StreamExt as _, stream};
    use http_body_util::BodyExt as _;
    use hyper_util::rt::TokioExecutor;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Reads from a connection until `text` was received.
    async fn until(stream: &mut TcpStream, text: &str) {
        let mut read = Vec::new();
        while !read.windows(text.len()).any(|part| part == text.as_bytes()) {
            assert_ne!(stream.read_buf(&mut read).await.expect("reads"), 0, "it ended before {text}");
        }
    }

    #[test]
    fn without_a_first_piece_nothing_was_sent() {
        assert!(not_begun(&BodyError::Slow("stalled")).unsent);
        assert!(!broken().unsent && !slow("stalled").unsent);
    }

    /// A registry answers before the end of the request. The whole answer is read, and then the connection is
    /// closed, whatever the client still sends.
    #[tokio::test]
    async fn the_connection_ends_after_an_early_answer() {
        for status in ["200 OK", "201 Created", "302 Found", "403 Forbidden", "500 Internal Server Error"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let port = listener.local_addr().expect("an address").port();
            let (host, timeout) = ("127.0.0.1".into(), Duration::from_secs(60));
            let connect = Connect { host, port, tls: None, proxy: None, timeout };
            let client = Client::builder(TokioExecutor::new()).build(connect);
            let body = stream::iter([Ok(Bytes::from_static(b"first"))]).chain(stream::pending());
            let request = Request::put("http://registry.test/v1/_ping").body(()).expect("a request");
            let registry = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                until(&mut stream, "first").await;
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 4\r\n\r\nsaid");
                stream.write_all(answer.as_bytes()).await.expect("writes");
                stream.read_to_end(&mut Vec::new()).await
            });
            let (timeouts, bound) = (Timeouts::default(), Duration::from_secs(60));
            let exchanged = exchange(&client, &timeouts, request, Body::stream(body), bound, &|| None).await;
            let Ok(Exchanged { answer, unfinished, .. }) = exchanged else { panic!("no answer: {status}") };
            assert_eq!(answer.into_body().collect().await.expect("whole").to_bytes(), "said", "{status}");
            assert!(!registry.is_finished(), "{status}");
            drop(unfinished);
            let closed = tokio::time::timeout(Duration::from_secs(60), registry).await;
            assert!(closed.is_ok(), "{status}: the request's body is still waited for");
        }
    }
}
