//! The scenarios. Each runs a step through the gateway and with Quay only, checks the results, and adds a row to
//! the table.

use std::collections::BTreeMap;
use std::time::Duration;

use ::harness::zone::Zone;
use anyhow::Result;

use crate::checks::Checks;
use crate::fixture::Side;
use crate::pull::{Outage, Pull, REPOSITORY, TAG, pull};
use crate::push::{self, Push};
use crate::report::{Row, SideResult};
use crate::timeline::DemoRun;
use crate::{copies, format, image};

/// The repository that is pushed to Quay only.
const QUAY_ONLY_REPOSITORY: &str = "admin/alone";

/// How often the pull with an outage of the home zone is tried.
const OUTAGES_MAX: usize = 3;

/// A push, and the copies to the other zones.
pub(crate) async fn push(run: &mut DemoRun<'_>) -> Result<()> {
    let screen = run.screen;
    run.checks.claim("An image that is pushed through the gateway is soon in every zone, byte for byte.");
    let pushed = push::push(&run.fixture, Side::Gateway, REPOSITORY, TAG, &run.image, screen).await?;
    screen.print(&format!("  pushed {}", speed_text(pushed.bytes, pushed.took)));
    screen.title("3. The gateway copies the image to the other zones (checked in their files)");
    let arrived = copies::wait_for_copies(&run.fixture, &run.image, pushed.at, screen).await?;
    let all = image::blobs(&run.image).len();
    let mut right = true;
    for zone in &run.fixture.site.zones {
        let what = format!("correct blobs in {}", zone.name);
        right &= run.checks.equal(&what, all, copies::verified(zone, &run.image).await?);
    }
    let bytes = image::size(&run.image);
    let whole = run.checks.equal("bytes pushed through the gateway", bytes, pushed.bytes);
    screen.print("\n  for comparison: another image of the same size, pushed to Quay only");
    let quay_only = push_to_quay_only(run, arrived).await?;

    let after = format!("{} after the push", format::time(arrived));
    let copies = all * run.fixture.others().len();
    run.rows.push(Row {
        step: "push",
        gateway: SideResult { passed: whole, measured: speed_text(pushed.bytes, pushed.took) },
        quay_only: SideResult {
            passed: quay_only.whole,
            measured: speed_text(quay_only.push.bytes, quay_only.push.took),
        },
    });
    run.rows.push(Row {
        step: "copies in the other zones",
        gateway: SideResult { passed: right, measured: format!("all {copies}, verified, {after}") },
        quay_only: SideResult {
            passed: quay_only.copies == copies,
            measured: format!("{} of {copies}, {after} (its replication is off here)", quay_only.copies),
        },
    });
    Ok(())
}

/// The result of a push to Quay only.
struct QuayOnlyPush {
    push: Push,
    /// Whether every blob reached the home zone.
    whole: bool,
    /// The copies in other zones, after the time in which the gateway made all of its copies.
    copies: usize,
}

async fn push_to_quay_only(run: &mut DemoRun<'_>, wait: Duration) -> Result<QuayOnlyPush> {
    let screen = run.screen;
    let folder = run.folder.join("alone");
    let image = image::make(&folder, 2, screen).await?;
    let push = push::push(&run.fixture, Side::QuayOnly, QUAY_ONLY_REPOSITORY, TAG, &image, screen).await?;
    screen.print(&format!("  pushed {}", speed_text(push.bytes, push.took)));
    let (all, home) = (image::blobs(&image).len(), copies::count(run.fixture.home(), &image));
    let whole = run.checks.equal("blobs in the home zone after a push to Quay only", all, home);
    tokio::time::sleep_until((push.at + wait).into()).await;
    let copies: usize = run.fixture.others().iter().map(|zone| copies::count(zone, &image)).sum();
    screen.print(&format!("  {copies} copies in other zones, {} after the push", format::time(wait)));
    // The image is not needed any more, and the disk may be small.
    for blob in image::blobs(&image) {
        run.fixture.home().delete(&blob.digest)?;
    }
    std::fs::remove_dir_all(folder)?;
    Ok(QuayOnlyPush { push, whole, copies })
}

/// The first pull, with an empty cache.
pub(crate) async fn cold_pull(run: &mut DemoRun<'_>) -> Result<()> {
    run.screen.title("4. The image is pulled with an empty cache");
    let home = run.fixture.home().name.clone();
    let (gateway, quay_only) = pull_both(run).await?;
    let checks = &mut run.checks;
    checks.claim(
        "A blob that is not cached comes from a zone's store, complete and correct, at the first try.",
    );
    // The nearest zone is measured, so on a busy machine it may not be the home zone.
    let zones = names(&run.fixture.site.zones);
    let passed = check_first_try(checks, "cold pull", &gateway)
        & checks.equal("blobs from the zones, cold", gateway.wanted, gateway.count_from_any(&zones))
        & checks.equal(
            "blobs that were read from the store in Cache-Status",
            gateway.wanted,
            gateway.confirmed(),
        );
    let quay_only_passed = check_first_try(checks, "pull from Quay only", &quay_only)
        & checks.equal("blobs from home, Quay only", quay_only.wanted, quay_only.count_from(&home));
    let quay_only =
        SideResult { passed: quay_only_passed, measured: format!("{}, from {home}", summary(&quay_only)) };
    run.rows.push(Row {
        step: "pull, nothing cached",
        gateway: through_gateway(passed, &gateway),
        quay_only,
    });
    Ok(())
}

/// The second pull, from the cache.
pub(crate) async fn warm_pull(run: &mut DemoRun<'_>) -> Result<()> {
    run.screen.title("5. The image is pulled again");
    let home = run.fixture.home().name.clone();
    let (gateway, quay_only) = pull_both(run).await?;
    let checks = &mut run.checks;
    checks.claim("A cached blob is served from the cache, and no store is read.");
    let asked: usize = gateway.blobs.iter().map(|blob| blob.reads.len()).sum();
    let passed = check_first_try(checks, "warm pull", &gateway)
        & checks.equal("blobs from the cache, warm", gateway.wanted, gateway.count_from("cache"))
        & checks.equal("reads of the stores, warm", 0, asked);
    let quay_only_passed = check_first_try(checks, "second pull from Quay only", &quay_only)
        & checks.equal("blobs from home again, Quay only", quay_only.wanted, quay_only.count_from(&home));
    let quay_only =
        SideResult { passed: quay_only_passed, measured: format!("{}, from {home}", summary(&quay_only)) };
    run.rows.push(Row { step: "pull again", gateway: through_gateway(passed, &gateway), quay_only });
    Ok(())
}

/// The home zone's store fails during a pull, once on each side.
pub(crate) async fn outage(run: &mut DemoRun<'_>) -> Result<()> {
    let home = run.fixture.home().name.clone();
    run.screen.title(&format!("6. The cache is emptied, and {home} fails during the pull"));
    let image = run.image.clone();
    let [_, second, ..] = &image.layers[..] else { anyhow::bail!("the image has too few layers") };
    let outage = Outage { blob: second, after: second.size / 3 };
    let gateway = pull_until_home_dies(run, outage).await?;
    run.fixture.revive_home().await;
    run.screen.print("\n  for comparison: the same from Quay only");
    let quay_only = pull(&run.fixture, Side::QuayOnly, &image, Some(outage), run.screen).await?;

    let checks = &mut run.checks;
    checks.claim(
        "If a store fails in the middle of a blob, the blob continues at the next byte from another zone.",
    );
    let others = names(&run.fixture.site.zones[1..]);
    let passed = check_first_try(checks, "pull while the home zone fails", &gateway);
    let resumed = resumed(&gateway, &home);
    let after = gateway.blobs.iter().skip_while(|blob| blob.pulled.digest != second.digest).skip(1);
    let (later, elsewhere) =
        after.fold((0, 0), |(all, good), blob| (all + 1, good + usize::from(others.contains(&&*blob.from))));
    let resumed_ok = checks.check("the home zone failed during the pull", "yes", "no", gateway.home_died)
        & checks.equal("blobs that continued from another zone in the middle of the body", 1, resumed.len())
        & checks.equal("blobs from other zones after the failure", later, elsewhere);
    checks.check(
        "a pull from Quay only while the home zone fails",
        "a failure",
        summary(&quay_only),
        quay_only.home_died && !quay_only.is_whole(),
    );
    run.rows.push(Row {
        step: "pull, home fails in the middle",
        gateway: SideResult {
            passed: passed && resumed_ok,
            measured: format!(
                "{}: {}, {elsewhere} more came from other zones",
                summary(&gateway),
                resumed.join(", ")
            ),
        },
        quay_only: SideResult { passed: quay_only.is_whole(), measured: summary(&quay_only) },
    });
    Ok(())
}

/// Pulls with an empty cache until the home zone is read at the byte at which it fails. The zone that is read first is
/// measured, so on a busy machine it may not be the home zone.
async fn pull_until_home_dies(run: &mut DemoRun<'_>, outage: Outage<'_>) -> Result<Pull> {
    let mut tries = 1;
    loop {
        run.fixture.gateway.restart_empty().await?;
        let pulled = pull(&run.fixture, Side::Gateway, &run.image, Some(outage), run.screen).await?;
        if pulled.home_died || tries == OUTAGES_MAX {
            return Ok(pulled);
        }
        tries += 1;
        run.fixture.revive_home().await;
        run.screen.print("  the gateway read other zones first, because this machine is busy; trying again");
    }
}

/// A pull without the home zone, with an empty cache.
pub(crate) async fn pull_without_home(run: &mut DemoRun<'_>) -> Result<()> {
    let home = run.fixture.home().name.clone();
    run.screen.title(&format!("7. {home} stays down, and the cache is emptied again"));
    run.fixture.gateway.restart_empty().await?;
    let (gateway, quay_only) = pull_both(run).await?;
    let checks = &mut run.checks;
    checks.claim("If a zone's store is down and nothing is cached, pulls continue from the other zones.");
    let others = names(&run.fixture.site.zones[1..]);
    let passed = check_first_try(checks, "pull without the home zone", &gateway)
        & checks.equal("blobs from the other zones", gateway.wanted, gateway.count_from_any(&others));
    checks.check(
        "a pull from Quay only without the home zone",
        "a failure",
        summary(&quay_only),
        !quay_only.is_whole(),
    );
    run.rows.push(Row {
        step: "pull, home down, nothing cached",
        gateway: through_gateway(passed, &gateway),
        quay_only: SideResult { passed: quay_only.is_whole(), measured: summary(&quay_only) },
    });
    Ok(())
}

/// A pull through the gateway: its duration, and the sources of its blobs.
fn through_gateway(passed: bool, pull: &Pull) -> SideResult {
    SideResult { passed, measured: format!("{}, from {}", summary(pull), places(pull)) }
}

fn names(zones: &[Zone]) -> Vec<&str> {
    zones.iter().map(|zone| &*zone.name).collect()
}

/// The sources of the blobs: `zone-a`, or `zone-a (5), zone-b (1)`.
fn places(pull: &Pull) -> String {
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for blob in &pull.blobs {
        let from = if blob.from == "cache" { "the cache" } else { &*blob.from };
        *places.entry(from).or_default() += 1;
    }
    match places.len() {
        1 => places.into_keys().collect(),
        _ => {
            let words = places.into_iter().map(|(place, blobs)| format!("{place} ({blobs})"));
            words.collect::<Vec<_>>().join(", ")
        }
    }
}

/// Pulls on both sides.
async fn pull_both(run: &DemoRun<'_>) -> Result<(Pull, Pull)> {
    let gateway = pull(&run.fixture, Side::Gateway, &run.image, None, run.screen).await?;
    run.screen.print("\n  for comparison: the same from Quay only");
    let quay_only = pull(&run.fixture, Side::QuayOnly, &run.image, None, run.screen).await?;
    Ok((gateway, quay_only))
}

/// Checks that every blob of a pull arrived at the first try with the correct digest.
fn check_first_try(checks: &mut Checks, what: &str, pull: &Pull) -> bool {
    let expected = format!("{} of {} blobs at the first try", pull.wanted, pull.wanted);
    checks.check(what, expected, summary(pull), pull.is_first_try())
}

/// The blobs that started in the home zone and continued from another zone, as text.
fn resumed(pull: &Pull, home: &str) -> Vec<String> {
    let mut found = Vec::new();
    for blob in &pull.blobs {
        if let [.., before, last] = &blob.reads[..]
            && before.zone == home
            && last.zone != home
            && (1..blob.pulled.size).contains(&last.from)
        {
            found.push(format!("{} continued from {} at {}", blob.name, last.zone, format::bytes(last.from)));
        }
    }
    found
}

fn summary(pull: &Pull) -> String {
    let (came, wanted) = (pull.blobs.len(), pull.wanted);
    match &pull.failed {
        None => format!("{came} of {wanted} blobs in {}", format::time(pull.took)),
        Some(failed) => format!(
            "{came} of {wanted} blobs: {} failed after {} of the pull and {} tries: {}",
            failed.name,
            format::bytes(failed.after),
            failed.tries,
            failed.why,
        ),
    }
}

fn speed_text(bytes: u64, time: Duration) -> String {
    format!("{} in {}, {}", format::bytes(bytes), format::time(time), format::speed(bytes, time))
}
