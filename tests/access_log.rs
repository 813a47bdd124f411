//! The access log apart from the log: its forms, its file, and what it must not show.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::client::Client;
use harness::gateway::Gateway;
use harness::image::{Image, Spec};
use harness::site::{LOGIN, PASSWORD, Site, USER};
use http::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

const REPOSITORY: &str = "admin/one";
const FILE: &str = "access.log";
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The timeout for everything that the tests wait for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway, and an image that it has not in its cache.
struct Fixture {
    site: Site,
    gateway: Gateway,
    image: Image,
}

impl Fixture {
    async fn new(access_log: Value) -> Result<Self> {
        let site = Site::start()?;
        let gateway = site.gateway(&json!({"access_log": access_log})).await?;
        let image = Spec::layers(1, &[50_000]).build()?;
        Client::new(&site.quay.url(), &[], LOGIN)?.push(REPOSITORY, "v1", &image).await?;
        Ok(Self { site, gateway, image })
    }

    fn file(&self) -> PathBuf {
        self.gateway.dir().join(FILE)
    }

    fn layer(&self) -> String {
        format!("/v2/{REPOSITORY}/blobs/{}", self.image.layers[0].digest)
    }

    /// Sends a request with these headers and reads the answer.
    async fn ask(&self, path: &str, headers: &[(&str, &[u8])]) -> Result<()> {
        let token = self.site.quay.token(USER, REPOSITORY, &["pull"], json!({}))?;
        let mut request = self.gateway.client(None)?.raw(Method::GET, path)?.bearer_auth(token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await?.bytes().await.map(drop).map_err(Into::into)
    }
}

/// Waits until a file has this many whole lines, and returns them.
async fn lines(file: &Path, count: usize) -> Result<Vec<String>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if text.matches('\n').count() >= count {
            return Ok(text.lines().map(str::to_owned).collect());
        }
        ensure!(Instant::now() < deadline, "{} has not {count} lines: {text}", file.display());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn objects(lines: &[String]) -> Result<Vec<Value>> {
    lines.iter().map(|line| serde_json::from_str(line).with_context(|| line.clone())).collect()
}

#[tokio::test]
async fn every_request_is_an_object() -> Result<()> {
    let fixture = Fixture::new(json!({"format": "json", "to": FILE})).await?;
    let traceparent = format!("00-{TRACE_ID}-00f067aa0ba902b7-01");
    let headers: [(&str, &[u8]); 3] = [
        ("user-agent", b"docker/27 \"x\""),
        ("x-request-id", b"my-7"),
        ("traceparent", traceparent.as_bytes()),
    ];
    for _ in 0..2 {
        fixture.ask(&fixture.layer(), &headers).await?;
    }
    fixture.ask(&format!("/v2/{REPOSITORY}/manifests/v1"), &[]).await?;
    fixture.ask("/v2/", &[]).await?;
    let all = objects(&lines(&fixture.file(), 4).await?)?;
    let layer = fixture.layer();
    for (line, source) in all.iter().zip(["zone=zone-a", "hit"]) {
        for (field, expected) in [
            ("request_id", json!("my-7")),
            ("trace_id", json!(TRACE_ID)),
            ("client", json!("127.0.0.1")),
            ("method", json!("GET")),
            ("path", json!(layer)),
            ("status", json!(200)),
            ("received", json!(0)),
            ("sent", json!(fixture.image.layers[0].size)),
            ("route", json!("blob")),
            ("repository", json!(REPOSITORY)),
            ("source", json!(source)),
            ("end", json!("whole")),
            ("user_agent", json!("docker/27 \"x\"")),
        ] {
            assert_eq!(line[field], expected, "{field} of {line}");
        }
        let seconds = |field: &str| line[field].as_f64().with_context(|| field.to_owned());
        ensure!(0.0 < seconds("first_byte")? && seconds("first_byte")? <= seconds("duration")?, "{line}");
        ensure!(line["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
    }
    let named = |line: &Value| [&line["route"], &line["source"], &line["repository"]].map(Value::clone);
    assert_eq!(named(&all[2]), [json!("manifest"), json!("registry"), json!(REPOSITORY)]);
    assert_eq!(named(&all[3]), [json!("forward"), json!("registry"), Value::Null]);
    // They are not in the log as well.
    ensure!(!fixture.gateway.log().contains("access"), "{}", fixture.gateway.log());
    Ok(())
}

#[tokio::test]
async fn it_shows_no_secret() -> Result<()> {
    let fixture = Fixture::new(json!({"to": FILE})).await?;
    let client = fixture.gateway.client(LOGIN)?;
    client.pull(REPOSITORY, "v1").await?;
    fixture
        .ask("/v2/auth?account=admin&password=hunter2", &[("referer", b"https://x/?token=hunter2")])
        .await?;
    fixture.ask("/_storage_proxy/hunter2/x", &[("cookie", b"session=hunter2")]).await?;
    let login = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, format!("{USER}:{PASSWORD}"));
    let all = lines(&fixture.file(), 6).await?.join("\n");
    for secret in ["hunter2", "Bearer", "eyJ", &login, PASSWORD] {
        ensure!(!all.contains(secret), "{secret}: {all}");
    }
    ensure!(all.contains("\"route\":\"token\""), "{all}");
    Ok(())
}

#[tokio::test]
async fn combined_is_as_nginx_writes_it() -> Result<()> {
    let fixture = Fixture::new(json!({"format": "combined", "to": FILE})).await?;
    fixture.ask(&fixture.layer(), &[("user-agent", b"a\"b\\c\xff")]).await?;
    let line = lines(&fixture.file(), 1).await?.remove(0);
    let (begin, rest) = line.split_once(" [").context("a time")?;
    let (time, rest) = rest.split_once("] ").context("the end of the time")?;
    assert_eq!(begin, "127.0.0.1 - -");
    ensure!(time.ends_with(" +0000") && time.len() == "06/Nov/1994:08:49:37 +0000".len(), "{time}");
    let size = fixture.image.layers[0].size;
    let agent = r#""a\x22b\x5Cc\xEF\xBF\xBD""#;
    assert_eq!(rest, format!("\"GET {} HTTP/1.1\" 200 {size} \"-\" {agent}", fixture.layer()));
    Ok(())
}

#[tokio::test]
async fn a_file_that_was_moved_is_made_again() -> Result<()> {
    let fixture = Fixture::new(json!({"to": FILE})).await?;
    fixture.ask("/v2/", &[]).await?;
    lines(&fixture.file(), 1).await?;
    // As logrotate does it, with and without telling the gateway.
    for (number, tell) in [(1, true), (2, false)] {
        let moved = fixture.gateway.dir().join(format!("{FILE}.{number}"));
        std::fs::hard_link(fixture.file(), &moved)?;
        std::fs::remove_file(fixture.file())?;
        if tell {
            fixture.gateway.signal(Signal::HUP)?;
        }
        let deadline = Instant::now() + PATIENCE;
        let mut sent = 0;
        while !fixture.file().exists() {
            ensure!(Instant::now() < deadline, "there is no new file: {}", fixture.gateway.log());
            fixture.ask("/v2/", &[]).await?;
            sent += 1;
        }
        // No line was lost.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let count = lines(&fixture.file(), 1).await?.len() + lines(&moved, 1).await?.len();
            if count > sent {
                break assert_eq!(count, 1 + sent, "{number}");
            }
            ensure!(Instant::now() < deadline, "{count} of {sent} lines");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // One line is in the file of the next round.
        std::fs::write(fixture.file(), "")?;
        fixture.ask("/v2/", &[]).await?;
        lines(&fixture.file(), 1).await?;
    }
    Ok(())
}

#[tokio::test]
async fn standard_output_has_it_and_the_last_line_is_there_at_the_end() -> Result<()> {
    let mut fixture = Fixture::new(json!({"to": "stdout"})).await?;
    fixture.ask("/v2/", &[]).await?;
    fixture.gateway.terminate().await?;
    let log = fixture.gateway.log();
    let line = log.lines().find(|line| line.starts_with('{')).context("no line")?;
    assert_eq!(serde_json::from_str::<Value>(line)?["path"], "/v2/");
    Ok(())
}

#[tokio::test]
async fn a_full_disk_stops_nobody() -> Result<()> {
    let fixture = Fixture::new(json!({"to": "/dev/full"})).await?;
    for _ in 0..3 {
        fixture.ask(&fixture.layer(), &[]).await?;
    }
    let deadline = Instant::now() + PATIENCE;
    while !fixture.gateway.metrics().await?.contains("quay_gateway_access_log_lines_lost_total 3") {
        ensure!(Instant::now() < deadline, "{}", fixture.gateway.metrics().await?);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let log = fixture.gateway.log();
    assert_eq!(log.matches("the access log cannot be written").count(), 1, "{log}");
    Ok(())
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_named_at_the_start() -> Result<()> {
    let site = Site::start()?;
    let refused = site.gateway(&json!({"access_log": {"to": "/no/such/folder/access.log"}})).await;
    let error = format!("{:#}", refused.err().context("it started")?);
    ensure!(error.contains("access_log.to: /no/such/folder/access.log cannot be opened"), "{error}");
    Ok(())
}
