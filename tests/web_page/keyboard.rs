//! The page without a mouse.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::{DESKTOP, Fixture, assert_quiet};

/// More than the page has elements that can have the focus.
const PRESSES_MAX: usize = 100;

/// A name for each element that a mouse can use, or that scrolls.
const REACHABLE: &str = "[...document.querySelectorAll('a, button, select, input, [tabindex=\"0\"]')] \
    .filter((element) => element.checkVisibility()) \
    .map((element, index) => (element.dataset.place = `${index} ${element.tagName} ${element.id}`))";

#[tokio::test]
async fn the_keyboard_reaches_everything() -> Result<()> {
    let fixture = Fixture::start().await?;
    let mut browser = fixture.browser(DESKTOP).await?;
    let all: BTreeSet<String> = browser.evaluate(REACHABLE).await?;
    ensure!(all.len() > 6, "{all:?}");
    let mut reached = BTreeSet::new();
    for _ in 0..PRESSES_MAX {
        browser.press("Tab").await?;
        reached.insert(browser.evaluate::<String>("document.activeElement.dataset.place ?? ''").await?);
        if all.is_subset(&reached) {
            break;
        }
    }
    let missed: Vec<_> = all.difference(&reached).collect();
    ensure!(missed.is_empty(), "not reached: {missed:?}");
    // The focus is visible.
    let outline = "getComputedStyle(document.activeElement).outlineStyle";
    ensure!(browser.evaluate::<String>(outline).await? != "none");
    assert_quiet(&mut browser).await
}

#[tokio::test]
async fn a_drain_needs_no_mouse_and_the_focus_comes_back() -> Result<()> {
    let fixture = Fixture::start().await?;
    let mut browser = fixture.browser(DESKTOP).await?;
    let focus = "document.querySelector('#zones tr[data-zone=\"zone-b\"] button').focus()";
    browser.evaluate::<()>(focus).await?;
    browser.press("Enter").await?;
    browser.wait::<bool>("document.getElementById('dialog').open").await?;
    browser.press("Escape").await?;
    browser.wait::<bool>("!document.getElementById('dialog').open").await?;
    let label = "document.activeElement.getAttribute('aria-label')";
    ensure!(browser.evaluate::<String>(label).await? == "Drain zone-b");
    browser.press("Enter").await?;
    browser.wait::<bool>("document.getElementById('dialog').open").await?;
    while !browser.evaluate::<bool>("document.activeElement.id === 'dialog-do'").await? {
        browser.press("Tab").await?;
    }
    browser.press("Enter").await?;
    // The rows are new each second, and the focus stays.
    browser.wait::<bool>(&format!("{label} === 'Undrain zone-b'")).await?;
    Ok(())
}
