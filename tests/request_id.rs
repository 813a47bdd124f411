//! The id of a request: it is passed from the client to the registry and to stores, logged, and returned.

use std::time::Duration;

use anyhow::{Context as _, Result};
use harness::client::Client;
use harness::fault::BodyFault;
use harness::gateway::Gateway;
use harness::image::{Image, Spec};
use harness::record::{Record, Seen};
use harness::site::{LOGIN, Site, USER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::json;

const REPOSITORY: &str = "admin/one";
const ID: &str = "4c5b4c0a-1d5f-4a54-9d0b-6f0a3c0b7d3e";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The timeout for everything that the tests wait for.
const PATIENCE: Duration = Duration::from_secs(20);

/// An image that is in the first two zones and not in the cache, with a layer larger than one read.
struct Fixture {
    site: Site,
    gateway: Gateway,
    image: Image,
}

/// The status, the id and the body of an answer.
type IdAnswer = (StatusCode, String, Vec<u8>);

impl Fixture {
    async fn new() -> Result<Self> {
        let site = Site::start()?;
        let gateway = site.gateway(&json!({})).await?;
        let image = Spec::layers(1, &[2_000_000]).build()?;
        Client::new(&site.quay.url(), &[], LOGIN)?.push(REPOSITORY, "v1", &image).await?;
        for blob in image.blobs() {
            site.zone("zone-b").write(&blob.digest, &blob.bytes()?)?;
        }
        site.quay.record().clear();
        Ok(Self { site, gateway, image })
    }

    fn layer(&self) -> String {
        format!("/v2/{REPOSITORY}/blobs/{}", self.image.layers[0].digest)
    }

    /// Sends a request with a token and these headers.
    async fn ask(&self, method: Method, path: &str, headers: HeaderMap) -> Result<IdAnswer> {
        let token = self.site.quay.token(USER, REPOSITORY, &["pull"], json!({}))?;
        let request = self.gateway.client(None)?.raw(method, path)?.bearer_auth(token).headers(headers);
        let answer = request.send().await?;
        let ids: Vec<_> = answer.headers().get_all("x-request-id").iter().collect();
        let id = ids.first().context("the answer has no id")?.to_str()?.to_owned();
        assert_eq!(ids.len(), 1, "{ids:?}");
        Ok((answer.status(), id, answer.bytes().await?.into()))
    }

    /// The requests of clients that the registry received.
    fn registry(&self) -> Vec<Seen> {
        asked(self.site.quay.record())
    }

    fn zone(&self, zone: &str) -> Vec<Seen> {
        self.site.zone(zone).proxy().record().reads(&self.image.layers[0].digest.hex())
    }

    /// Waits for the first line of the log with all of these parts.
    async fn line(&self, parts: &[&str]) -> Result<String> {
        let look = async {
            loop {
                let log = self.gateway.log();
                match log.lines().find(|line| parts.iter().all(|part| line.contains(part))) {
                    Some(line) => return line.to_owned(),
                    None => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, look).await.with_context(|| format!("no line with {parts:?}"))
    }
}

fn asked(record: &Record) -> Vec<Seen> {
    let mut all = record.all();
    all.retain(|seen| !seen.is_probe() && seen.target.starts_with("/v2/"));
    all
}

fn headers(pairs: &[(&'static str, &[u8])]) -> Result<HeaderMap> {
    pairs.iter().map(|(name, value)| Ok((name.parse()?, HeaderValue::from_bytes(value)?))).collect()
}

#[tokio::test]
async fn the_id_is_in_every_request_and_answer() -> Result<()> {
    let fixture = Fixture::new().await?;
    let given = headers(&[("x-request-id", ID.as_bytes()), ("traceparent", TRACE.as_bytes())])?;
    let (status, id, body) = fixture.ask(Method::GET, &fixture.layer(), given.clone()).await?;
    assert_eq!((status, &*id, body), (StatusCode::OK, ID, fixture.image.layers[0].bytes()?.to_vec()));
    for seen in fixture.registry().iter().chain(&fixture.zone("zone-a")) {
        let said = (seen.header("x-request-id"), seen.header("traceparent"));
        assert_eq!(said, (ID, TRACE), "{} {}", seen.method, seen.target);
    }
    assert!(!fixture.registry().is_empty() && !fixture.zone("zone-a").is_empty());
    fixture.line(&["access: ", &format!("request_id=\"{ID}\""), "status=200"]).await?;
    // A hit and a forwarded request are answered with the id as well.
    let manifest = format!("/v2/{REPOSITORY}/manifests/v1");
    for path in [&fixture.layer(), &manifest] {
        assert_eq!(fixture.ask(Method::GET, path, given.clone()).await?.1, ID, "{path}");
    }
    let seen = fixture.registry();
    assert_eq!(seen.last().context("asked")?.header("x-request-id"), ID);
    Ok(())
}

#[tokio::test]
async fn an_id_is_made_from_the_trace_or_generated() -> Result<()> {
    let fixture = Fixture::new().await?;
    let manifest = format!("/v2/{REPOSITORY}/manifests/v1");
    let mut made = Vec::new();
    for (given, expected) in [
        (headers(&[("traceparent", TRACE.as_bytes())])?, Some(TRACE_ID)),
        (headers(&[])?, None),
        (headers(&[])?, None),
    ] {
        let (_, id, _) = fixture.ask(Method::GET, &manifest, given).await?;
        let seen = fixture.registry().pop().context("asked")?;
        assert_eq!(seen.header("x-request-id"), id);
        assert_eq!(seen.header("traceparent"), if expected.is_some() { TRACE } else { "" });
        assert_eq!(expected.unwrap_or(&id), id);
        assert!(!made.contains(&id), "{id}");
        made.push(id);
    }
    Ok(())
}

#[tokio::test]
async fn an_invalid_id_is_replaced() -> Result<()> {
    let fixture = Fixture::new().await?;
    let manifest = format!("/v2/{REPOSITORY}/manifests/v1");
    let long = [b'a'; 129];
    for bad in [&long[..], b"a\tb", b"a b", b"a\x80b", b"a\"b", b"\x1b[31m".get(1..).unwrap_or_default(), b""]
    {
        let given = headers(&[("x-request-id", bad), ("traceparent", b"00-1-2-01"), ("tracestate", b"a=1")])?;
        let (status, id, _) = fixture.ask(Method::GET, &manifest, given).await?;
        assert_eq!((status, id.len()), (StatusCode::OK, 32), "{bad:?}");
        let seen = fixture.registry().pop().context("asked")?;
        assert_eq!(seen.header("x-request-id"), id);
        assert_eq!((seen.header("traceparent"), seen.header("tracestate")), ("", ""));
        fixture.line(&["access: ", &format!("request_id=\"{id}\"")]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn refusals_have_the_id_too() -> Result<()> {
    let fixture = Fixture::new().await?;
    let given =
        |more: &[(&'static str, &[u8])]| headers(&[&[("x-request-id", ID.as_bytes())], more].concat());
    let absent = fixture
        .layer()
        .replace("sha256:", "sha256:0000")
        .chars()
        .take(fixture.layer().len())
        .collect::<String>();
    for (method, path, given, expected) in [
        (Method::GET, &absent, given(&[])?, StatusCode::NOT_FOUND),
        (
            Method::GET,
            &fixture.layer(),
            given(&[("range", b"bytes=9000000-")])?,
            StatusCode::RANGE_NOT_SATISFIABLE,
        ),
        (Method::HEAD, &fixture.layer(), given(&[])?, StatusCode::OK),
    ] {
        let (status, id, _) = fixture.ask(method.clone(), path, given).await?;
        assert_eq!((status, &*id), (expected, ID), "{method} {path}");
    }
    // White space around a value, which only HTTP/2 can send.
    let request = harness::raw::client(&fixture.gateway, "h2")?.get(format!("{}/v2/", fixture.gateway.url()));
    let answer = request.header("x-request-id", ID).header("x-odd", " a").send().await?;
    assert_eq!(
        (answer.status(), &answer.headers()["x-request-id"]),
        (StatusCode::BAD_REQUEST, &HeaderValue::from_static(ID))
    );
    Ok(())
}

/// The zone breaks off in the middle. The log names the request that noticed it.
#[tokio::test]
async fn a_log_line_of_a_fill_has_the_id() -> Result<()> {
    let fixture = Fixture::new().await?;
    fixture.site.zone("zone-a").proxy().set(|faults| faults.body = Some(BodyFault::CutAfter(700_000)));
    let given = headers(&[("x-request-id", ID.as_bytes())])?;
    let (status, _, body) = fixture.ask(Method::GET, &fixture.layer(), given).await?;
    assert_eq!((status, body), (StatusCode::OK, fixture.image.layers[0].bytes()?.to_vec()));
    let line = fixture.line(&["zone broke off"]).await?;
    let digest = fixture.image.layers[0].digest;
    let span =
        format!("fill{{request_id=\"{ID}\" repository=\"{REPOSITORY}\" digest={digest} zone=\"zone-a\"}}");
    assert!(line.contains(&span), "{line}");
    for zone in ["zone-a", "zone-b"] {
        assert!(fixture.zone(zone).iter().any(|seen| seen.header("x-request-id") == ID), "{zone}");
    }
    Ok(())
}

/// A copy is not made for a client, and has an id of its own.
#[tokio::test]
async fn a_copy_has_an_id_of_its_own() -> Result<()> {
    let fixture = Fixture::new().await?;
    let image = Spec::layers(2, &[1000]).build()?;
    fixture.site.zone("zone-b").proxy().set(|faults| {
        faults.status = Some(StatusCode::INTERNAL_SERVER_ERROR);
        faults.only = Some(image.layers[0].digest.hex());
    });
    fixture.gateway.client(LOGIN)?.push(REPOSITORY, "v2", &image).await?;
    let digest = image.layers[0].digest;
    let line = fixture.line(&["copy failed", &digest.to_string()]).await?;
    let (_, id) = line.split_once("copy{request_id=\"").with_context(|| line.clone())?;
    let (id, rest) = id.split_once('"').with_context(|| line.clone())?;
    let fields = format!(" repository=\"{REPOSITORY}\" digest={digest} zone=\"zone-b\"}}");
    assert!(rest.starts_with(&fields), "{line}");
    let seen = fixture.site.zone("zone-b").proxy().record().all();
    assert!(seen.iter().any(|seen| seen.header("x-request-id") == id), "{line}");
    Ok(())
}
