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

/// SQLite: busy, locked; the bits above say why (a recovery, a snapshot).
const SQLITE_RETRYABLE: [u32; 2] = [5, 6];

/// PostgreSQL and its like: serialisation failure, deadlock.
const SQLSTATE_RETRYABLE: [&str; 2] = ["40001", "40P01"];

/// Every SQLSTATE is so long, and no code of SQLite.
const SQLSTATE_CHARACTERS: usize = 5;

impl Fault {
    /// Another writer was in the way; nothing is wrong with the work itself.
    pub(super) fn is_retryable(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(error)) => {
                error.code().is_some_and(|code| is_retryable(&code))
            }
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

fn is_retryable(code: &str) -> bool {
    if code.len() == SQLSTATE_CHARACTERS {
        return SQLSTATE_RETRYABLE.contains(&code);
    }
    let primary = code.parse::<u32>().map(|code| code & 0xFF);
    primary.is_ok_and(|primary| SQLITE_RETRYABLE.contains(&primary))
}

impl From<Fault> for ControlStoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Domain(error) => error,
            Fault::Database(_) | Fault::Row { .. } => Self::Database(fault.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_cause_is_tried_again_and_nothing_else() {
        for code in ["5", "6", "261", "517", "773", "262", "40001", "40P01"] {
            assert!(is_retryable(code), "{code}");
        }
        // A constraint, a full disk, no database; a unique violation, text that is no UTF-8.
        for code in ["19", "1555", "13", "26", "", "23505", "22021", "HY000"] {
            assert!(!is_retryable(code), "{code}");
        }
    }
}
