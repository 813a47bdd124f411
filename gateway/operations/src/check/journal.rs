//! Checks the journal if it is in PostgreSQL.

use std::time::Duration;

use postgres_connection::Database;
use replication::{Journal, JournalError};
use rustls::ClientConfig;

use super::advice::{Advice, Peer, StepError};
use super::progress::CheckLine;
use super::step::{StepName, StepNote, StepRunner, Steps};

/// The timeout for connecting, creating the tables if they are missing, and reading them.
const BOUND: Duration = Duration::from_secs(20);

/// The result of checking the journal's database.
#[derive(Debug, Clone)]
pub struct JournalCheck {
    /// The database, without its password.
    pub database: String,
    /// The one step.
    pub steps: Steps,
}

/// Opens the journal as `run` does, with the timeout `each` if it is given.
pub(super) async fn check(
    database: &Database,
    tls: &ClientConfig,
    each: Option<Duration>,
    line: CheckLine,
) -> JournalCheck {
    let mut runner = StepRunner::new(Peer::default(), vec![StepName::Journal], line);
    // The runner has recorded the failure.
    let _ = runner.step(StepName::Journal, each.unwrap_or(BOUND), open(database.clone(), tls)).await;
    JournalCheck { database: database.to_string(), steps: runner.end() }
}

async fn open(database: Database, tls: &ClientConfig) -> Result<((), Option<StepNote>), StepError> {
    let journal = Journal::connect(database, tls).await.map_err(step_error)?;
    let waiting: u64 = journal.counts().await.map_err(step_error)?.iter().map(|count| count.jobs).sum();
    Ok(((), Some(StepNote::Info(format!("{waiting} copies are pending")))))
}

fn step_error(error: JournalError) -> StepError {
    let advice = match &error {
        JournalError::Refused { .. } => Advice::new(
            "the user, the password or the database of `journal` is wrong, or the user may not create tables there",
            "correct `journal`; GRANT CREATE ON SCHEMA public, or start a gateway once as the owner of the database",
        ),
        JournalError::Newer { .. } => {
            Advice::new("a later release of the gateway uses this journal", "run that release here too")
        }
        _ => Advice::new(
            "the server is down, its address is wrong, or TLS to it fails: it must have a certificate for its name",
            "correct `journal`, or start the server; `ca` must contain its root; if the server has no TLS, set \
             sslmode=disable",
        ),
    };
    StepError::Explained(error.to_string(), advice)
}
