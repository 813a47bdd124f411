//! The task that makes the gateway follow the files of its configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::{ConfigError, Settings};
use followed_files::{Begun, GATHER, Latest, Outcome, POLL, SETTLE, Watch, begin, noticed};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::reload::{Reloaded, Reloader};

/// How often files are read that are still being written. After that, what was read last counts.
const TRIES: usize = 25;

/// Why the files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// An operator asks for it.
    Command,
    /// Something changed, or may have.
    Change,
}

impl Reloader {
    /// Follows the configuration at `path` for ever: by inotify, by a slow poll, and whenever `asked` is notified. What
    /// is refused changes nothing. Files that are wrong without a command are read again for some seconds before they
    /// are refused, because whoever replaces several files may be between two of them.
    pub async fn follow(self, path: PathBuf, asked: Arc<Notify>) {
        let mut latest = Latest::new(self.current().load().settings.clone());
        let (mut sign, mut unwatched) = (Sign::Change, false);
        loop {
            let Some((begun, read)) = read(&path, latest.value(), sign).await else {
                sleep(POLL).await;
                continue;
            };
            if sign == Sign::Command {
                self.reload_certificates();
            }
            let files = latest.value().files.clone();
            let doubtful = self.take(&mut latest, read, sign).await;
            if latest.value().files != files {
                // Others are to be watched now.
                sign = Sign::Change;
                continue;
            }
            let mut watch = begun.and_then(Watch::new);
            if let Err(error) = &watch
                && !std::mem::replace(&mut unwatched, true)
            {
                tracing::warn!(
                    %error,
                    "changes of the configuration are noticed only once a minute: raise fs.inotify.max_user_instances and \
                     fs.inotify.max_user_watches"
                );
            }
            sign = tokio::select! {
                biased;
                () = asked.notified() => Sign::Command,
                () = noticed(&mut watch) => Sign::Change,
                () = sleep(if doubtful { SETTLE } else { POLL }) => Sign::Change,
            };
            if sign == Sign::Change {
                sleep(GATHER).await;
            }
        }
    }

    /// Applies what was read. Returns whether it must be read again soon.
    async fn take(
        &self,
        latest: &mut Latest<Settings>,
        read: Result<Settings, ConfigError>,
        sign: Sign,
    ) -> bool {
        let metrics = Arc::clone(&self.current().load().metrics);
        let done = match read {
            Ok(wanted) if sign == Sign::Change && is_same(&wanted, latest.value()) => Ok(wanted),
            Ok(wanted) => self.reload(&wanted).await.map(|reloaded| {
                report(&reloaded);
                metrics.reloads().applied();
                wanted
            }),
            Err(error) => Err(error.into()),
        };
        let outcome = match (done, sign) {
            (Err(error), Sign::Command) => {
                let error = format!("{error:#}");
                latest.refused(error.clone(), Instant::now());
                Outcome::Refused(error)
            }
            (done, _) => latest.take(done, is_same, |error| format!("{error:#}"), Instant::now()),
        };
        match outcome {
            Outcome::Same | Outcome::Changed | Outcome::StillRefused => false,
            Outcome::Doubted(why) => {
                if let Some(error) = why {
                    tracing::info!(
                        error,
                        "the configuration cannot be used yet: it is read again in a moment"
                    );
                }
                true
            }
            Outcome::Refused(error) => {
                metrics.reloads().refused();
                tracing::error!(error, "the configuration is refused: nothing was changed");
                false
            }
        }
    }
}

/// Whether a reload would do nothing.
fn is_same(one: &Settings, other: &Settings) -> bool {
    config::changes(one, other).is_empty()
}

/// Begins a watch, and only then reads the files, so that no change falls between the two. `None` if that panicked,
/// which the log says, or the runtime ends.
async fn read(
    path: &Path,
    latest: &Settings,
    sign: Sign,
) -> Option<(std::io::Result<Begun>, Result<Settings, ConfigError>)> {
    let load = || {
        let (path, files) = (path.to_owned(), latest.files.clone());
        tokio::task::spawn_blocking(move || {
            let begun = begin(files.iter().map(PathBuf::as_path));
            (begun, config::load(&path))
        })
    };
    let mut found = load().await.ok()?;
    // A file that is being written may be valid without its end.
    for _ in 0..TRIES {
        let Ok(settings) = &found.1 else { break };
        if sign == Sign::Command || is_same(settings, latest) {
            break;
        }
        sleep(GATHER).await;
        let again = load().await.ok()?;
        if again.1.as_ref().is_ok_and(|again| is_same(again, settings)) {
            return Some(again);
        }
        found = again;
    }
    Some(found)
}

/// Logs what a reload did.
fn report(reloaded: &Reloaded) {
    let Reloaded { applied, restart } = reloaded;
    match applied.is_empty() {
        true => tracing::info!("configuration read again: nothing to apply"),
        false => {
            tracing::info!(keys = applied.join(" "), "configuration read again: applied, without a restart")
        }
    }
    if !restart.is_empty() {
        tracing::warn!(
            keys = restart.join(" "),
            "the configuration has changes that need a restart: they are not applied until then"
        );
    }
}
