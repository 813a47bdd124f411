//! The play from its first act to its last.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tests::image::Image;

use crate::arguments::Arguments;
use crate::checks::Checks;
use crate::report::{self, Row};
use crate::screen::Screen;
use crate::stage::Stage;
use crate::{acts, format, image, picture, try_it};

/// What a failure means to whoever runs this.
const MEANING: &str = "All of this ran on loopback, on parts made for it: it says nothing of your registry and your stores, and it \
     changed nothing. A check that did not hold is a fault of the gateway or of this demo, not yours, unless this \
     machine ran out of room: the demo needs 1.5 GB in TMPDIR, file descriptors and loopback ports. Run \
     it again with --verbose, and report what it prints from the first NOT SEEN or the first WARN on.";

/// For all of it; a debug build on a slow machine takes a small part of it.
const PLAY_MAX: Duration = Duration::from_secs(600);

/// What the acts share.
pub(crate) struct Show<'a> {
    pub(crate) stage: Stage,
    pub(crate) image: Image,
    /// A folder for more images.
    pub(crate) folder: &'a Path,
    pub(crate) screen: &'a Screen,
    pub(crate) checks: Checks,
    pub(crate) rows: Vec<Row>,
}

/// How it ended.
pub(crate) enum Ending {
    /// All of it was seen to work.
    Worked,
    /// The same, and the stage stays up.
    Up(Box<Stage>),
    /// Something was not seen, and the user has been told.
    Failed,
}

/// Plays it all, and prepares the stage for what is tried by hand.
pub(crate) async fn play(arguments: &Arguments, folder: &Path, screen: &Screen) -> Result<Ending> {
    let start = Instant::now();
    let mut show = begin(folder, screen).await?;
    let played = tokio::time::timeout(PLAY_MAX, acts(&mut show)).await;
    let played = played
        .with_context(|| {
            format!("not over after {} s: this machine is too busy, or something hangs", PLAY_MAX.as_secs())
        })
        .and_then(|played| played);
    if let Err(error) = &played {
        screen.complain(&format!("{error:#}"));
    }
    let worked = end(&show, played.is_ok(), start.elapsed());
    if !worked {
        return Ok(Ending::Failed);
    }
    if arguments.once {
        return Ok(Ending::Worked);
    }
    if !arguments.home_down {
        show.stage.revive_home().await;
    }
    screen.title("By hand");
    screen.say(&try_it::lines(&show.stage, arguments.home_down));
    screen.say("\nCtrl-C ends it and takes everything away.");
    Ok(Ending::Up(Box::new(show.stage)))
}

async fn begin<'a>(folder: &'a Path, screen: &'a Screen) -> Result<Show<'a>> {
    screen.say(
        "This takes about half a minute, on a busy machine some minutes. Nothing is installed, nothing leaves this \
         machine, and nothing that is checked depends on speed.",
    );
    screen.title("1. Everything starts, in this one process");
    let stage = Stage::start(folder).await?;
    screen.say(&picture::picture(&stage));
    screen.title("2. An image is made and pushed through the gateway");
    let image = image::make(&folder.join("image"), 1, screen).await?;
    let layers = image.layers.len();
    screen.say(&format!(
        "  an image of {} in {layers} layers and a config",
        format::bytes(image::size(&image))
    ));
    Ok(Show { stage, image, folder, screen, checks: Checks::default(), rows: Vec::new() })
}

async fn acts(show: &mut Show<'_>) -> Result<()> {
    acts::push(show).await?;
    acts::cold(show).await?;
    acts::warm(show).await?;
    acts::outage(show).await?;
    acts::aftermath(show).await
}

/// Shows the table and what did not hold; whether all of it worked.
fn end(show: &Show<'_>, played: bool, took: Duration) -> bool {
    let screen = show.screen;
    screen.title("What was seen");
    screen.say(&report::table(&show.rows, screen.is_terminal()).to_string());
    screen.say(
        "Quay alone is the same stand-in over the same stores, asked directly, over plain HTTP; the gateway \
         speaks TLS. Every byte of every pull was hashed. Both may try each blob three times.",
    );
    for failed in show.checks.failed() {
        screen.say(&format!("NOT SEEN: {failed}"));
    }
    let (held, failed) = (show.checks.held(), show.checks.failed().len());
    let worked = played && failed == 0;
    let verdict = if worked { "It works" } else { "It does NOT work" };
    screen.say(&format!("{verdict}: {held} of {} checks held, in {}.", held + failed, format::time(took)));
    if !worked {
        screen.say(MEANING);
    }
    worked
}
