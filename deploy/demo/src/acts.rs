//! The acts: each does a step with the gateway and at Quay alone, checks it, and adds a row.

use std::collections::BTreeMap;
use std::time::Duration;

use ::tests::zone::Zone;
use anyhow::Result;

use crate::checks::Checks;
use crate::play::Show;
use crate::pull::{Death, Pull, REPOSITORY, TAG, pull};
use crate::push::{self, Push};
use crate::report::{Did, Row};
use crate::stage::Side;
use crate::{copies, format, image};

/// The repository that is pushed to Quay alone.
const ALONE: &str = "admin/alone";

/// How often the home zone is made ready to die in mid-pull.
const OUTAGES_MAX: usize = 3;

/// The push, and the copies that follow it.
pub(crate) async fn push(show: &mut Show<'_>) -> Result<()> {
    let screen = show.screen;
    show.checks.promise("What is pushed through the gateway lies soon after, byte for byte, in every zone.");
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
    checks.promise("What is not cached comes whole and right from a zone's store, at the first try.");
    // Which zone is the nearest is measured: on a busy machine it may be another than home.
    let zones = names(&show.stage.site.zones);
    let job = smooth(checks, "cold pull", &gateway)
        & checks.equal("blobs from the zones, cold", gateway.wanted, gateway.out_of(&zones))
        & checks.equal("blobs that the named store was asked for", gateway.wanted, gateway.confirmed());
    let alone_job = smooth(checks, "pull from Quay alone", &alone)
        & checks.equal("blobs from home, Quay alone", alone.wanted, alone.from(&home));
    show.rows.push(Row {
        step: "pull, nothing cached",
        gateway: Did { job, seen: format!("{}, from {}", summary(&gateway), places(&gateway)) },
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
    checks.promise("What is cached is served from the cache, and no store is read for it.");
    let asked: usize = gateway.blobs.iter().map(|blob| blob.reads.len()).sum();
    let job = smooth(checks, "warm pull", &gateway)
        & checks.equal("blobs from the cache, warm", gateway.wanted, gateway.from("cache"))
        & checks.equal("reads of the stores, warm", 0, asked);
    let alone_job = smooth(checks, "second pull from Quay alone", &alone)
        & checks.equal("blobs from home again, Quay alone", alone.wanted, alone.from(&home));
    show.rows.push(Row {
        step: "pull again",
        gateway: Did { job, seen: format!("{}, from {}", summary(&gateway), places(&gateway)) },
        alone: Did { job: alone_job, seen: format!("{}, from {home}", summary(&alone)) },
    });
    Ok(())
}

/// The home zone's store dies in mid-pull, once under each side.
pub(crate) async fn outage(show: &mut Show<'_>) -> Result<()> {
    let home = show.stage.home().name.clone();
    show.screen.title(&format!("6. The cache is emptied, and {home} dies in mid-pull"));
    let image = show.image.clone();
    let [_, second, ..] = &image.layers[..] else { anyhow::bail!("the image has too few layers") };
    let death = Death { blob: second, after: second.size / 3 };
    let gateway = pull_on(show, death).await?;
    show.stage.revive_home().await;
    show.screen.say("\n  beside it: the same from Quay alone");
    let alone = pull(&show.stage, Side::Alone, &image, Some(death), show.screen).await?;

    let checks = &mut show.checks;
    checks.promise("When a store dies in mid-blob, its blob goes on at the next byte in another zone.");
    let others = names(&show.stage.site.zones[1..]);
    let job = smooth(checks, "pull while the home zone dies", &gateway);
    let carried = carried(&gateway, &home);
    let after = gateway.blobs.iter().skip_while(|blob| blob.pulled.digest != second.digest).skip(1);
    let (later, elsewhere) =
        after.fold((0, 0), |(all, good), blob| (all + 1, good + usize::from(others.contains(&&*blob.from))));
    let over = checks.that("the home zone died in mid-pull", "yes", "no", gateway.home_died)
        & checks.equal("blobs that went on in another zone in mid-body", 1, carried.len())
        & checks.equal("blobs from other zones after it died", later, elsewhere);
    checks.that(
        "a pull from Quay alone while the home zone dies",
        "a failure",
        summary(&alone),
        alone.home_died && !alone.is_whole(),
    );
    show.rows.push(Row {
        step: "pull, home dies in the middle",
        gateway: Did {
            job: job && over,
            seen: format!(
                "{}: {}, {elsewhere} more came from elsewhere",
                summary(&gateway),
                carried.join(", ")
            ),
        },
        alone: Did { job: alone.is_whole(), seen: summary(&alone) },
    });
    Ok(())
}

/// Pulls with an empty cache until the home zone is read where it is to die. Which zone is read first is
/// measured, so on a busy machine that may be another one.
async fn pull_on(show: &mut Show<'_>, death: Death<'_>) -> Result<Pull> {
    let mut tries = 1;
    loop {
        show.stage.gateway.restart_empty().await?;
        let pulled = pull(&show.stage, Side::Gateway, &show.image, Some(death), show.screen).await?;
        if pulled.home_died || tries == OUTAGES_MAX {
            return Ok(pulled);
        }
        tries += 1;
        show.stage.revive_home().await;
        show.screen.say("  the gateway read other zones first, as this machine is busy; once more");
    }
}

/// The home zone stays dead; the cache is empty again.
pub(crate) async fn aftermath(show: &mut Show<'_>) -> Result<()> {
    let home = show.stage.home().name.clone();
    show.screen.title(&format!("7. {home} stays dead, the cache is emptied again"));
    show.stage.gateway.restart_empty().await?;
    let (gateway, alone) = both(show).await?;
    let checks = &mut show.checks;
    checks.promise("With a zone's store dead and nothing cached, pulls go on from the other zones.");
    let others = names(&show.stage.site.zones[1..]);
    let job = smooth(checks, "pull without the home zone", &gateway)
        & checks.equal("blobs from the other zones", gateway.wanted, gateway.out_of(&others));
    checks.that(
        "a pull from Quay alone without the home zone",
        "a failure",
        summary(&alone),
        !alone.is_whole(),
    );
    show.rows.push(Row {
        step: "pull, home dead, nothing cached",
        gateway: Did { job, seen: format!("{}, from {}", summary(&gateway), places(&gateway)) },
        alone: Did { job: alone.is_whole(), seen: summary(&alone) },
    });
    Ok(())
}

fn names(zones: &[Zone]) -> Vec<&str> {
    zones.iter().map(|zone| &*zone.name).collect()
}

/// Where blobs came from, in words: `zone-a`, or `zone-a (5), zone-b (1)`.
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
