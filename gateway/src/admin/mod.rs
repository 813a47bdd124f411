//! The admin API for operators: health, metrics, zones, and the progress of copies. By default plain HTTP on
//! loopback. It never shows a secret. [`access`] decides who may read and who may give commands. [`page`] is the web
//! page, and [`live`] is its stream.

mod access;
mod answer;
mod body;
mod cache;
mod cache_blobs;
mod cache_contents;
mod cache_import;
mod certificates;
mod config_diff;
mod endpoints;
mod live;
mod openapi;
mod page;
mod probes;
mod problem;
mod queue;
mod routes;
mod status;
mod traffic;
mod zones;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use config::AdminSettings;
use gateway_http::Body;
use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use limits::pool::Identity;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use self::access::Endpoints;
pub(crate) use self::cache_blobs::LatestCensus;
pub(crate) use self::live::{EndedRequest, Live, WatchedRequest, run as watch};
use self::problem::Problem;
use self::routes::{Access, Found, Route};
use crate::Gateway;
use crate::gateway::Current;
use crate::server::{BoundedIo, Roster};

/// Connections of operators and scrapers at once. If there are more, an idle one is closed, or else the
/// oldest, so that a health probe is always answered.
const CONNECTIONS_MAX: usize = 64;

/// The time from a connection or an answer to the headers of the next request.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(30);

/// The time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The timeout for a scraper that does not read its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown`. From `draining` on, `/readyz` reports that the gateway is not ready, so that no
/// more clients are sent here.
pub(crate) async fn serve(
    current: Arc<Current>,
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
        let (current, draining, shutdown) = (Arc::clone(&current), draining.clone(), shutdown.clone());
        tokio::spawn(async move {
            let own = stream.local_addr().unwrap_or(current.load().settings.admin.listen);
            let ends = Endpoints { client: peer.ip(), own: own.ip() };
            let service = service_fn(|request| {
                let (gateway, is_draining) = (current.load(), draining.is_cancelled());
                let busy = seat.activity().begin();
                async move {
                    let answer = answer(&gateway, request, ends, is_draining).await;
                    Ok::<_, Infallible>(busy.until_sent(answer))
                }
            });
            // The certificates of this moment.
            let gateway = current.load();
            let tls = gateway.settings.admin.tls.then(|| gateway.server_tls.admin_config());
            drop(gateway);
            let stream = BoundedIo::new(stream, WRITE_TIMEOUT);
            tokio::select! {
                () = serve_stream(stream, tls, service) => {}
                () = seat.asked_to_go() => {}
                () = shutdown.cancelled() => {}
            }
        });
    }
}

/// Serves one connection to its end, over TLS if there is a configuration for it.
async fn serve_stream<S>(stream: BoundedIo<TcpStream>, tls: Option<Arc<ServerConfig>>, service: S)
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS_TIMEOUT);
    let Some(tls) = tls else {
        // A scraper that closes the connection early is not worth a log line.
        let _ = http.serve_connection(TokioIo::new(stream), service).await;
        return;
    };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(tls).accept(stream)).await {
        Ok(Ok(stream)) => {
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "the TLS handshake of an operator failed"),
        Err(_) => tracing::debug!("no TLS handshake of an operator in time"),
    }
}

async fn answer(
    gateway: &Gateway,
    request: Request<Incoming>,
    ends: Endpoints,
    is_draining: bool,
) -> Response<Body> {
    let (request, body) = request.into_parts();
    let settings = &gateway.settings.admin;
    if let Some(file) = page::answer(&request) {
        let shown = access::may_read(settings, ends, &request).map_err(Problem::from);
        return shown.map_or_else(Problem::response, |()| file);
    }
    let done = match allowed(settings, ends, &request) {
        Ok((route, parameter)) => {
            endpoints::answer(gateway, route, parameter, &request, body, is_draining).await
        }
        Err(problem) => Err(problem),
    };
    done.unwrap_or_else(Problem::response)
}

/// Finds the route of a request and its parameter, if the client may use it.
fn allowed(
    settings: &AdminSettings,
    ends: Endpoints,
    request: &Parts,
) -> Result<(&'static Route, String), Problem> {
    let found = routes::find(request.uri.path());
    // Whoever may not read learns neither paths nor methods.
    if !found.as_ref().is_some_and(Found::is_open) {
        access::may_read(settings, ends, request)?;
    }
    let found = found.ok_or_else(Problem::unknown_path)?;
    let route = found.route(&request.method).ok_or_else(|| Problem::method(found.allow()))?;
    if route.access == Access::Command {
        access::may_command(settings, ends, request)?;
    }
    Ok((route, found.parameter))
}
