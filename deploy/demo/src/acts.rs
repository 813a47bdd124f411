//! The acts: each does a step with the gateway and at Quay alone, checks it, and adds a row.

use std::time::Duration;

use anyhow::Result;

use crate::checks::Checks;
use crate::play::Show;
use crate::pull::{Arrived, Pull, REPOSITORY, TAG, pull};
use crate::push::{self, Push};
use crate::report::{Did, Row};
use crate::stage::Side;
use crate::{copies, format, image};

/// The repository that is pushed to Quay alone.
const ALONE: &str = "admin/alone";

/// The home zone's bytes per second while it is to die, so that it dies in mid-blob.
const DYING_RATE: u64 = 40_000_000;

/// The push, and the copies that follow it.
pub(crate) async fn push(show: &mut Show<'_>) -> Result<()> {
    let screen = show.screen;
    let pushed = push::push(&show.stage, Side::Gateway, REPOSITORY, TAG, &show.image, screen).await?;
    screen.say(&format!("  pushed {}", pace(pushed.bytes, pushed.took)));
    screen.title("3. The gateway copies it to the other zones (seen in their files)");
    let arrived = copies::arrive(&show.stage, &show.image, pushed.at, screen).await?;
    let all = image::blobs(&show.image).len();
    let mut right = true;
    for zone in &show.stage.site.zones {
        let what = format!("blobs byte for byte in {}", zone.name);
        right &= show.checks.equal(&what, all, copies::verified(zone, &show.image).await?);
    }
    let bytes = image::size(&show.image);
    let whole = show.checks.equal("bytes pushed through the gateway", bytes, pushed.bytes);
    screen.say("\n  beside it: another such image, pushed to Quay alone");
    let alone = push_alone(show, arrived).await?;

    let after = format!("{} after the push", format::time(arrived));
    let copies = all * show.stage.others().len();
    show.rows.push(Row {
        step: "push",
        gateway: Did { job: whole, seen: pace(pushed.bytes, pushed.took) },
        alone: Did { job: alone.whole, seen: pace(alone.push.bytes, alone.push.took) },
    });
    show.rows.push(Row {
        step: "copies in the other zones",
        gateway: Did { job: right, seen: format!("all {copies}, verified, {after}") },
        alone: Did {
            job: alone.copies == copies,
            seen: format!("{} of {copies}, {after} (its replication is off here)", alone.copies),
        },
    });
    Ok(())
}

/// A push to Quay alone, and what came of it.
struct Alone {
    push: Push,
    /// Whether all of it reached the home zone.
    whole: bool,
    /// Copies in other zones, as long after the push as the gateway took for all of its own.
    copies: usize,
}

async fn push_alone(show: &mut Show<'_>, wait: Duration) -> Result<Alone> {
    let screen = show.screen;
    let folder = show.folder.join("alone");
    let image = image::make(&folder, 2, screen).await?;
    let push = push::push(&show.stage, Side::Alone, ALONE, TAG, &image, screen).await?;
    screen.say(&format!("  pushed {}", pace(push.bytes, push.took)));
    let (all, home) = (image::blobs(&image).len(), copies::count(show.stage.home(), &image));
    let whole = show.checks.equal("blobs in the home zone after a push to Quay alone", all, home);
    tokio::time::sleep_until((push.at + wait).into()).await;
    let copies: usize = show.stage.others().iter().map(|zone| copies::count(zone, &image)).sum();
    screen.say(&format!("  {copies} copies elsewhere, {} after the push", format::time(wait)));
    // It has served; the disk may be small.
    for blob in image::blobs(&image) {
        show.stage.home().delete(&blob.digest)?;
    }
    std::fs::remove_dir_all(folder)?;
    Ok(Alone { push, whole, copies })
}

/// The first pull: nothing is cached.
pub(crate) async fn cold(show: &mut Show<'_>) -> Result<()> {
    show.screen.title("4. It is pulled, the cache empty");
    let home = show.stage.home().name.clone();
    let (gateway, alone) = both(show).await?;
    let checks = &mut show.checks;
    let job = smooth(checks, "cold pull", &gateway)
        & checks.equal("blobs from home, cold", gateway.wanted, gateway.from(&home));
    let asked = gateway.blobs.iter().filter(|blob| blob.reads.iter().any(|read| read.zone == home)).count();
    checks.equal("blobs that the home store was asked for", gateway.wanted, asked);
    let alone_job = smooth(checks, "pull from Quay alone", &alone)
        & checks.equal("blobs from home, Quay alone", alone.wanted, alone.from(&home));
    show.rows.push(Row {
        step: "pull, nothing cached",
        gateway: Did { job, seen: format!("{}, from {home}", summary(&gateway)) },
        alone: Did { job: alone_job, seen: format!("{}, from {home}", summary(&alone)) },
    });
    Ok(())
}

/// The second pull: all is cached, the stores are not asked.
pub(crate) async fn warm(show: &mut Show<'_>) -> Result<()> {
    show.screen.title("5. It is pulled again");
    let home = show.stage.home().name.clone();
    let (gateway, alone) = both(show).await?;
    let checks = &mut show.checks;
    let asked: usize = gateway.blobs.iter().map(|blob| blob.reads.len()).sum();
    let job = smooth(checks, "warm pull", &gateway)
        & checks.equal("blobs from the cache, warm", gateway.wanted, gateway.from("cache"))
        & checks.equal("reads of the stores, warm", 0, asked);
    let alone_job = smooth(checks, "second pull from Quay alone", &alone)
        & checks.equal("blobs from home again, Quay alone", alone.wanted, alone.from(&home));
    show.rows.push(Row {
        step: "pull again",
        gateway: Did { job, seen: format!("{}, from the cache", summary(&gateway)) },
        alone: Did { job: alone_job, seen: format!("{}, from {home}", summary(&alone)) },
    });
    Ok(())
}

/// The home zone's store dies in mid-pull, once under each side.
pub(crate) async fn outage(show: &mut Show<'_>) -> Result<()> {
    let home = show.stage.home().name.clone();
    show.screen.title(&format!("6. The cache is emptied, and {home} dies in mid-pull"));
    show.stage.gateway.restart_empty().await?;
    let [first, second] = [&show.image.layers[0], &show.image.layers[1]];
    let kill_after = Some(first.size + second.size / 3);
    show.stage.slow_home(Some(DYING_RATE));
    let rate = format::speed(DYING_RATE, Duration::from_secs(1));
    show.screen.say(&format!("  {home} gives {rate} at most from here on, so that it dies in mid-blob"));
    let gateway = pull(&show.stage, Side::Gateway, &show.image, kill_after, show.screen).await?;
    show.stage.revive_home().await;
    show.screen.say("\n  beside it: the same from Quay alone");
    let alone = pull(&show.stage, Side::Alone, &show.image, kill_after, show.screen).await?;

    let job = smooth(&mut show.checks, "pull while the home zone dies", &gateway);
    let next = show.stage.others()[0].name.clone();
    let carried = carried(&gateway, &home);
    let whole = |zone: &str| {
        let only = |blob: &&Arrived| blob.from == zone && blob.reads.iter().all(|read| read.zone == zone);
        gateway.blobs.iter().filter(only).count()
    };
    let (before, after) = (whole(&home), whole(&next));
    let checks = &mut show.checks;
    // The config and the first layer; the second is the one in which home dies.
    let over = checks.equal("blobs wholly from home before it died", 2, before)
        & checks.equal("blobs that went on in another zone in mid-body", 1, carried.len())
        & checks.equal("blobs from the next zone after it died", gateway.wanted - 3, after);
    checks.that(
        "a pull from Quay alone while the home zone dies",
        "a failure",
        summary(&alone),
        !alone.is_whole(),
    );
    show.rows.push(Row {
        step: "pull, home dies in the middle",
        gateway: Did {
            job: job && over,
            seen: format!("{}: {}, {after} more came from {next}", summary(&gateway), carried.join(", ")),
        },
        alone: Did { job: alone.is_whole(), seen: summary(&alone) },
    });
    Ok(())
}

/// The home zone stays dead; the cache is empty again.
pub(crate) async fn aftermath(show: &mut Show<'_>) -> Result<()> {
    let home = show.stage.home().name.clone();
    show.screen.title(&format!("7. {home} stays dead, the cache is emptied again"));
    show.stage.gateway.restart_empty().await?;
    let (gateway, alone) = both(show).await?;
    let next = show.stage.others()[0].name.clone();
    let checks = &mut show.checks;
    let job = smooth(checks, "pull without the home zone", &gateway)
        & checks.equal("blobs from the next zone", gateway.wanted, gateway.from(&next));
    checks.that(
        "a pull from Quay alone without the home zone",
        "a failure",
        summary(&alone),
        !alone.is_whole(),
    );
    show.rows.push(Row {
        step: "pull, home dead, nothing cached",
        gateway: Did { job, seen: format!("{}, from {next}", summary(&gateway)) },
        alone: Did { job: alone.is_whole(), seen: summary(&alone) },
    });
    Ok(())
}

/// The same pull on both sides.
async fn both(show: &Show<'_>) -> Result<(Pull, Pull)> {
    let gateway = pull(&show.stage, Side::Gateway, &show.image, None, show.screen).await?;
    show.screen.say("\n  beside it: the same from Quay alone");
    let alone = pull(&show.stage, Side::Alone, &show.image, None, show.screen).await?;
    Ok((gateway, alone))
}

/// The pull came whole, every digest right, at the first try.
fn smooth(checks: &mut Checks, what: &str, pull: &Pull) -> bool {
    let expected = format!("{} of {} blobs at the first try", pull.wanted, pull.wanted);
    checks.that(what, expected, summary(pull), pull.is_smooth())
}

/// The blobs that began at home and went on elsewhere in mid-body, in words.
fn carried(pull: &Pull, home: &str) -> Vec<String> {
    let mut found = Vec::new();
    for blob in &pull.blobs {
        if let [.., before, last] = &blob.reads[..]
            && before.zone == home
            && last.zone != home
            && (1..blob.pulled.size).contains(&last.from)
        {
            found.push(format!("{} went on in {} at {}", blob.name, last.zone, format::bytes(last.from)));
        }
    }
    found
}

fn summary(pull: &Pull) -> String {
    let (came, wanted) = (pull.blobs.len(), pull.wanted);
    match &pull.failed {
        None => format!("{came} of {wanted} blobs in {}", format::time(pull.took)),
        Some(failed) => format!(
            "{came} of {wanted} blobs: {} fails, {} into the pull, {} tries: {}",
            failed.name,
            format::bytes(failed.after),
            failed.tries,
            failed.why,
        ),
    }
}

fn pace(bytes: u64, time: Duration) -> String {
    format!("{} in {}, {}", format::bytes(bytes), format::time(time), format::speed(bytes, time))
}
