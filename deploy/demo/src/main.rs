//! The demo: quay-gateway at work before your eyes, all of it in this one process.

mod acts;
mod checks;
mod copies;
mod folder;
mod format;
mod image;
mod log;
mod picture;
mod play;
mod pull;
mod push;
mod reads;
mod report;
mod running;
mod screen;
mod stage;
mod try_it;

use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::folder::Folder;
use crate::play::{Ending, play};
use crate::screen::Screen;

/// Shows what quay-gateway does, in one process and under a minute.
///
/// It starts three object stores (5, 40 and 120 ms away), a stand-in for Red Hat Quay over them,
/// and the gateway before it. Then it pushes an image of 200 MB through the gateway, watches the
/// copies arrive in the other zones, pulls the image cold and warm, kills the home zone's store in
/// mid-pull and pulls on, and does the same at Quay alone. It ends in a table of what was measured,
/// and stays up so that you can push and pull by hand with the podman and skopeo lines it prints.
///
/// Nothing is installed, no other program is started, and only loopback ports are used. All files
/// lie in one temporary folder (TMPDIR, about 1.5 GB at most) that goes when the demo ends.
#[derive(Debug, Parser)]
#[command(
    name = "demo",
    version,
    after_help = "Exit status: 0 if all of it was seen to work, 1 if not (what was expected and what was \
                  seen is printed), 130 if interrupted before the end."
)]
struct Arguments {
    /// End after the table instead of staying up.
    #[arg(long)]
    once: bool,
    /// Leave the home zone dead at the end, to pull by hand without it (pushes need it).
    #[arg(long, conflicts_with = "once")]
    home_down: bool,
    /// Show what the gateway logs, without progress bars. Otherwise warnings go to a file.
    #[arg(long)]
    verbose: bool,
}

/// For reads and writes of files under way at the end.
const DISK_TIMEOUT: Duration = Duration::from_secs(2);

/// 128 and the number of SIGINT, as shells have it.
const EXIT_INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let screen = Screen::new(arguments.verbose);
    run(&arguments, &screen).unwrap_or_else(|error| {
        screen.complain(&format!("{error:#}"));
        ExitCode::FAILURE
    })
}

fn run(arguments: &Arguments, screen: &Screen) -> Result<ExitCode> {
    let folder = Folder::make()?;
    log::start(folder.path(), arguments.verbose)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let done = runtime.block_on(show(arguments, folder.path(), screen));
    if !matches!(done, Ok(code) if code != ExitCode::FAILURE) && !arguments.verbose {
        log::show_end(folder.path(), screen);
    }
    // The stage is struck; a disk that hangs must not keep the process.
    runtime.shutdown_timeout(DISK_TIMEOUT);
    folder.remove();
    done
}

/// Plays until the end, or until somebody has had enough.
async fn show(arguments: &Arguments, folder: &Path, screen: &Screen) -> Result<ExitCode> {
    let mut interrupted = pin!(interrupted()?);
    let ending = tokio::select! {
        ending = play(arguments, folder, screen) => ending?,
        () = &mut interrupted => {
            screen.say("\nInterrupted.");
            return Ok(ExitCode::from(EXIT_INTERRUPTED));
        }
    };
    Ok(match ending {
        Ending::Failed => ExitCode::FAILURE,
        Ending::Worked => ExitCode::SUCCESS,
        Ending::Up(_stage) => {
            interrupted.await;
            screen.say("\nAll of it goes away.");
            ExitCode::SUCCESS
        }
    })
}

/// Resolves on SIGINT and SIGTERM, caught from here on.
fn interrupted() -> Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
