//! Why a wake stops, sorted by what is to be done about it.

use manyhands_store::{AppendError, Error as StoreError};

use crate::history::HistoryError;

/// Why a wake stopped before its rest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    /// Another owner has the session, or it is gone: not our business any more.
    #[error("the session has another owner, or is gone")]
    Lost,
    /// The store failed: another wake may do better.
    #[error(transparent)]
    Store(StoreError),
    /// The session itself cannot be worked on; three times the same and it is quarantined (security LOG-4).
    #[error("{0}")]
    Faulty(String),
    /// The wake did not get on while it did this (security I8).
    #[error("no progress while {0}")]
    Stalled(&'static str),
}

impl From<AppendError> for Stop {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::StaleEpoch { .. } | AppendError::Gone => Self::Lost,
            AppendError::UnreadInput => Self::Faulty("an unguarded append was refused".to_owned()),
            AppendError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged { .. } => Self::Faulty(error.to_string()),
            other => Self::Store(other),
        }
    }
}

impl From<HistoryError> for Stop {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Store(error) => error.into(),
            HistoryError::Unreadable(reason) => Self::Faulty(reason),
        }
    }
}
