//! Spans that are exported to a collector: a stand-in that takes OTLP over HTTP.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use harness::certs::Authority;
use harness::client::Client;
use harness::gateway::Gateway;
use harness::image::{Image, Spec};
use harness::port::Port;
use harness::record::Record;
use harness::server::Server;
use harness::site::{LOGIN, Site, USER};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use parking_lot::Mutex;
use prost::Message as _;
use serde_json::{Value, json};

const REPOSITORY: &str = "admin/one";
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// The timeout for everything that the tests wait for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A collector that remembers what it got.
struct Collector {
    server: Server,
    endpoint: String,
    record: Arc<Record>,
    spans: Arc<Mutex<Vec<Span>>>,
    /// The attributes of the resource in the latest export.
    resource: Arc<Mutex<Vec<(String, String)>>>,
}

impl Collector {
    fn start(tls: Option<Arc<rustls::ServerConfig>>) -> Result<Self> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (record, spans) = (Arc::new(Record::default()), Arc::new(Mutex::new(Vec::new())));
        let resource = Arc::new(Mutex::new(Vec::new()));
        let (seen, taken, of) = (Arc::clone(&record), Arc::clone(&spans), Arc::clone(&resource));
        let service = service_fn(move |request: Request<Incoming>| {
            seen.note(&request);
            let (taken, of) = (Arc::clone(&taken), Arc::clone(&of));
            async move {
                let body =
                    request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                let status = match ExportTraceServiceRequest::decode(body) {
                    Ok(export) => {
                        for traces in export.resource_spans {
                            *of.lock() = attributes(&traces.resource.unwrap_or_default().attributes);
                            taken.lock().extend(traces.scope_spans.into_iter().flat_map(|scope| scope.spans));
                        }
                        StatusCode::OK
                    }
                    Err(_) => StatusCode::BAD_REQUEST,
                };
                let mut answer = Response::new(Full::new(Bytes::new()));
                *answer.status_mut() = status;
                Ok::<_, Infallible>(answer)
            }
        });
        let server = Server::start(Port::free()?, tls, service)?;
        let endpoint = format!("{scheme}://{}", server.address());
        Ok(Self { server, endpoint, record, spans, resource })
    }

    /// Waits for a span that fits.
    async fn span(&self, what: &str, fits: impl Fn(&Span) -> bool) -> Result<Span> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(span) = self.spans.lock().iter().find(|span| fits(span)) {
                return Ok(span.clone());
            }
            ensure!(Instant::now() < deadline, "no {what} in {:#?}", self.spans.lock());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn attributes(given: &[opentelemetry_proto::tonic::common::v1::KeyValue]) -> Vec<(String, String)> {
    let text = |value: &Any| match value {
        Any::StringValue(text) => text.clone(),
        Any::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let value =
        |of: &opentelemetry_proto::tonic::common::v1::KeyValue| of.value.as_ref()?.value.as_ref().map(text);
    given.iter().map(|of| (of.key.clone(), value(of).unwrap_or_default())).collect()
}

fn attribute(span: &Span, name: &str) -> Option<String> {
    attributes(&span.attributes).into_iter().find_map(|(key, value)| (key == name).then_some(value))
}

fn is_request(span: &Span, path: &str) -> bool {
    span.name == "request" && attribute(span, "url.path").as_deref() == Some(path)
}

/// A gateway that exports to a collector, and an image that is not in its cache.
struct Fixture {
    site: Site,
    collector: Collector,
    gateway: Gateway,
    image: Image,
}

impl Fixture {
    async fn new(otlp: Value) -> Result<Self> {
        let (site, collector) = (Site::start()?, Collector::start(None)?);
        let mut config = json!({"tracing": {"otlp": {"endpoint": collector.endpoint}}});
        harness::gateway::overlay(&mut config, &json!({"tracing": {"otlp": otlp}}));
        let files = [("headers", "Authorization: Bearer of-the-collector\n")];
        let gateway = site.gateway_with(&config, &files).await?;
        let image = Spec::layers(1, &[50_000]).build()?;
        Client::new(&site.quay.url(), &[], LOGIN)?.push(REPOSITORY, "v1", &image).await?;
        site.quay.record().clear();
        Ok(Self { site, collector, gateway, image })
    }

    fn layer(&self) -> String {
        format!("/v2/{REPOSITORY}/blobs/{}", self.image.layers[0].digest)
    }

    /// Sends a request with a token. Returns the headers of its answer.
    async fn ask(&self, path: &str, headers: &[(&str, String)]) -> Result<HeaderMap> {
        let token = self.site.quay.token(USER, REPOSITORY, &["pull"], json!({}))?;
        let mut request = self.gateway.client(None)?.raw(Method::GET, path)?.bearer_auth(token);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let answer = request.send().await?;
        let headers = answer.headers().clone();
        answer.bytes().await?;
        Ok(headers)
    }

    /// The `traceparent` of the requests of clients that the registry got.
    fn at_registry(&self) -> Vec<String> {
        let all = self.site.quay.record().all();
        let all = all.iter().filter(|seen| !seen.is_probe() && seen.target.starts_with("/v2/"));
        all.map(|seen| seen.header("traceparent").to_owned()).collect()
    }
}

fn traceparent(flags: &str) -> (&'static str, String) {
    ("traceparent", format!("00-{TRACE_ID}-{PARENT}-{flags}"))
}

#[tokio::test]
async fn a_request_and_its_fill_are_spans_of_the_clients_trace() -> Result<()> {
    let fixture = Fixture::new(json!({"headers_file": "headers", "sample": 0})).await?;
    fixture.ask(&fixture.layer(), &[traceparent("01"), ("x-request-id", "my-7".to_owned())]).await?;
    let request = fixture.collector.span("request", |span| is_request(span, &fixture.layer())).await?;
    let fill = fixture.collector.span("fill", |span| span.name == "fill").await?;
    assert_eq!(hex::encode(&request.trace_id), TRACE_ID);
    assert_eq!(hex::encode(&request.parent_span_id), PARENT);
    assert_eq!((&fill.trace_id, &fill.parent_span_id), (&request.trace_id, &request.span_id));
    assert_eq!(request.kind(), SpanKind::Server);
    for (name, expected) in [
        ("request_id", "my-7"),
        ("repository", REPOSITORY),
        ("zone", "zone-a"),
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(attribute(&request, name).as_deref(), Some(expected), "{name} of {request:#?}");
    }
    ensure!(request.start_time_unix_nano <= fill.start_time_unix_nano, "the fill began first");
    // Nothing but the spans of requests, fills and copies is exported.
    let others: Vec<_> = fixture.collector.spans.lock().iter().map(|span| span.name.clone()).collect();
    ensure!(others.iter().all(|name| name == "request" || name == "fill"), "{others:?}");
    // What the gateway sends belongs to its own span.
    let ours = format!("00-{TRACE_ID}-{}-01", hex::encode(&request.span_id));
    let at_registry = fixture.at_registry();
    ensure!(!at_registry.is_empty() && at_registry.iter().all(|value| *value == ours), "{at_registry:?}");
    let at_store = fixture.site.zone("zone-a").proxy().record().reads(&fixture.image.layers[0].digest.hex());
    for seen in &at_store {
        assert_eq!(seen.header("traceparent"), ours);
        let signature = seen.header("authorization");
        ensure!(signature.contains("SignedHeaders=") && !signature.contains("traceparent"), "{signature}");
    }
    ensure!(!at_store.is_empty(), "no store was asked");
    let exports = fixture.collector.record.all();
    let export = exports.first().context("an export")?;
    assert_eq!((export.method.clone(), &*export.target), (Method::POST, "/v1/traces"));
    assert_eq!(export.header("content-type"), "application/x-protobuf");
    assert_eq!(export.header("authorization"), "Bearer of-the-collector");
    let resource = fixture.collector.resource.lock().clone();
    ensure!(resource.contains(&("service.name".to_owned(), "quay-gateway".to_owned())), "{resource:?}");
    Ok(())
}

#[tokio::test]
async fn a_trace_that_begins_here_has_the_id_of_its_request() -> Result<()> {
    let fixture = Fixture::new(json!({})).await?;
    let answer = fixture.ask("/v2/", &[]).await?;
    let span = fixture.collector.span("request", |span| is_request(span, "/v2/")).await?;
    assert_eq!(answer["x-request-id"], hex::encode(&span.trace_id));
    assert!(span.parent_span_id.is_empty());
    let ours = format!("00-{}-{}-01", hex::encode(&span.trace_id), hex::encode(&span.span_id));
    assert_eq!(fixture.at_registry(), [ours]);
    // An id that cannot be one of a trace stays the id of the request.
    let answer = fixture.ask("/v2/", &[("x-request-id", "my-8".to_owned())]).await?;
    assert_eq!(answer["x-request-id"], "my-8");
    let id = Some("my-8".to_owned());
    fixture.collector.span("request my-8", |span| attribute(span, "request_id") == id).await?;
    Ok(())
}

#[tokio::test]
async fn an_answer_5xx_and_a_copy_are_spans_too() -> Result<()> {
    let fixture = Fixture::new(json!({})).await?;
    let image = Spec::layers(2, &[1000]).build()?;
    fixture.gateway.client(LOGIN)?.push(REPOSITORY, "v2", &image).await?;
    let copy = fixture.collector.span("copy", |span| span.name == "copy").await?;
    assert_eq!(attribute(&copy, "request_id"), Some(hex::encode(&copy.trace_id)));
    fixture.site.quay.down().await;
    fixture.ask("/v2/gone/", &[]).await?;
    let span = fixture.collector.span("request", |span| is_request(span, "/v2/gone/")).await?;
    assert_eq!(span.status.as_ref().context("a status")?.code(), SpanStatus::Error);
    // The log has the span as well.
    let id = attribute(&span, "request_id").context("an id")?;
    fixture
        .gateway
        .logged(&format!("request{{request_id=\"{id}\"}}: gateway::forward: not forwarded"))
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_trace_that_is_not_sampled_goes_on_but_is_not_exported() -> Result<()> {
    let fixture = Fixture::new(json!({"sample": 0})).await?;
    fixture.ask("/v2/", &[]).await?;
    fixture.ask("/v2/", &[traceparent("00")]).await?;
    let at_registry = fixture.at_registry();
    ensure!(
        at_registry.len() == 2 && at_registry.iter().all(|value| value.ends_with("-00")),
        "{at_registry:?}"
    );
    ensure!(at_registry[1].starts_with(&format!("00-{TRACE_ID}-")), "{at_registry:?}");
    // The client decided that this one is.
    fixture.ask("/v2/last/", &[traceparent("01")]).await?;
    fixture.collector.span("request", |span| is_request(span, "/v2/last/")).await?;
    assert_eq!(fixture.collector.spans.lock().len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_collector_that_is_away_stops_nobody() -> Result<()> {
    let mut fixture = Fixture::new(json!({})).await?;
    fixture.collector.server.close().await;
    let asked = Instant::now();
    for _ in 0..20 {
        fixture.ask(&fixture.layer(), &[]).await?;
    }
    let counted = |metrics: &str, name: &str| -> u64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("quay_gateway_{name} ")));
        line.and_then(|value| value.parse().ok()).unwrap_or_default()
    };
    while counted(&fixture.gateway.metrics().await?, "trace_spans_lost_total") == 0 {
        ensure!(asked.elapsed() < PATIENCE, "{}", fixture.gateway.metrics().await?);
        fixture.ask("/v2/", &[]).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    fixture.gateway.logged("the collector of tracing.otlp does not take spans").await?;
    fixture.gateway.logged("Connection refused").await?;
    fixture.collector.server.open().await;
    fixture.ask("/v2/back/", &[]).await?;
    fixture.collector.span("request", |span| is_request(span, "/v2/back/")).await?;
    fixture.gateway.logged("the collector takes spans again").await?;
    ensure!(counted(&fixture.gateway.metrics().await?, "trace_spans_exported_total") > 0);
    assert_eq!(fixture.gateway.log().matches("does not take spans").count(), 1);
    // What waits is exported at the end.
    fixture.ask("/v2/end/", &[]).await?;
    ensure!(fixture.gateway.terminate().await?.success());
    fixture.collector.span("request", |span| is_request(span, "/v2/end/")).await?;
    // The exporter was told to stop while it waited for further spans.
    ensure!(!fixture.gateway.log().contains("panicked"), "{}", fixture.gateway.log());
    Ok(())
}

#[tokio::test]
async fn a_collector_with_tls_needs_a_root_of_the_configuration() -> Result<()> {
    let (site, authority) = (Site::start()?, Authority::generate()?);
    let tls = authority.certificate(&["127.0.0.1"])?.server_config()?;
    let collector = Collector::start(Some(tls))?;
    let otlp = json!({"tracing": {"otlp": {"endpoint": collector.endpoint}}});
    let stranger = site.gateway(&otlp).await?;
    stranger.client(None)?.raw(Method::GET, "/v2/stranger/")?.send().await?;
    let mut config = otlp;
    config["ca"] = json!("collector.pem");
    let gateway = site.gateway_with(&config, &[("collector.pem", &authority.pem())]).await?;
    gateway.client(None)?.raw(Method::GET, "/v2/trusted/")?.send().await?;
    collector.span("request", |span| is_request(span, "/v2/trusted/")).await?;
    stranger.logged("the collector of tracing.otlp does not take spans").await?;
    stranger.logged("invalid peer certificate").await?;
    ensure!(!collector.spans.lock().iter().any(|span| is_request(span, "/v2/stranger/")));
    Ok(())
}
