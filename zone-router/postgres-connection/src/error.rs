//! Why a database could not do what it was asked.

use std::error::Error as _;
use std::time::Duration;

use backends::reason;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::Database;

/// Why a database could not do what it was asked. Holds no password.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PostgresError {
    /// It cannot be reached, or not yet again.
    #[error("{place}: cannot be reached: {why}")]
    Away {
        /// The database.
        place: String,
        /// What was said last.
        why: String,
    },
    /// It said no.
    #[error("{place}: {why}")]
    Refused {
        /// The database.
        place: String,
        /// What it said.
        why: String,
        /// Whether it says no to who we are or to our tables, which does not pass by itself.
        lasting: bool,
    },
    /// A later release made the tables.
    #[error("{place}: its schema is version {found}, this release knows {known}")]
    Newer {
        /// The database.
        place: String,
        /// The version of the tables.
        found: i64,
        /// The latest version understood here.
        known: i64,
    },
    /// No answer within the bound; what was asked may yet be done.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// The line has ended.
    #[error("closed")]
    Closed,
}

impl PostgresError {
    /// What the database said.
    #[must_use]
    pub fn said(database: &Database, error: &Error) -> Self {
        let place = database.place().to_owned();
        match error.as_db_error() {
            // It has no room for us now, or breaks.
            Some(said) if breaks(error) || *said.code() == SqlState::TOO_MANY_CONNECTIONS => {
                Self::Away { place, why: reason(said.message()) }
            }
            Some(said) => {
                // Not who we say we are, no such database, no right to make tables.
                let lasting = matches!(said.code().code().get(..2), Some("28" | "3D" | "42"));
                Self::Refused { place, why: reason(said.message()), lasting }
            }
            None => {
                let mut why = error.to_string();
                let mut cause = error.source();
                while let Some(error) = cause {
                    why = format!("{why}: {error}");
                    cause = error.source();
                }
                Self::Away { place, why: reason(&why) }
            }
        }
    }

    /// Whether it stays until somebody mends it.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Refused { lasting, .. } => *lasting,
            Self::Newer { .. } => true,
            Self::Away { .. } | Self::Late(_) | Self::Closed => false,
        }
    }
}

/// Whether it gave way to another transaction, and bears being asked again.
pub(super) fn gave_way(error: &Error) -> bool {
    let ways = [SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE];
    error.code().is_some_and(|code| ways.contains(code))
}

/// Whether the connection is of no more use: it broke, the server goes or comes, or it is a standby
/// by now, and another one is the primary.
pub(super) fn breaks(error: &Error) -> bool {
    error.as_db_error().is_none_or(|said| {
        let code = said.code().code();
        code.starts_with("57P")
            || code.starts_with("08")
            || *said.code() == SqlState::READ_ONLY_SQL_TRANSACTION
    })
}
