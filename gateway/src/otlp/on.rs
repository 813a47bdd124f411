//! A build with the feature `otlp`: spans are exported if `tracing.otlp` is set.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use backends::{RequestId, TRACE_PARENT};
use config::Settings;
use http::{HeaderMap, HeaderValue, Method};
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    IdGenerator, RandomIdGenerator, Sampler, SdkTracer, SdkTracerProvider, SpanData, SpanExporter as _,
    SpanProcessor,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::Span;
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt as _};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Layer;

use super::COUNTS;
use super::export::{self, Export};

/// The spans that are exported, by their targets. `tracing` spans of libraries are not.
const SPANS: [&str; 3] = [REQUEST, "fill", "copy"];
const REQUEST: &str = "request";

/// The most spans that wait for the collector. Each takes about 1 KiB.
const WAITING: usize = 4096;

/// The digits of a trace id.
const TRACE_ID: usize = 32;

/// How long the last spans may take at the end.
const FINISH: Duration = Duration::from_secs(2);

/// Set once, before the first request.
static EXPORTS: AtomicBool = AtomicBool::new(false);

/// The export of spans to the collector of `tracing.otlp`.
#[derive(Debug)]
pub struct Traces {
    tracer: SdkTracer,
    /// Taken when the export starts.
    export: Option<Export>,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<()>>,
}

impl Traces {
    /// Prepares the export, if `tracing.otlp` asks for one.
    ///
    /// # Errors
    /// A root of `ca` cannot be used, or the client for the collector cannot be built.
    pub fn new(settings: &Settings) -> anyhow::Result<Option<Self>> {
        let Some(otlp) = &settings.otlp else { return Ok(None) };
        certificates::install_provider();
        let tls = certificates::client(&settings.ca_files)?;
        let reason = export::Reason::default();
        let mut exporter =
            export::exporter(otlp, &tls, &reason).context("tracing.otlp: the client cannot be built")?;
        let resource = Resource::builder()
            .with_service_name("quay-gateway")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        exporter.set_resource(&resource);
        let (sender, spans) = mpsc::channel(WAITING);
        let (stop, stopped) = oneshot::channel();
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(otlp.sample))))
            .with_id_generator(RequestIds::default())
            .with_resource(resource)
            .with_span_processor(Queue(sender))
            .build();
        let tracer = provider.tracer("quay-gateway");
        let export = Export { spans, exporter, reason, stopped };
        EXPORTS.store(true, Ordering::Relaxed);
        Ok(Some(Self { tracer, export: Some(export), stop: Some(stop), running: None }))
    }

    /// The layer that takes spans.
    #[must_use]
    pub fn layer(&self) -> Box<dyn Layer<Registry> + Send + Sync> {
        let layer = OpenTelemetryLayer::new(self.tracer.clone())
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            // Nothing here reads the context of the thread.
            .with_context_activation(false);
        layer.with_filter(filter_fn(|of| of.is_span() && SPANS.contains(&of.target()))).boxed()
    }

    /// Starts the export. Needs a Tokio runtime.
    pub fn start(&mut self) {
        self.running = self.export.take().map(|export| tokio::spawn(export.run()));
    }

    /// Exports the spans that wait, within 2 s, and ends.
    pub async fn finish(mut self) {
        drop(self.stop.take());
        if let Some(running) = self.running.take() {
            let _ = tokio::time::timeout(FINISH, running).await;
        }
    }
}

/// Takes ended spans. Whoever ends a span never waits.
#[derive(Debug)]
struct Queue(mpsc::Sender<SpanData>);

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &Context) {}

    fn on_end(&self, mut span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if span.name == REQUEST {
            span.span_kind = SpanKind::Server;
        }
        if self.0.try_send(span).is_err() {
            COUNTS.lost.inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// A trace that begins here has the id of the request or copy for which it begins, if that id may be one.
#[derive(Debug, Default)]
struct RequestIds(RandomIdGenerator);

impl IdGenerator for RequestIds {
    fn new_trace_id(&self) -> TraceId {
        let of_request = || {
            let id = RequestId::current()?;
            let id = Some(id.as_str()).filter(|id| id.len() == TRACE_ID)?;
            TraceId::from_hex(id).ok().filter(|id| *id != TraceId::INVALID)
        };
        of_request().unwrap_or_else(|| self.0.new_trace_id())
    }

    fn new_span_id(&self) -> SpanId {
        self.0.new_span_id()
    }
}

/// Whether this process exports spans. If not, a request pays nothing for it.
fn exports() -> bool {
    EXPORTS.load(Ordering::Relaxed)
}

/// Makes the span of a request a part of the client's trace, or begins a trace. What the gateway sends for the request
/// then belongs to the span: the headers for the registry say so, and the id that is returned.
pub(crate) fn join_trace(span: &Span, id: RequestId, headers: &mut HeaderMap) -> RequestId {
    if !exports() {
        return id;
    }
    set_parent(span, &id);
    let context = id.enter(|| span.context());
    let context = context.span().span_context().clone();
    if !context.is_valid() {
        return id;
    }
    let (trace, own, flags) = (context.trace_id(), context.span_id(), context.trace_flags().to_u8());
    match HeaderValue::from_str(&format!("00-{trace:032x}-{own:016x}-{flags:02x}")) {
        Ok(traceparent) => {
            let id = id.in_span(&traceparent);
            headers.insert(TRACE_PARENT, traceparent);
            id
        }
        Err(_) => id,
    }
}

/// Makes the span a part of the trace of this request.
pub(crate) fn set_parent(span: &Span, id: &RequestId) {
    let parent = || id.traceparent().and_then(span_context);
    if let Some(parent) = exports().then(parent).flatten() {
        // It fails if the span has begun.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
}

/// Reads a `traceparent`, which has been checked.
fn span_context(traceparent: &str) -> Option<SpanContext> {
    let trace = TraceId::from_hex(traceparent.get(3..35)?).ok()?;
    let span = SpanId::from_hex(traceparent.get(36..52)?).ok()?;
    let flags = u8::from_str_radix(traceparent.get(53..55)?, 16).ok()?;
    Some(SpanContext::new(trace, span, TraceFlags::new(flags), true, TraceState::NONE))
}

/// Records how a request ended (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/>).
pub(crate) fn end_request(span: &Span, id: &RequestId, method: &Method, path: &str, status: u16) {
    if !exports() || id.sampled_trace().is_none() {
        return;
    }
    span.set_attribute("http.request.method", known_method(method));
    span.set_attribute("url.path", path.to_owned());
    span.set_attribute("http.response.status_code", i64::from(status));
    if status >= 500 {
        span.set_status(Status::error(""));
    }
}

/// The method, or `_OTHER` for one that is not HTTP's own: that may be as long as a head.
fn known_method(method: &Method) -> String {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
        Method::CONNECT,
        Method::TRACE,
    ];
    if known.contains(method) { method.to_string() } else { "_OTHER".to_owned() }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{Span as _, Tracer as _};

    use super::*;

    #[test]
    fn whoever_ends_a_span_waits_for_nobody() {
        let (sender, mut spans) = mpsc::channel(1);
        let provider = SdkTracerProvider::builder().with_span_processor(Queue(sender)).build();
        let tracer = provider.tracer("test");
        for _ in 0..3 {
            tracer.start(REQUEST).end();
        }
        assert_eq!(COUNTS.lost.get(), 2);
        assert_eq!(spans.try_recv().expect("one had room").span_kind, SpanKind::Server);
    }
}
