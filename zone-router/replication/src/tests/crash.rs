//! Tests the journal under kill -9: a child process adds jobs and prints which were acknowledged.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::super::conformance::{LONGEST_WAIT, blob, claim_all, new_job};
use super::super::{Journal, NewJob};

const PATH: &str = "FANOUT_CRASH_JOURNAL";
const ROUND: &str = "FANOUT_CRASH_ROUND";
const KILLS: usize = 20;
const WRITERS: usize = 4;

/// Not a test: the test below starts this as its child process.
#[test]
fn child() {
    let Ok(path) = std::env::var(PATH) else { return };
    let round = std::env::var(ROUND).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let journal = Journal::open(Path::new(&path)).unwrap();
        let writers = (0..WRITERS).map(|writer| {
            let (journal, round) = (journal.clone(), round.clone());
            tokio::spawn(async move {
                for number in 0.. {
                    let text = format!("{round}/{writer}/{number}");
                    let also = NewJob::new(blob(b"shared"), Arc::from("zone-c"), None, &text);
                    journal.add(vec![new_job(&text, "zone-b"), also]).await.unwrap();
                    // One write for each line, bypassing the capture of the test harness.
                    std::io::stdout().write_all(format!("added {text}\n").as_bytes()).unwrap();
                }
            })
        });
        futures_util::future::join_all(writers).await;
    });
}

#[test]
fn no_acknowledged_job_is_lost_by_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let mut acknowledged = HashSet::new();
    for round in 0..KILLS {
        // The kills range from before the file is complete to the middle of the work.
        let lines = if round % 4 == 0 { 0 } else { fastrand::usize(1..60) };
        acknowledged.extend(run_and_kill(&path, round, lines));
    }
    assert!(acknowledged.len() > KILLS, "the child did something: {}", acknowledged.len());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let journal = Journal::open(&path).unwrap();
        let zone = Arc::from("zone-b");
        let jobs = claim_all(&journal, &zone, 0, LONGEST_WAIT).await;
        let found: HashSet<_> = jobs.into_iter().map(|job| job.blob).collect();
        for text in &acknowledged {
            assert!(found.contains(&blob(text.as_bytes())), "{text} was acknowledged and is lost");
        }
        let counts = journal.counts().await.unwrap();
        assert_eq!(counts[1].jobs, 1, "one job for the shared blob");
    });
    let sound: String = rusqlite::Connection::open(&path)
        .unwrap()
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(sound, "ok");
}

/// Kills a child after `lines` acknowledgements, or during its start. Returns the jobs that it acknowledged.
fn run_and_kill(path: &Path, round: usize, lines: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::crash::child", "--nocapture"])
        .env(PATH, path)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    let mut keep = |line: String| said.extend(line.strip_prefix("added ").map(str::to_owned));
    if lines == 0 {
        #[expect(
            clippy::disallowed_methods,
            reason = "the kill comes at a moment of chance; nothing is waited for"
        )]
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..40)));
    } else {
        let harness = 3; // the most lines that the test harness prints
        output.by_ref().take(lines + harness).for_each(|line| keep(line.unwrap()));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    output.for_each(|line| keep(line.unwrap()));
    said
}
