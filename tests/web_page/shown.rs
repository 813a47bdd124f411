//! What the page shows of zones, requests, the cache and events.

use anyhow::{Context as _, Result, ensure};
use harness::fault::BodyFault;
use serde_json::Value;

use super::{DESKTOP, Fixture, assert_quiet, row};

/// The snapshots from the one that tells a change to the one by which the page shows it. They come each second.
const SNAPSHOTS_MAX: usize = 3;

#[tokio::test]
async fn a_zone_that_is_killed_turns_red() -> Result<()> {
    let fixture = Fixture::start().await?;
    let mut browser = fixture.browser(DESKTOP).await?;
    browser.wait::<bool>(&format!("{}.dataset.level === 'good'", row("zone-b"))).await?;
    // A second subscriber in the page notes the gateway's own state beside what the page shows.
    let note = "window.noted = []; new EventSource('/api/v1/live').addEventListener('snapshot', (message) => { \
        const zone = JSON.parse(message.data).zones.find((zone) => zone.name === 'zone-b'); \
        const row = document.querySelector('#zones tr[data-zone=\"zone-b\"]'); \
        noted.push({ state: zone.state, since: zone.since_seconds, level: row.dataset.level }); }); true";
    browser.evaluate::<bool>(note).await?;
    fixture.site.zone("zone-b").proxy().down().await;
    browser.wait::<bool>("noted.some(({ level }) => level === 'critical')").await?;
    let noted: Vec<Value> = browser.evaluate("noted").await?;
    let ejected = noted.iter().position(|one| one["state"] == "ejected").context("it is ejected")?;
    let red = noted.iter().position(|one| one["level"] == "critical").context("it is red")?;
    ensure!(red <= ejected + SNAPSHOTS_MAX, "{noted:#?}");
    let since = noted[ejected]["since"].as_u64().context("seconds")?;
    ensure!(since <= 3, "the first snapshot of it comes {since} s after the change");
    // Red, and an icon and words too.
    let colours = format!(
        "getComputedStyle({}.querySelector('.state')).color.match(/\\d+/g).map(Number)",
        row("zone-b")
    );
    let colours: Vec<u32> = browser.evaluate(&colours).await?;
    ensure!(colours[0] > colours[1] + 60 && colours[0] > colours[2] + 60, "{colours:?}");
    let words: String = browser.evaluate(&format!("{}.innerText", row("zone-b"))).await?;
    ensure!(words.contains("ejected"), "{words}");
    let verdict: String = browser.evaluate("document.getElementById('verdict').innerText").await?;
    ensure!(verdict.contains("zone-b"), "{verdict}");
    browser.wait::<bool>("/zone-b is ejected/.test(document.getElementById('events').innerText)").await?;
    fixture.site.zone("zone-b").proxy().heal().await;
    browser.wait::<bool>(&format!("{}.dataset.level === 'good'", row("zone-b"))).await?;
    assert_quiet(&mut browser).await
}

#[tokio::test]
async fn requests_appear_with_their_way() -> Result<()> {
    let fixture = Fixture::start().await?;
    let image = fixture.push(1, "v1", &[300_000, 90_000]).await?;
    let mut browser = fixture.browser(DESKTOP).await?;
    let hex = &image.layers[0].digest.hex()[..12];
    // The near zones break off in the middle of the largest layer, whichever is the quicker one now.
    for zone in ["zone-a", "zone-b"] {
        fixture.site.zone(zone).proxy().set(|faults| {
            faults.body = Some(BodyFault::CutAfter(100_000));
            faults.only = Some(image.layers[0].digest.hex());
        });
    }
    fixture.pull("v1").await?;
    let ways = format!(
        "[...document.querySelectorAll('#requests tr')].filter((row) => row.innerText.includes('blob {hex}')) \
         .map((row) => row.querySelector('.way').innerText)"
    );
    let resumed = format!("{ways}.some((way) => /zone-[ab][^]*resumed in zone-/.test(way))");
    if let Err(error) = browser.wait::<bool>(&resumed).await {
        let shown: String = browser.evaluate("document.getElementById('requests').innerText").await?;
        return Err(error.context(shown));
    }
    fixture.pull("v1").await?;
    browser.wait::<bool>(&format!("{ways}.some((way) => way.includes('cache'))")).await?;
    // The filter shows some of them, and a pause keeps them.
    browser
        .evaluate::<bool>(
            "{ const filter = document.getElementById('requests-filter'); filter.value = 'turns'; \
         filter.dispatchEvent(new Event('change')); true }",
        )
        .await?;
    browser.wait::<bool>("document.querySelectorAll('#requests tr').length === 1").await?;
    browser.click("#pause").await?;
    assert_quiet(&mut browser).await
}

#[tokio::test]
async fn the_cache_the_queue_and_certificates_are_shown() -> Result<()> {
    let fixture = Fixture::start().await?;
    let image = fixture.push(2, "v1", &[300_000, 90_000]).await?;
    fixture.pull("v1").await?;
    fixture.pull("v1").await?;
    let mut browser = fixture.browser(DESKTOP).await?;
    let text = |id: &str, part: &str| format!("document.getElementById('{id}').innerText.includes({part:?})");
    for (id, part) in [
        ("cache", &image.layers[0].digest.hex()[..12]),
        ("cache", "Hits, bytes"),
        ("queue", "zone-c"),
        ("certificates", "days left"),
        ("registry", "in use"),
        ("limits", "connections"),
        ("figures", "Bytes at risk"),
    ] {
        browser.wait::<bool>(&text(id, part)).await.with_context(|| format!("{id}: {part}"))?;
    }
    // A copy that fails, and why.
    fixture.site.zone("zone-c").proxy().down().await;
    let more = harness::image::Spec::layers(3, &[50_000]).build()?;
    fixture.gateway.client(harness::site::LOGIN)?.push(super::REPOSITORY, "v2", &more).await?;
    browser.wait::<bool>(&text("queue", "Copies that fail")).await?;
    browser.wait::<bool>("document.querySelectorAll('.jobs .why').length > 0").await?;
    browser.click(".jobs button").await?;
    browser.click("#dialog-do").await?;
    browser.wait::<bool>("!document.getElementById('dialog').open").await?;
    fixture.site.zone("zone-c").proxy().heal().await;
    assert_quiet(&mut browser).await
}

#[tokio::test]
async fn the_page_comes_back_after_a_restart() -> Result<()> {
    let mut fixture = Fixture::start().await?;
    let mut browser = fixture.browser(DESKTOP).await?;
    fixture.gateway.kill();
    browser.wait::<bool>("document.getElementById('link').dataset.state === 'stale'").await?;
    fixture.gateway.spawn().await?;
    browser.wait::<bool>("document.getElementById('link').dataset.state === 'live'").await?;
    Ok(())
}
