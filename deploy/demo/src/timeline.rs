//! Runs all scenarios in order and prints the results.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use harness::image::Image;

use crate::arguments::{Arguments, Scenario};
use crate::checks::Checks;
use crate::fixture::Fixture;
use crate::report::{self, Row};
use crate::screen::Screen;
use crate::{diagram, format, image, quay_down, scenarios, try_it};

/// Help for the user after a failure.
const FAILURE_HELP: &str = "The demo ran only on loopback and with its own stores, so this says nothing about your registry and your \
     stores, and nothing was changed. A failed check is a bug in the gateway or in this demo, unless this machine ran \
     out of resources: the demo needs 1.5 GB in TMPDIR, file descriptors and loopback ports. Run it again with \
     --verbose, and report what it prints from the first FAILED or the first WARN on.";

/// The timeout for all scenarios. A debug build on a slow machine takes a small part of it.
const TIMELINE_MAX: Duration = Duration::from_secs(600);

/// The state that all scenarios share.
pub(crate) struct DemoRun<'a> {
    pub(crate) fixture: Fixture,
    pub(crate) image: Image,
    /// The folder for further images.
    pub(crate) folder: &'a Path,
    pub(crate) screen: &'a Screen,
    pub(crate) checks: Checks,
    pub(crate) rows: Vec<Row>,
}

/// How the demo ended.
pub(crate) enum Ending {
    /// Every check passed.
    Worked,
    /// Every check passed, and the fixture keeps running.
    Up(Box<Fixture>),
    /// A check failed or there was an error. It has been printed.
    Failed,
}

/// Runs all scenarios, and prepares the fixture for pushes and pulls by hand.
pub(crate) async fn run_timeline(arguments: &Arguments, folder: &Path, screen: &Screen) -> Result<Ending> {
    let start = Instant::now();
    let mut run = begin(folder, screen).await?;
    let result = tokio::time::timeout(TIMELINE_MAX, scenarios(&mut run, arguments.scenario)).await;
    let result = result
        .with_context(|| {
            format!(
                "not finished after {} s: this machine is too busy, or something hangs",
                TIMELINE_MAX.as_secs()
            )
        })
        .and_then(|result| result);
    if let Err(error) = &result {
        screen.print_error(&format!("{error:#}"));
    }
    let worked = end(&run, result.is_ok(), start.elapsed());
    if !worked {
        return Ok(Ending::Failed);
    }
    if arguments.once {
        return Ok(Ending::Worked);
    }
    match arguments.home_down {
        true => run.fixture.kill_home().await,
        false => run.fixture.revive_home().await,
    }
    screen.title("Try it yourself");
    screen.print(&try_it::lines(&run.fixture, arguments.home_down));
    screen.print("\nCtrl-C stops the demo and removes all its files.");
    Ok(Ending::Up(Box::new(run.fixture)))
}

async fn begin<'a>(folder: &'a Path, screen: &'a Screen) -> Result<DemoRun<'a>> {
    screen.print(
        "This takes about half a minute, or a few minutes on a busy machine. Nothing is installed, nothing leaves this \
         machine, and no check depends on speed.",
    );
    screen.title("1. Everything starts in this process");
    let fixture = Fixture::start(folder).await?;
    screen.print(&diagram::diagram(&fixture));
    screen.title("2. An image is generated and pushed through the gateway");
    let image = image::make(&folder.join("image"), 1, screen).await?;
    let layers = image.layers.len();
    screen.print(&format!(
        "  an image of {} in {layers} layers and a config",
        format::bytes(image::size(&image))
    ));
    Ok(DemoRun { fixture, image, folder, screen, checks: Checks::default(), rows: Vec::new() })
}

async fn scenarios(run: &mut DemoRun<'_>, scenario: Scenario) -> Result<()> {
    if scenario == Scenario::QuayDown {
        return quay_down::quay_down(run).await;
    }
    scenarios::push(run).await?;
    scenarios::cold_pull(run).await?;
    scenarios::warm_pull(run).await?;
    scenarios::outage(run).await?;
    scenarios::pull_without_home(run).await?;
    quay_down::quay_down(run).await
}

/// Prints the table and the failed checks. Returns whether everything worked.
fn end(run: &DemoRun<'_>, result: bool, took: Duration) -> bool {
    let screen = run.screen;
    screen.title("Results");
    screen.print(&report::table(&run.rows, screen.is_terminal()).to_string());
    screen.print(
        "Quay only: the same stand-in with the same stores, used directly over plain HTTP; the gateway uses TLS. \
         Every byte of every pull was hashed. On both sides, each blob may be tried three times.",
    );
    for failed in run.checks.failed() {
        screen.print(&format!("FAILED: {failed}"));
    }
    let (passed, failed) = (run.checks.passed(), run.checks.failed().len());
    let worked = result && failed == 0;
    let verdict = if worked { "It works" } else { "It does NOT work" };
    screen.print(&format!(
        "{verdict}: {passed} of {} checks passed in {}.",
        passed + failed,
        format::time(took)
    ));
    if !worked {
        screen.print(FAILURE_HELP);
    }
    worked
}
