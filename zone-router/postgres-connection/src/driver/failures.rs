//! What the errors of the driver mean.

use std::error::Error as _;

use backends::reason;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::Database;
use crate::PostgresError;

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
