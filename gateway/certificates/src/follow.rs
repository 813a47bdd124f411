//! The task that makes the TLS configuration follow its files.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use followed_files::{Begun, GATHER, POLL, SETTLE, Watch, begin, noticed};

use crate::server_tls::{Reloaded, ServerTls};

/// How often certificates that expire soon are reported.
const REPORT: Duration = Duration::from_secs(24 * 3600);

/// Follows the files of the TLS configuration for ever: by inotify, by a slow poll, and whenever
/// [`ServerTls::reload_soon`] asks. Reports certificates that expire soon: now, at each change, and once a day.
pub async fn follow(tls: Arc<ServerTls>) {
    tls.report();
    let (mut reported, mut unwatched) = (Instant::now(), false);
    loop {
        let work = Arc::clone(&tls);
        let Ok((begun, reloaded)) = tokio::task::spawn_blocking(move || read(&work)).await else {
            // It panicked, which the log says, or the runtime ends.
            tokio::time::sleep(POLL).await;
            continue;
        };
        if reloaded.changed || reported.elapsed() >= REPORT {
            tls.report();
            reported = Instant::now();
        }
        let mut watch = begun.and_then(Watch::new);
        if let Err(error) = &watch
            && !std::mem::replace(&mut unwatched, true)
        {
            tracing::warn!(
                %error,
                "changes of certificates are noticed only once a minute: raise fs.inotify.max_user_instances and \
                 fs.inotify.max_user_watches"
            );
        }
        let pause = if reloaded.doubtful { SETTLE } else { POLL };
        tokio::select! {
            () = noticed(&mut watch) => {}
            () = tls.asked.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
        tokio::time::sleep(GATHER).await;
    }
}

/// Begins a watch, and only then reads the files, so that no change falls between the two.
fn read(tls: &ServerTls) -> (io::Result<Begun>, Reloaded) {
    let begun = begin(tls.watched());
    (begun, tls.reload(Instant::now()))
}
