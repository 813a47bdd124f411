//! The admin API for operators: health, metrics, zones, and the progress of copies. Plain HTTP, by default on
//! loopback. It never shows a secret. [`access`] decides who may read and who may give commands.

mod access;
mod queue;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{ACCEPT, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use replication::LaneStatus;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::access::{Endpoints, Refusal};
use crate::Gateway;
use crate::drains::DrainError;
use crate::metrics::{Exposition, Scrape};
use crate::server::{BoundedIo, Roster};
use gateway_http::Body;
use limits::pool::Identity;
use operations::zones::ZonesReport;
use registry::upstream::InstanceState;

/// Connections of operators and scrapers at once. If there are more, an idle one is closed, or else the
/// oldest, so that a health probe is always answered.
const CONNECTIONS_MAX: usize = 64;

/// The time from a connection or an answer to the headers of the next request.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(30);

/// The timeout for reading the journal.
const JOURNAL_TIMEOUT: Duration = Duration::from_secs(5);

/// The timeout for a scraper that does not read its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum size of a command in bytes.
const COMMAND_MAX: usize = 256 * 1024;

/// The pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown`. From `draining` on, `/readyz` reports that the gateway is not ready, so that no
/// more clients are sent here.
pub(crate) async fn serve(
    gateway: Arc<Gateway>,
    listener: TcpListener,
    draining: CancellationToken,
    shutdown: CancellationToken,
) {
    let roster = Arc::new(Roster::default());
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let _ = backends::keepalive(&stream);
        let seat = roster.enter(Identity::peer(peer.ip(), false));
        roster.keep(&seat, CONNECTIONS_MAX);
        let (gateway, draining, shutdown) = (Arc::clone(&gateway), draining.clone(), shutdown.clone());
        tokio::spawn(async move {
            let own = stream.local_addr().unwrap_or(gateway.settings.admin.listen);
            let ends = Endpoints { client: peer.ip(), own: own.ip() };
            let service = service_fn(|request| {
                let (gateway, ready) = (&gateway, !draining.is_cancelled());
                let busy = seat.activity().begin();
                async move {
                    let answer = answer(gateway, request, ends, ready).await;
                    Ok::<_, Infallible>(busy.until_sent(answer))
                }
            });
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEADERS_TIMEOUT);
            let io = TokioIo::new(BoundedIo::new(stream, WRITE_TIMEOUT));
            tokio::select! {
                // A scraper that closes the connection early is not worth a log line.
                _ = http.serve_connection(io, service) => {}
                () = seat.asked_to_go() => {}
                () = shutdown.cancelled() => {}
            }
        });
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const COMMANDS: &str = "commands are /zones/NAME/drain and /undrain, /queue/add, /retry, /park and /sweep\n";

async fn answer(
    gateway: &Gateway,
    request: Request<Incoming>,
    ends: Endpoints,
    ready: bool,
) -> Response<Body> {
    let (request, body) = request.into_parts();
    if request.method == Method::POST {
        return match access::may_command(&gateway.settings.admin, ends, &request) {
            Ok(()) => command(gateway, request.uri.path(), body).await,
            Err(refusal) => refused(refusal),
        };
    }
    if request.method != Method::GET && request.method != Method::HEAD {
        return respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET, and POST for commands\n".into());
    }
    // Health probes and scrapers may use any host name.
    let open = matches!(request.uri.path(), "/healthz" | "/readyz" | "/metrics");
    if !open && let Err(refusal) = access::may_read(&gateway.settings.admin, ends, &request) {
        return refused(refusal);
    }
    match request.uri.path() {
        "/readyz" if !ready => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n".into()),
        // The gateway is still ready, because pulls and pushes into the registry's own store continue.
        "/readyz" if gateway.metrics.journal_refuses() => respond(
            StatusCode::OK,
            TEXT,
            "ok, but the journal takes no jobs: pushes are not copied to the other zones\n".into(),
        ),
        "/healthz" | "/readyz" => respond(StatusCode::OK, TEXT, "ok\n".into()),
        "/metrics" => {
            let accept = request.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
            let form = Exposition::wanted(accept);
            respond(StatusCode::OK, form.content_type(), form.of(metrics(gateway).await))
        }
        "/status" => respond(StatusCode::OK, JSON, status(gateway).await),
        "/zones" => respond(StatusCode::OK, JSON, zones(gateway).await),
        "/queue" => respond(StatusCode::OK, JSON, queue::queues(gateway).await),
        "/queue/sweep" => respond(StatusCode::OK, JSON, queue::sweep(gateway)),
        "/queue/jobs" => queue_answer(queue::jobs(gateway, request.uri.query().unwrap_or_default()).await),
        path if path.starts_with("/queue/jobs/") => {
            queue_answer(queue::jobs_of(gateway, path.trim_start_matches("/queue/jobs/")).await)
        }
        _ => respond(
            StatusCode::NOT_FOUND,
            TEXT,
            "try /healthz, /readyz, /metrics, /status, /zones or /queue\n".into(),
        ),
    }
}

/// Answers a command.
async fn command(gateway: &Gateway, path: &str, body: Incoming) -> Response<Body> {
    if let Some(command) = path.strip_prefix("/queue/") {
        return queue_command(gateway, command, body).await;
    }
    let parts = path.strip_prefix("/zones/").and_then(|rest| rest.rsplit_once('/'));
    match parts {
        Some((zone, "drain")) => drain(gateway, zone, true).await,
        Some((zone, "undrain")) => drain(gateway, zone, false).await,
        _ => respond(StatusCode::NOT_FOUND, TEXT, COMMANDS.into()),
    }
}

fn refused(refusal: Refusal) -> Response<Body> {
    let mut response = respond(refusal.status(), TEXT, format!("{refusal}\n"));
    if refusal.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// `POST /queue/…`
async fn queue_command(gateway: &Gateway, command: &str, body: Incoming) -> Response<Body> {
    let body = match tokio::time::timeout(HEADERS_TIMEOUT, Limited::new(body, COMMAND_MAX).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => {
            return respond(
                StatusCode::PAYLOAD_TOO_LARGE,
                TEXT,
                format!("a command has at most {COMMAND_MAX} bytes\n"),
            );
        }
        Err(_) => {
            return respond(
                StatusCode::REQUEST_TIMEOUT,
                TEXT,
                "the command was not received in time\n".into(),
            );
        }
    };
    let done = match command {
        "add" => queue::add(gateway, &body).await,
        "retry" => queue::retry(gateway, &body).await,
        "park" => queue::park(gateway, &body).await,
        "sweep" => queue::begin_sweep(gateway),
        _ => return respond(StatusCode::NOT_FOUND, TEXT, COMMANDS.into()),
    };
    queue_answer(done)
}

/// The answer to a request about the queue.
fn queue_answer(done: Result<String, queue::Refusal>) -> Response<Body> {
    match done {
        Ok(json) => respond(StatusCode::OK, JSON, json),
        Err((status, why)) => respond(status, TEXT, format!("{why}\n")),
    }
}

/// `POST /zones/NAME/drain` and `…/undrain`.
async fn drain(gateway: &Gateway, zone: &str, drain: bool) -> Response<Body> {
    let zone = percent_decode_str(zone).decode_utf8_lossy().into_owned();
    let drains = Arc::clone(&gateway.drains);
    // A drain waits for the disk.
    let done =
        tokio::task::spawn_blocking(move || if drain { drains.drain(&zone) } else { drains.undrain(&zone) });
    match done.await {
        Ok(Ok(())) => respond(StatusCode::OK, TEXT, "done\n".into()),
        Ok(Err(error)) => {
            let status = match error {
                DrainError::Unknown { .. } => StatusCode::NOT_FOUND,
                DrainError::Last(_)
                | DrainError::ByConfiguration(_)
                | DrainError::StillByConfiguration(_) => StatusCode::CONFLICT,
                DrainError::NotWritten { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            };
            respond(status, TEXT, format!("{error}\n"))
        }
        Err(error) => {
            respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("the command failed: {error}\n"))
        }
    }
}

async fn zones(gateway: &Gateway) -> String {
    let now = SystemTime::now();
    let lanes = lanes(gateway).await;
    let lag = |lane: &LaneStatus| lane.oldest.map(|since| now.duration_since(since).unwrap_or_default());
    let drained = |zone: &str| gateway.drains.is_drained(zone);
    let report = ZonesReport::new(&gateway.router.snapshot(), lanes.as_deref(), lag, drained);
    // Numbers, strings and lists of them can always be written as JSON, except infinities. Times are never
    // infinite.
    serde_json::to_string_pretty(&report).unwrap_or_default()
}

async fn metrics(gateway: &Gateway) -> String {
    let cache = gateway.cache.status();
    gateway.metrics.render(Scrape {
        token_keys: gateway.tokens.as_ref().map(|tokens| tokens.keys()),
        cache: [
            ("cache_blobs", "Blobs in the cache", cache.blobs),
            ("cache_bytes", "Bytes of the cache in use", cache.bytes),
            ("cache_capacity_bytes", "Bytes the cache may use", cache.capacity),
            ("cache_fills", "Blobs on their way into the cache", cache.fills as u64),
        ],
        certificates: gateway.server_tls.status(),
        memory: gateway.memory.status(),
        pools: gateway.pools(),
        instances: gateway.upstream.states().collect(),
        unserved: gateway.upstream.unserved(),
        zones: gateway.router.snapshot(),
        // The journal is sampled at intervals, and not read at each scrape.
        copies: gateway.sampler.latest().await,
    })
}

async fn status(gateway: &Gateway) -> String {
    let cache = gateway.cache.status();
    let now = SystemTime::now();
    let lanes = lanes(gateway).await;
    let lanes: Option<Vec<_>> = lanes.map(|lanes| lanes.iter().map(|lane| lane_status(lane, now)).collect());
    let zones: Vec<&str> = gateway.router.zones().map(|zone| &*zone.name).collect();
    let unusable: serde_json::Map<_, _> = gateway
        .router
        .zones()
        .filter_map(|zone| Some((zone.name.to_string(), zone.unusable.as_deref()?.into())))
        .collect();
    let instances: serde_json::Map<_, _> = gateway
        .upstream
        .states()
        .map(|instance| {
            let InstanceState { name, zone, state, why, uploads, .. } = instance;
            let shown = serde_json::json!({"zone": &*zone, "state": state, "why": why, "uploads": uploads});
            (name.to_string(), shown)
        })
        .collect();
    let targets: Vec<&str> = gateway.targets.iter().map(|zone| &**zone).collect();
    let status = serde_json::json!({
        "zones": zones,
        "unusable": unusable,
        "targets": targets,
        "registry": instances,
        "cache": {"blobs": cache.blobs, "bytes": cache.bytes, "capacity": cache.capacity, "fills": cache.fills},
        "copies": lanes,
    });
    format!("{status:#}\n")
}

/// The status of the lanes. `None` if the journal cannot be read; the log says why.
async fn lanes(gateway: &Gateway) -> Option<Vec<LaneStatus>> {
    match tokio::time::timeout(JOURNAL_TIMEOUT, gateway.fanout.status()).await {
        Ok(status) => status.inspect_err(|error| tracing::error!(%error, "the journal cannot be read")).ok(),
        Err(_) => {
            tracing::error!("the journal cannot be read in time");
            None
        }
    }
}

fn lane_status(lane: &LaneStatus, now: SystemTime) -> serde_json::Value {
    let age = lane.oldest.map(|since| now.duration_since(since).unwrap_or_default().as_secs());
    serde_json::json!({
        "zone": &*lane.zone,
        "configured": lane.configured,
        "unusable": lane.unusable.as_deref(),
        "waiting": lane.waiting,
        "waiting_bytes": lane.bytes,
        "oldest_seconds": age,
        "active": lane.active,
        "failing": lane.failing,
        "attempts": lane.attempts,
        "last_error": lane.last_error,
        "parked": lane.parked,
        "parked_bytes": lane.parked_bytes,
        "copied": lane.copied,
        "copied_bytes": lane.copied_bytes,
        "replaced": lane.replaced,
        "already_there": lane.already_there,
        "withdrawn": lane.withdrawn,
        "failures": lane.failures,
    })
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
