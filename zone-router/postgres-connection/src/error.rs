//! Why a statement failed.

use std::error::Error as _;
use std::time::Duration;

use backends::reason;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::Database;

/// Why a statement failed. Contains no password.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PostgresError {
    /// The database cannot be reached, or the connection is not ready yet.
    #[error("{place}: cannot be reached: {why}")]
    Away {
        /// The database.
        place: String,
        /// The last error.
        why: String,
    },
    /// The database refused the login or the statement.
    #[error("{place}: {why}")]
    Refused {
        /// The database.
        place: String,
        /// Its message.
        why: String,
        /// Whether the server refuses the login or the tables, which no retry can change.
        lasting: bool,
    },
    /// A later release created the tables.
    #[error("{place}: its schema is version {found}, this release knows {known}")]
    Newer {
        /// The database.
        place: String,
        /// The version of the tables.
        found: i64,
        /// The latest version that this release knows.
        known: i64,
    },
    /// No answer within this time; the statement may still be carried out.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// The connection was ended by its owner.
    #[error("closed")]
    Closed,
}

impl PostgresError {
    /// The error of a statement or of the connection.
    #[must_use]
    pub fn said(database: &Database, error: &Error) -> Self {
        let place = database.place().to_owned();
        match error.as_db_error() {
            // The server has no free connection, or the connection broke.
            Some(said) if breaks(error) || *said.code() == SqlState::TOO_MANY_CONNECTIONS => {
                Self::Away { place, why: reason(said.message()) }
            }
            Some(said) => {
                // A wrong login, a missing database, or no right to create tables.
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

    /// Whether only an operator can repair the cause.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Refused { lasting, .. } => *lasting,
            Self::Newer { .. } => true,
            Self::Away { .. } | Self::Late(_) | Self::Closed => false,
        }
    }
}

/// Whether the statement was aborted in favour of another transaction, so that it can be retried.
pub(super) fn gave_way(error: &Error) -> bool {
    let ways = [SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE];
    error.code().is_some_and(|code| ways.contains(code))
}

/// Whether the connection can no longer be used: it broke, the server stops or starts, or the server has
/// become a standby.
pub(super) fn breaks(error: &Error) -> bool {
    error.as_db_error().is_none_or(|said| {
        let code = said.code().code();
        code.starts_with("57P")
            || code.starts_with("08")
            || *said.code() == SqlState::READ_ONLY_SQL_TRANSACTION
    })
}
