//! The demo: quay-gateway at work before your eyes, all of it in this one process.

mod acts;
mod arguments;
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
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::Arguments;
use crate::folder::Folder;
use crate::play::{Ending, play};
use crate::screen::Screen;

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
