//! Tests for any [`Place`]: what every engine of the journal must do, and what lanes do over it.
//!
//! The tests of this crate run them over SQLite. The tests that start servers run them over PostgreSQL.
#![allow(clippy::unwrap_used, reason = "these are tests; a server's tests are in another crate")]

/// Defines a group of cases: `run` for any place, and, in the tests of this crate, each case over SQLite.
macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        /// Runs every case of this group, each in a place of its own.
        ///
        /// # Panics
        /// A case fails.
        pub async fn run<F: Future<Output = Arc<dyn Place>>>(place: impl Fn() -> F) {
            $(
                tracing::info!(case = stringify!($case), "conformance");
                $case(place().await).await;
            )*
        }

        #[cfg(test)]
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(crate::tests::FilePlace::create()).await;
            })*
        }
    };
}

pub mod authority;
pub mod inspect;
pub mod journal;
pub mod lanes;
mod scripted;
pub mod tries;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backends::{Digest, Key};
use zone_router::Blob;

pub use scripted::{Mode, Scripted};

use super::{Job, Journal, NewJob, Next};

/// The longest wait of a job in these tests.
pub const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// A place where a journal is stored. It outlives the journals that are opened on it.
#[async_trait]
pub trait Place: Send + Sync {
    /// Opens the journal.
    async fn open(&self) -> Journal;

    /// Whether several replicas may share the journal.
    fn is_shared(&self) -> bool;

    /// Makes every later change of a job's row fail with the error `rewritten`. A change of the stamp alone
    /// may pass if no index has it.
    async fn refuse_rewrites(&self);
}

/// The blob with these bytes.
#[must_use]
pub fn blob(bytes: &[u8]) -> Blob {
    let digest = Digest::of(bytes);
    Blob { digest, key: Key::new(format!("sha256/{}/{}", &digest.hex()[..2], digest.hex())) }
}

/// A job to copy the blob with this text, of a known size.
#[must_use]
pub fn new_job(text: &str, target: &str) -> NewJob {
    NewJob::new(blob(text.as_bytes()), target.into(), Some(text.len() as u64), "org/repo")
}

/// A job as a lane claims it.
pub(crate) fn job(blob: Blob, target: &str, size: Option<u64>) -> Job {
    let (target, repositories) = (Arc::from(target), Vec::new());
    Job { blob, target, size, is_contradicted: false, repositories, attempts: 0, stamp: 0 }
}

/// Claims every due job of the zone; `claims` is the number of the first claim.
///
/// # Panics
/// The journal cannot be read.
pub async fn claim_all(
    journal: &Journal,
    zone: &Arc<str>,
    mut claims: u32,
    longest_wait: Duration,
) -> Vec<Job> {
    let mut jobs: Vec<Job> = Vec::new();
    loop {
        let under_way: Vec<Digest> = jobs.iter().map(|job| job.blob.digest).collect();
        match journal.claim(zone, claims, under_way, longest_wait).await.unwrap() {
            Next::Job(job) => jobs.push(job),
            Next::Wait(_) => return jobs,
        }
        claims += 1;
    }
}
