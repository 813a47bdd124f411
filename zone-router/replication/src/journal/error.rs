//! Why a call of the journal failed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use postgres_connection::PostgresError;

/// Why a call of the journal failed. Contains no password.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be created or opened.
    #[error("journal {place}: {source}")]
    File {
        /// The journal's file.
        place: String,
        /// The error of the operating system.
        source: Arc<io::Error>,
    },
    /// SQLite cannot open the file, or it is not a database.
    #[error("journal {place}: {source}")]
    Open {
        /// The journal's file.
        place: String,
        /// The error of SQLite.
        source: Arc<rusqlite::Error>,
    },
    /// A later release wrote the journal.
    #[error(
        "journal {place}: its schema is version {found}, this release knows {known}: run the release \
         that wrote it, or let that one finish its copies and then remove it"
    )]
    Newer {
        /// The file, or the database.
        place: String,
        /// The journal's version.
        found: i64,
        /// The latest version that this release knows.
        known: i64,
    },
    /// A statement or a commit failed, for example because the disk is full. Nothing of the request was
    /// stored.
    #[error("journal: {0}")]
    Sqlite(Arc<rusqlite::Error>),
    /// PostgreSQL cannot be reached, or the connection is not ready yet.
    #[error("journal {place}: cannot be reached: {why}")]
    Away {
        /// The database.
        place: String,
        /// The last error.
        why: String,
    },
    /// PostgreSQL refused the login or a statement.
    #[error("journal {place}: {why}")]
    Refused {
        /// The database.
        place: String,
        /// Its message.
        why: String,
        /// Whether it refuses the login or the journal's tables, so that a retry cannot help.
        lasting: bool,
    },
    /// There was no answer within this time. The request may still be stored.
    #[error("journal: no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// Jobs were not written within the bound, because the jobs that were queued before them take too long.
    #[error(
        "journal: not written within {} s: {waiting} copies wait to be written; the disk or the \
         database is slow, or more is pushed at once than it takes", .bound.as_secs()
    )]
    Slow {
        /// The bound.
        bound: Duration,
        /// Jobs that wait to be written.
        waiting: usize,
    },
    /// The queue of jobs that wait to be written is full.
    #[error(
        "journal: {waiting} copies wait to be written, and the queue is full: too much is pushed at once"
    )]
    Crowded {
        /// Jobs that wait to be written.
        waiting: usize,
    },
    /// The journal was closed.
    #[error("journal: closed")]
    Closed,
}

impl JournalError {
    /// Whether only an operator can fix the error, so that the process should not start.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::File { .. } | Self::Open { .. } | Self::Newer { .. } => true,
            Self::Refused { lasting, .. } => *lasting,
            Self::Sqlite(_)
            | Self::Away { .. }
            | Self::Late(_)
            | Self::Slow { .. }
            | Self::Crowded { .. }
            | Self::Closed => false,
        }
    }

    /// Whether the journal is only slow or overloaded. This does not show that its disk or its database
    /// fails.
    #[must_use]
    pub fn is_slowness(&self) -> bool {
        matches!(self, Self::Late(_) | Self::Slow { .. } | Self::Crowded { .. })
    }
}

impl From<rusqlite::Error> for JournalError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(Arc::new(error))
    }
}

impl From<PostgresError> for JournalError {
    fn from(error: PostgresError) -> Self {
        match error {
            PostgresError::Away { place, why } => Self::Away { place, why },
            PostgresError::Refused { place, why, lasting } => Self::Refused { place, why, lasting },
            PostgresError::Newer { place, found, known } => Self::Newer { place, found, known },
            PostgresError::Late(bound) => Self::Late(bound),
            PostgresError::Closed => Self::Closed,
        }
    }
}
