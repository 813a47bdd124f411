//! The journal, where it lies in a database: can it be reached, and is it ours?

use std::time::Duration;

use postgres_connection::Database;
use replication::{Journal, JournalError};
use rustls::ClientConfig;

use super::advice::{Advice, Peer, Trouble};
use super::progress::Line;
use super::step::{Name, Note, Steps, Walk};

/// Connecting, making the tables where they are not there, and a look at them.
const BOUND: Duration = Duration::from_secs(20);

/// What came of the journal's database.
#[derive(Debug, Clone)]
pub struct JournalReport {
    /// Which one, without its password.
    pub database: String,
    /// Its one step.
    pub steps: Steps,
}

/// StoreUse what a start does with it, within `each` if there is one.
pub(super) async fn check(
    database: &Database,
    tls: &ClientConfig,
    each: Option<Duration>,
    line: Line,
) -> JournalReport {
    let mut walk = Walk::new(Peer::default(), vec![Name::Journal], line);
    // The walk knows what failed.
    let _ = walk.step(Name::Journal, each.unwrap_or(BOUND), open(database.clone(), tls)).await;
    JournalReport { database: database.to_string(), steps: walk.end() }
}

async fn open(database: Database, tls: &ClientConfig) -> Result<((), Option<Note>), Trouble> {
    let journal = Journal::connect(database, tls).await.map_err(trouble)?;
    let waiting: u64 = journal.counts().await.map_err(trouble)?.iter().map(|count| count.jobs).sum();
    Ok(((), Some(Note::Info(format!("{waiting} copies wait in it")))))
}

fn trouble(error: JournalError) -> Trouble {
    let advice = match &error {
        JournalError::Refused { .. } => Advice::new(
            "user, password or database of `journal` are not the server's, or the user may not make tables there",
            "mend `journal`; GRANT CREATE ON SCHEMA public, or let its owner start a gateway once",
        ),
        JournalError::Newer { .. } => {
            Advice::new("a later release of the gateway shares this journal", "run that release here too")
        }
        _ => Advice::new(
            "the server is down, its address is wrong, or TLS to it fails: it must have a certificate for its name",
            "mend `journal`, or the server; `ca` must hold its root; sslmode=disable where it has no TLS",
        ),
    };
    Trouble::Told(error.to_string(), advice)
}
