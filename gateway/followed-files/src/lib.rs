#![doc = include_str!("../README.md")]

mod latest;
mod watch;

use std::io;
use std::time::Duration;

pub use latest::{Latest, Outcome, SETTLE};
pub use watch::{Begun, Watch, begin};

/// How often files are read without any sign of a change. inotify does not notice every change, for example on a
/// network file system.
pub const POLL: Duration = Duration::from_secs(60);

/// From the first sign of a change to the reading of the files, because more of them may follow. It is also the least
/// time between two reads.
pub const GATHER: Duration = Duration::from_millis(200);

/// Waits until a watch notices a change. Without a watch, or if it is broken, for ever: the poll goes on.
pub async fn noticed(watch: &mut io::Result<Watch>) {
    if let Ok(watch) = watch
        && watch.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}
