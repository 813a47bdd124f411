//! Collects what a ticket needs into one archive, without secrets.
//!
//! The configuration goes in as its summary and as the names of its keys; its file does not. What the running gateway
//! says and the log are filtered line by line.

mod archive;
mod host;
mod log_tail;
mod redact;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

use self::redact::Redactor;
use crate::admin_client::AdminClient;

pub use archive::{BundleFile, archive, write};
pub use log_tail::LogTail;

/// The most bytes that are taken of the end of a log: 8 MiB.
pub const LOG_MAX: usize = 8 * 1024 * 1024;

/// The most bytes that are taken of one answer of the gateway: 4 MiB.
pub const ANSWER_MAX: usize = 4 * 1024 * 1024;

/// How long the facts about the machine may take. A disk may hang.
const HOST_TIMEOUT: Duration = Duration::from_secs(10);

/// What the running gateway is asked: the name of the file, the path, and what it is.
const ANSWERS: [(&str, &str, &str); 6] = [
    ("readyz.txt", "readyz", "whether the gateway is ready, GET /readyz"),
    ("status.json", "status", "zones, instances of the registry, cache and copies in short, GET /status"),
    ("zones.json", "api/v1/zones", "the state of each zone, GET /api/v1/zones"),
    ("queue.json", "api/v1/queue", "the pending copies of each zone, GET /api/v1/queue"),
    ("sweep.json", "api/v1/queue/sweep", "the progress of the sweep, GET /api/v1/queue/sweep"),
    ("metrics.txt", "metrics", "all metrics, GET /metrics"),
];

/// What the command line knows, and the rest of the bundle is made from.
#[derive(Debug)]
pub struct BundleParts {
    /// The version and the build of this program.
    pub version: String,
    /// The summary of the configuration as `check-config` prints it, or why it is refused.
    pub settings: anyhow::Result<String>,
    /// The keys that are set.
    pub keys: anyhow::Result<String>,
    /// Folders whose disks are looked at, each with its key.
    pub folders: Vec<(&'static str, PathBuf)>,
    /// The end of the log, if one was named.
    pub log: Option<LogTail>,
    /// The running gateway, or why it cannot be asked.
    pub admin_client: anyhow::Result<AdminClient>,
}

/// Collects the files. What cannot be had is no error: its file says why. `progress` gets a line for each step.
pub async fn collect(parts: BundleParts, progress: impl Fn(&str)) -> Vec<BundleFile> {
    let mut files = vec![
        BundleFile::of("version.txt", "this program: its version and its build", Ok(parts.version)),
        BundleFile::of("config.txt", "the configuration as check-config shows it", parts.settings),
        BundleFile::of(
            "config-keys.txt",
            "the keys that are set, without values that may be secret",
            parts.keys,
        ),
    ];
    progress("looking at this machine");
    let about = "the machine and the limits of this command, which are the gateway's own if it runs in the same container";
    files.push(BundleFile::of("host.txt", about, host(parts.folders).await));
    for (name, path, what) in ANSWERS {
        let file = match &parts.admin_client {
            Ok(admin_client) => {
                progress(&format!("asking the gateway for /{path}"));
                answer(admin_client, name, path, what).await
            }
            Err(error) => BundleFile::of(name, what, Err(anyhow::anyhow!("{error:#}"))),
        };
        files.push(file);
    }
    let what = "the last lines of the log";
    files.push(match parts.log {
        Some(log) => {
            progress("filtering the log");
            filtered("log.txt", what, &log.text, log.is_cut.then(|| format!("only the last {LOG_MAX} bytes")))
        }
        None => BundleFile::of("log.txt", what, Err(anyhow::anyhow!("no --log was given"))),
    });
    files
}

async fn host(folders: Vec<(&'static str, PathBuf)>) -> anyhow::Result<String> {
    let facts = tokio::task::spawn_blocking(move || {
        let folders: Vec<_> = folders.iter().map(|(key, folder)| (*key, folder.as_path())).collect();
        host::facts(&folders)
    });
    tokio::time::timeout(HOST_TIMEOUT, facts).await.context("a disk hangs")?.context("a fact is missing")
}

/// An answer of the gateway. An answer with an error is kept too.
async fn answer(
    admin_client: &AdminClient,
    name: &'static str,
    path: &str,
    what: &'static str,
) -> BundleFile {
    match admin_client.raw(path, ANSWER_MAX).await {
        Ok(answer) => {
            let cut = answer.is_cut.then(|| format!("only the first {ANSWER_MAX} bytes"));
            let status = (!answer.status.is_success()).then(|| format!("status {}", answer.status));
            let notes: Vec<_> = status.into_iter().chain(cut).collect();
            let note = (!notes.is_empty()).then(|| notes.join("; "));
            filtered(name, what, &String::from_utf8_lossy(&answer.body), note)
        }
        Err(error) => BundleFile::of(name, what, Err(error)),
    }
}

/// A file without what looks like a secret.
fn filtered(name: &'static str, what: &'static str, text: &str, note: Option<String>) -> BundleFile {
    let mut redactor = Redactor::default();
    let clean = redactor.text(text);
    let removed = (redactor.removed > 0)
        .then(|| format!("in {} lines something that looks like a secret was removed", redactor.removed));
    let notes: Vec<_> = note.into_iter().chain(removed).collect();
    let note = (!notes.is_empty()).then(|| notes.join("; "));
    BundleFile { name, what, note, contents: Some(clean) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_gateway_that_is_down_is_no_error() -> anyhow::Result<()> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let parts = BundleParts {
            version: "1".to_owned(),
            settings: Err(anyhow::anyhow!("refused")),
            keys: Ok("listen".to_owned()),
            folders: vec![("state_dir", "/no/such/folder".into())],
            log: Some(LogTail { text: "a\npassword=hunter2\n".to_owned(), is_cut: true }),
            admin_client: AdminClient::at(port, None, None),
        };
        let files = collect(parts, |_| ()).await;
        let of = |name: &str| files.iter().find(|file| file.name == name).expect("the file");
        assert!(of("zones.json").note.as_ref().is_some_and(|note| note.contains("no gateway answers")));
        assert!(of("config.txt").note.as_ref().is_some_and(|note| note == "missing: refused"));
        assert!(of("host.txt").contents.as_ref().is_some_and(|text| text.contains("Max open files")));
        assert_eq!(of("log.txt").contents.as_deref(), Some("a\npassword=*removed*\n"));
        let note = of("log.txt").note.clone().unwrap_or_default();
        assert!(note.contains("only the last") && note.contains("in 1 lines"), "{note}");
        Ok(())
    }
}
