//! Quay itself stops: what was pulled before is still pulled, and nothing is accepted.

use std::time::Duration;

use ::harness::image::{Image, Spec};
use anyhow::{Context as _, Result, ensure};
use http::{Method, StatusCode};

use crate::fixture::{Fixture, Side};
use crate::report::{Row, SideResult};
use crate::timeline::DemoRun;

const REPOSITORY: &str = "admin/ten-layers";
const TAG: &str = "v1";

/// An image of ten small layers: what counts here are requests, not bytes.
const LAYERS: [u64; 10] = [200_000; 10];

/// How often something is tried that works a moment later, and the pause between two tries.
const TRIES_MAX: usize = 60;
const TRY_PAUSE: Duration = Duration::from_millis(500);

/// The requests of one pull at Quay: for tokens, for manifests and about blobs.
type Calls = [usize; 3];

/// A pull while Quay is stopped, compared with one while it runs.
pub(crate) async fn quay_down(run: &mut DemoRun<'_>) -> Result<()> {
    run.screen.title("8. Quay itself stops");
    run.fixture.revive_home().await;
    let image = Spec::layers(3, &LAYERS).build()?;
    push(&run.fixture, &image).await.context("pushing an image of ten layers")?;
    run.fixture.gateway.restart_empty().await?;
    let cold = calls(&run.fixture, &image).await.context("a pull with an empty cache")?;
    let warm = calls(&run.fixture, &image).await.context("a second pull")?;
    run.screen.print(&line("nothing cached", cold));
    run.screen.print(&line("cached", warm));

    run.fixture.site.quay.down().await;
    run.screen.print("\n  ** Quay is stopped **");
    let offline = eventually(async || calls(&run.fixture, &image).await).await;
    let manifest = manifest_warning(&run.fixture).await.unwrap_or_default();
    let refused = push_status(&run.fixture).await;
    let quay_only = run.fixture.client(Side::QuayOnly)?.pull(REPOSITORY, TAG).await;
    run.fixture.site.quay.up().await;
    run.screen.print("  ** Quay runs again **");
    let again = eventually(async || push(&run.fixture, &image).await).await;

    let checks = &mut run.checks;
    checks.claim("A pull of a cached image costs Quay a token and a manifest, and none of its blobs.");
    let passed = checks.equal("requests about blobs at Quay, nothing cached", 0, cold[2])
        & checks.equal("requests about blobs at Quay, cached", 0, warm[2])
        & checks.equal("tokens from Quay, cached", 1, warm[0]);
    checks.claim("While Quay is stopped, what was pulled before is pulled, says that it is stale, and nothing is accepted.");
    let shown =
        offline.as_ref().map_or_else(|error| format!("{error:#}"), |calls| line("Quay stopped", *calls));
    run.screen.print(&shown);
    let passed = passed
        & checks.check(
            "a pull while Quay is stopped",
            "11 blobs, no request at Quay",
            shown,
            matches!(offline, Ok([0, 0, 0])),
        )
        & checks.check("the warning of a stale manifest", "110", &manifest, manifest.starts_with("110 "))
        & checks.equal("a push while Quay is stopped", "503".to_owned(), refused)
        & checks.check(
            "a pull from Quay only while it is stopped",
            "a failure",
            "11 blobs",
            quay_only.is_err(),
        )
        & checks.check("a push after Quay is back", "it works", "a failure", again.is_ok());
    let [tokens, manifests, blobs] = warm;
    run.rows.push(Row {
        step: "pull again, Quay stopped",
        gateway: SideResult {
            passed,
            measured: format!(
                "ten layers, 0 requests at Quay (with Quay: {tokens} token, {manifests} for the manifest, {blobs} for blobs); a push gets 503"
            ),
        },
        quay_only: SideResult { passed: quay_only.is_ok(), measured: "fails".to_owned() },
    });
    Ok(())
}

async fn push(fixture: &Fixture, image: &Image) -> Result<()> {
    fixture.client(Side::Gateway)?.push(REPOSITORY, TAG, image).await
}

/// Pulls the image as a new client, and counts the requests that reach Quay.
async fn calls(fixture: &Fixture, image: &Image) -> Result<Calls> {
    let record = fixture.site.quay.record();
    record.clear();
    let pulled = fixture.client(Side::Gateway)?.pull(REPOSITORY, TAG).await?;
    ensure!(pulled.len() == image.blobs().len(), "{} blobs instead of {}", pulled.len(), image.blobs().len());
    let all = |part: &str| [Method::GET, Method::HEAD].iter().map(|method| record.count(method, part)).sum();
    Ok([all("/v2/auth"), all("/manifests/"), all("/blobs/")])
}

async fn manifest_warning(fixture: &Fixture) -> Result<String> {
    let target = format!("/v2/{REPOSITORY}/manifests/{TAG}");
    let accept = [("accept", "application/vnd.oci.image.manifest.v1+json")];
    let by_tag = fixture.client(Side::Gateway)?.fetch(Method::GET, &target, &accept).await?;
    if by_tag.status == StatusCode::OK {
        return Ok(by_tag.header("warning").to_owned());
    }
    Ok(format!("status {}", by_tag.status))
}

/// The status of the first request of a push.
async fn push_status(fixture: &Fixture) -> String {
    let target = format!("/v2/{REPOSITORY}/blobs/uploads/");
    let client = match fixture.client(Side::Gateway) {
        Ok(client) => client,
        Err(error) => return error.to_string(),
    };
    let answer = client.fetch(Method::POST, &target, &[]).await;
    answer.map_or_else(|error| error.to_string(), |answer| answer.status.as_u16().to_string())
}

/// Repeats something that works a moment later, as container engines do.
async fn eventually<T>(mut attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    for _ in 1..TRIES_MAX {
        if let Ok(done) = attempt().await {
            return Ok(done);
        }
        tokio::time::sleep(TRY_PAUSE).await;
    }
    attempt().await
}

fn line(what: &str, [tokens, manifests, blobs]: Calls) -> String {
    format!(
        "  {what:16} requests at Quay: {tokens} for a token, {manifests} for the manifest, {blobs} for 11 blobs"
    )
}
