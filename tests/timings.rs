//! The histograms of answers by route and source, in both forms, with exemplars in one of them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::client::Client;
use harness::gateway::Gateway;
use harness::image::Spec;
use harness::site::{LOGIN, Site, USER};
use http::Method;
use real_servers::Program;
use serde_json::json;

const REPOSITORY: &str = "admin/one";
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const REQUESTS: &str = "quay_gateway_request_seconds";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0";
const TEXT: &str = "text/plain; version=0.0.4";

/// Counts the samples of a file in the OpenMetrics form. The parser came with OpenStack.
const PARSE: &str = "
import sys
from prometheus_client.openmetrics.parser import text_fd_to_metric_families as families
print(sum(len(family.samples) for family in families(open(sys.argv[1]))))
";

/// The timeout for everything that the tests wait for.
const PATIENCE: Duration = Duration::from_secs(20);

async fn metrics(gateway: &Gateway, form: &str) -> Result<String> {
    let url = format!("http://{}/metrics", gateway.admin_address());
    Ok(harness::http_client()?.get(url).header("accept", form).send().await?.text().await?)
}

/// The lines of one series of a histogram.
fn series<'a>(metrics: &'a str, name: &str, route: &str, source: &str) -> Vec<&'a str> {
    let of = format!("{{route=\"{route}\",source=\"{source}\"");
    metrics.lines().filter(|line| line.starts_with(name) && line.contains(&of)).collect()
}

/// How many answers a series has counted.
fn count(metrics: &str, name: &str, route: &str, source: &str) -> Result<u64> {
    let lines = series(metrics, name, route, source);
    let line = lines.iter().find(|line| line.starts_with(&format!("{name}_count"))).context("a count")?;
    Ok(line.rsplit(' ').next().context("a value")?.parse()?)
}

/// Waits until this many answers of the registry on a route are counted. They are when they were sent.
async fn until(gateway: &Gateway, route: &str, times: u64) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while count(&metrics(gateway, OPENMETRICS).await?, REQUESTS, route, "registry")? < times {
        ensure!(Instant::now() < deadline, "{route} is not counted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::test]
async fn answers_are_timed_by_route_and_source() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    let image = Spec::layers(1, &[50_000]).build()?;
    Client::new(&site.quay.url(), &[], LOGIN)?.push(REPOSITORY, "v1", &image).await?;
    let token = site.quay.token(USER, REPOSITORY, &["pull"], json!({}))?;
    let layer = format!("/v2/{REPOSITORY}/blobs/{}", image.layers[0].digest);
    let missing = format!("/v2/{REPOSITORY}/blobs/sha256:{}", "0".repeat(64));
    let manifest = format!("/v2/{REPOSITORY}/manifests/v1");
    let client = gateway.client(None)?;
    for path in [&layer, &layer, &layer, &manifest, &missing, "/v2/"] {
        let request = client.raw(Method::GET, path)?.bearer_auth(&token);
        let request = request.header("traceparent", format!("00-{TRACE_ID}-00f067aa0ba902b7-01"));
        request.send().await?.bytes().await?;
    }
    until(&gateway, "forward", 1).await?;
    // A push asks for its blobs, too.
    assert_eq!(count(&metrics(&gateway, OPENMETRICS).await?, REQUESTS, "blob", "registry")?, 1);
    let pushed = Spec::layers(2, &[1000]).build()?;
    gateway.client(LOGIN)?.push(REPOSITORY, "v2", &pushed).await?;
    let expected = [
        ("blob", "zone=zone-a", 1),
        ("blob", "hit", 2),
        ("blob", "gateway", 0),
        ("manifest", "registry", 1),
        ("manifest-put", "registry", 1),
        ("forward", "gateway", 0),
        ("overload", "gateway", 0),
    ];
    until(&gateway, "manifest-put", 1).await?;
    let (open, text) = (metrics(&gateway, OPENMETRICS).await?, metrics(&gateway, TEXT).await?);
    for name in [REQUESTS, "quay_gateway_first_byte_seconds"] {
        for (route, source, times) in expected {
            assert_eq!(count(&open, name, route, source)?, times, "{name} {route} {source}");
            assert_eq!(count(&text, name, route, source)?, times, "{name} {route} {source}");
        }
        for route in ["token", "upload"] {
            ensure!(count(&open, name, route, "registry")? > 0, "{name} {route}");
        }
        let exemplar = format!(" # {{trace_id=\"{TRACE_ID}\"}} ");
        ensure!(series(&open, name, "blob", "hit").iter().any(|line| line.contains(&exemplar)), "{open}");
    }
    ensure!(!text.contains(" # {"), "{text}");
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), text)?;
    Program::find("promtool")?.args(["check", "metrics"]).stdin(file.path())?.run(PATIENCE).await?;
    // promtool reads the older form only.
    std::fs::write(file.path(), open)?;
    let samples = Program::python("openstack")?.args(["-c", PARSE]).arg(file.path()).run(PATIENCE).await?;
    ensure!(samples.trim().parse::<u32>()? > 500, "{samples}");
    Ok(())
}
