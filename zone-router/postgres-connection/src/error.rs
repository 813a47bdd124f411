//! Why a statement failed.

use std::time::Duration;

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
