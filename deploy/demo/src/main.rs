//! The demo: runs quay-gateway, a stand-in for Quay and three object stores in one process, and shows what the
//! gateway does.

mod arguments;
mod checks;
mod copies;
mod demo_gateway;
mod diagram;
mod fixture;
mod folder;
mod format;
mod image;
mod log;
mod pull;
mod push;
mod quay_down;
mod reads;
mod report;
mod scenarios;
mod screen;
mod timeline;
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
use crate::screen::Screen;
use crate::timeline::{Ending, run_timeline};

/// How long file operations in progress may take at the end.
const DISK_TIMEOUT: Duration = Duration::from_secs(2);

/// 128 plus the number of SIGINT, as in shells.
const EXIT_INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let screen = Screen::new(arguments.verbose);
    run(&arguments, &screen).unwrap_or_else(|error| {
        screen.print_error(&format!("{error:#}"));
        ExitCode::FAILURE
    })
}

fn run(arguments: &Arguments, screen: &Screen) -> Result<ExitCode> {
    let folder = Folder::make()?;
    log::start(folder.path(), arguments.verbose)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the Tokio runtime cannot be started")?;
    let done = runtime.block_on(run_until_done(arguments, folder.path(), screen));
    if !matches!(done, Ok(code) if code != ExitCode::FAILURE) && !arguments.verbose {
        log::show_end(folder.path(), screen);
    }
    // A disk that hangs must not keep the process alive.
    runtime.shutdown_timeout(DISK_TIMEOUT);
    folder.remove();
    done
}

/// Runs the demo until its end or until a signal.
async fn run_until_done(arguments: &Arguments, folder: &Path, screen: &Screen) -> Result<ExitCode> {
    let mut interrupted = pin!(interrupted()?);
    let ending = tokio::select! {
        ending = run_timeline(arguments, folder, screen) => ending?,
        () = &mut interrupted => {
            screen.print("\nInterrupted.");
            return Ok(ExitCode::from(EXIT_INTERRUPTED));
        }
    };
    Ok(match ending {
        Ending::Failed => ExitCode::FAILURE,
        Ending::Worked => ExitCode::SUCCESS,
        Ending::Up(_fixture) => {
            interrupted.await;
            screen.print("\nStopping everything and removing all files.");
            ExitCode::SUCCESS
        }
    })
}

/// Catches SIGINT and SIGTERM from now on. The future resolves on the first of them.
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
