//! Commands of the page: each asks first, and needs the token if there is one.

use anyhow::{Result, ensure};
use real_servers::Browser;
use serde_json::json;

use super::{DESKTOP, Fixture, assert_quiet, row};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const DIALOG_OPEN: &str = "document.getElementById('dialog').open";

async fn until(browser: &mut Browser, zone: &str, state: &str) -> Result<()> {
    let shown = format!("{}.querySelector('.state').innerText === '{state}'", row(zone));
    browser.wait::<bool>(&shown).await?;
    Ok(())
}

#[tokio::test]
async fn a_zone_is_drained_after_a_confirmation() -> Result<()> {
    let fixture = Fixture::start().await?;
    let mut browser = fixture.browser(DESKTOP).await?;
    let button = "#zones tr[data-zone=\"zone-b\"] button";
    browser.click(button).await?;
    browser.wait::<bool>(DIALOG_OPEN).await?;
    ensure!(!browser.evaluate::<bool>("document.getElementById('token').checkVisibility()").await?);
    browser.click("#dialog-cancel").await?;
    browser.wait::<bool>(&format!("!{DIALOG_OPEN}")).await?;
    ensure!(
        fixture.zone("zone-b").await?["state"] == "healthy",
        "nothing is drained without the confirmation"
    );
    browser.click(button).await?;
    browser.click("#dialog-do").await?;
    until(&mut browser, "zone-b", "drained").await?;
    ensure!(fixture.zone("zone-b").await?["drained_by_command"] == true);
    browser.wait::<bool>("/zone-b is drained/.test(document.getElementById('events').innerText)").await?;
    browser.click(button).await?;
    browser.click("#dialog-do").await?;
    until(&mut browser, "zone-b", "healthy").await?;
    assert_quiet(&mut browser).await
}

#[tokio::test]
async fn a_refusal_is_shown() -> Result<()> {
    let fixture = Fixture::start().await?;
    let mut browser = fixture.browser(DESKTOP).await?;
    for zone in ["zone-b", "zone-c"] {
        browser.click(&format!("#zones tr[data-zone=\"{zone}\"] button")).await?;
        browser.click("#dialog-do").await?;
        until(&mut browser, zone, "drained").await?;
    }
    browser.click("#zones tr[data-zone=\"zone-a\"] button").await?;
    browser.click("#dialog-do").await?;
    let problem = "/undrain another zone first/.test(document.getElementById('dialog-problem').innerText)";
    browser.wait::<bool>(problem).await?;
    ensure!(browser.evaluate::<bool>(DIALOG_OPEN).await?);
    Ok(())
}

#[tokio::test]
async fn the_token_is_asked_for_and_kept_in_memory_only() -> Result<()> {
    let over = json!({"admin": {"token_file": "token"}});
    let fixture = Fixture::with(&over, &[("token", TOKEN)]).await?;
    let mut browser = fixture.browser(DESKTOP).await?;
    browser.click("#zones tr[data-zone=\"zone-b\"] button").await?;
    browser.fill("#token", "wrong").await?;
    browser.click("#dialog-do").await?;
    browser.wait::<bool>("/token/.test(document.getElementById('dialog-problem').innerText)").await?;
    ensure!(fixture.zone("zone-b").await?["state"] == "healthy");
    browser.fill("#token", TOKEN).await?;
    browser.click("#dialog-do").await?;
    until(&mut browser, "zone-b", "drained").await?;
    // It is asked for once.
    browser.click("#zones tr[data-zone=\"zone-b\"] button").await?;
    ensure!(!browser.evaluate::<bool>("document.getElementById('token').checkVisibility()").await?);
    browser.click("#dialog-do").await?;
    until(&mut browser, "zone-b", "healthy").await?;
    let kept: String = browser
        .evaluate("JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, document.getElementById('token').value])")
        .await?;
    ensure!(!kept.contains(TOKEN), "{kept}");
    Ok(())
}

#[tokio::test]
async fn a_zone_is_drained_over_tls() -> Result<()> {
    let fixture = Fixture::with(&json!({"admin": {"tls": true}}), &[]).await?;
    let mut browser = fixture.browser_at(&fixture.url_over("https"), DESKTOP).await?;
    browser.click("#zones tr[data-zone=\"zone-b\"] button").await?;
    browser.click("#dialog-do").await?;
    until(&mut browser, "zone-b", "drained").await?;
    assert_quiet(&mut browser).await
}
