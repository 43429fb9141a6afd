//! What can go wrong inside a transaction, and whether trying again may help.
//!
//! `sql` and the row files use it; nothing of it leaves the folder.

use super::ControlStoreError;

/// A verb that did not come through.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// A rule of the domain, or a row that is not there.
    #[error(transparent)]
    Domain(#[from] ControlStoreError),
    /// A row that no version of this program can have written.
    #[error("a row is damaged ({problem}); restore the database from a backup")]
    Row { problem: String },
}

/// SQLite: busy (5), locked (6), busy in a snapshot (517). PostgreSQL and its like: serialisation
/// failure, deadlock.
const RETRYABLE: [&str; 5] = ["5", "6", "517", "40001", "40P01"];

impl Fault {
    /// Another writer was in the way; nothing is wrong with the work itself.
    pub(super) fn is_retryable(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(error)) => error
                .code()
                .is_some_and(|code| RETRYABLE.contains(&code.as_ref())),
            Self::Database(_) | Self::Domain(_) | Self::Row { .. } => false,
        }
    }

    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self::Domain(ControlStoreError::Refused(message.into()))
    }

    pub(super) fn not_found(what: impl Into<String>) -> Self {
        Self::Domain(ControlStoreError::NotFound(what.into()))
    }
}

impl From<Fault> for ControlStoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Domain(error) => error,
            Fault::Database(_) | Fault::Row { .. } => Self::Database(fault.to_string()),
        }
    }
}
