//! Why the journal could not do what it was asked.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use postgres_connection::PostgresError;

/// Why the journal could not do what it was asked. Holds no password.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be made or reached.
    #[error("journal {place}: {source}")]
    File {
        /// The journal's file.
        place: String,
        /// What the system says.
        source: Arc<io::Error>,
    },
    /// SQLite cannot open the file, or it is not a database.
    #[error("journal {place}: {source}")]
    Open {
        /// The journal's file.
        place: String,
        /// What SQLite says.
        source: Arc<rusqlite::Error>,
    },
    /// A later release wrote it.
    #[error(
        "journal {place}: its schema is version {found}, this release knows {known}: run the release \
         that wrote it, or let that one finish its copies and then remove it"
    )]
    Newer {
        /// The file, or the database.
        place: String,
        /// The journal's version.
        found: i64,
        /// The latest version understood here.
        known: i64,
    },
    /// A statement or a commit failed, as on a full disk; nothing of the request was kept.
    #[error("journal: {0}")]
    Sqlite(Arc<rusqlite::Error>),
    /// PostgreSQL cannot be reached, or not yet again.
    #[error("journal {place}: cannot be reached: {why}")]
    Away {
        /// The database.
        place: String,
        /// What was said last.
        why: String,
    },
    /// PostgreSQL said no.
    #[error("journal {place}: {why}")]
    Refused {
        /// The database.
        place: String,
        /// What it said.
        why: String,
        /// Whether it says no to who we are or to our tables, which does not pass by itself.
        lasting: bool,
    },
    /// No answer within the bound; what was asked may yet be kept.
    #[error("journal: no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// Jobs were not written within the bound: what is before them takes too long.
    #[error(
        "journal: not written within {} s: {waiting} copies wait to be written; the disk or the \
         database is slow, or more is pushed at once than it takes", .bound.as_secs()
    )]
    Slow {
        /// How long was waited.
        bound: Duration,
        /// Copies that wait to be written.
        waiting: usize,
    },
    /// As many jobs wait to be written as may.
    #[error(
        "journal: {waiting} copies wait to be written, which is as many as may: too much is pushed at once"
    )]
    Crowded {
        /// Copies that wait to be written.
        waiting: usize,
    },
    /// The journal has ended.
    #[error("journal: closed")]
    Closed,
}

impl JournalError {
    /// Whether it stays until somebody mends it, so that a start should fail with it.
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

    /// Whether the journal is merely slow, or asked for too much at once; nothing says that its disk or
    /// its database fails.
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
