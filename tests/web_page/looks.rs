//! The page in light and dark, narrow and wide. With `UPDATE_BOOK`, the pictures of the book are taken here.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use harness::fault::BodyFault;
use real_servers::Look;

use super::{DESKTOP, Fixture, assert_quiet, row};

/// The folder of the book's pictures of the page.
const PICTURES: &str = "../docs/src/operate/images";

/// The length of a drawn line of about six points.
const LINE: usize = 60;

/// The most bytes of a picture.
const PICTURE_MAX: u64 = 200_000;

const fn look(width: u32, height: u32, scheme: &'static str) -> Look {
    Look { width, height, scheme }
}

/// The page with something in every part of it.
async fn lively(fixture: &Fixture) -> Result<real_servers::Browser> {
    let first = fixture.push(1, "v1", &[900_000, 240_000, 40_000]).await?;
    fixture.push(2, "v2", &[400_000, 90_000]).await?;
    let mut browser = fixture.browser(DESKTOP).await?;
    fixture.site.zone("zone-a").proxy().set(|faults| {
        faults.body = Some(BodyFault::CutAfter(100_000));
        faults.only = Some(first.layers[0].digest.hex());
    });
    for tag in ["v2", "v2", "v1"] {
        fixture.pull(tag).await?;
    }
    browser.wait::<bool>("/resumed/.test(document.getElementById('requests').innerText)").await?;
    browser.wait::<bool>("/[0-9a-f]{12}/.test(document.getElementById('cache').innerText)").await?;
    Ok(browser)
}

#[tokio::test]
async fn nobody_is_left_out_and_nothing_sticks_out() -> Result<()> {
    let fixture = Fixture::start().await?;
    let mut browser = lively(&fixture).await?;
    fixture.site.zone("zone-c").proxy().down().await;
    browser.wait::<bool>(&format!("{}.dataset.level === 'critical'", row("zone-c"))).await?;
    for (width, height) in [(360, 800), (1280, 900), (3840, 2160)] {
        for scheme in ["light", "dark"] {
            browser.look(look(width, height, scheme)).await?;
            let violations = browser.axe().await?;
            ensure!(violations.is_empty(), "{width} {scheme}: {violations:#?}");
            let over: i64 = browser
                .evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                .await?;
            ensure!(over <= 0, "{width} {scheme}: {over} pixels stick out");
        }
    }
    browser.click("#zones tr[data-zone=\"zone-b\"] button").await?;
    for scheme in ["light", "dark"] {
        browser.look(look(360, 800, scheme)).await?;
        let violations = browser.axe().await?;
        ensure!(violations.is_empty(), "dialog, {scheme}: {violations:#?}");
    }
    assert_quiet(&mut browser).await
}

#[tokio::test]
async fn the_book_has_pictures_of_the_page() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(PICTURES);
    let pictures = [
        ("web-page-light.png", look(1240, 860, "light")),
        ("web-page-dark.png", look(1240, 860, "dark")),
        ("web-page-narrow.png", look(360, 1100, "light")),
    ];
    if std::env::var_os("UPDATE_BOOK").is_some() {
        let fixture = Fixture::start().await?;
        let mut browser = lively(&fixture).await?;
        fixture.site.zone("zone-b").proxy().down().await;
        browser.wait::<bool>(&format!("{}.dataset.level === 'critical'", row("zone-b"))).await?;
        // The lines of latencies have a point every five seconds.
        browser
            .wait::<bool>(&format!(
                "{}.querySelector('.line').getAttribute('d').length > {LINE}",
                row("zone-a")
            ))
            .await?;
        std::fs::create_dir_all(&folder)?;
        for (name, look) in pictures {
            browser.look(look).await?;
            browser.screenshot(&folder.join(name), look.height).await?;
        }
    }
    let page = std::fs::read_to_string(folder.join("../web-page.md"))?;
    for (name, _) in pictures {
        let size = std::fs::metadata(folder.join(name))
            .with_context(|| format!("{name}: UPDATE_BOOK=1 cargo nextest run --test web_page takes it"))?
            .len();
        ensure!(size <= PICTURE_MAX, "{name}: {size} bytes");
        ensure!(page.contains(&format!("images/{name}")), "the page of the book does not show {name}");
    }
    Ok(())
}
