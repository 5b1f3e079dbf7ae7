//! What can go wrong, sorted by what is to be done about it.

/// A failure of the store itself. The caller did nothing wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The database cannot be opened or used as it is: stop, and tell the operator.
    #[error("{operation}: {reason}")]
    Setup {
        /// What was attempted.
        operation: &'static str,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Another program wrote the database, with a schema that this one does not work on (security STORE-5): tell the
    /// operator which program to use.
    #[error("the database has schema version {found}, and this program works on {known}")]
    Schema {
        /// The version that was found.
        found: i64,
        /// This program's.
        known: i64,
    },
    /// A directory that has to be new or empty is not.
    #[error("{directory} is not empty")]
    NotEmpty {
        /// The directory.
        directory: String,
    },
    /// Another process holds the data directory (SQLite).
    #[error("the data directory {directory} is in use by process {pid}")]
    InUse {
        /// The directory.
        directory: String,
        /// The holder's process id, or "unknown".
        pid: String,
    },
    /// The disk is full: refuse new work, keep reads alive (security STORE-4).
    #[error("{operation}: no space left for the database")]
    NoSpace {
        /// What was attempted.
        operation: &'static str,
    },
    /// The database did not answer as it should; a retry may help.
    #[error("{operation}: {reason}")]
    Unavailable {
        /// What was attempted.
        operation: &'static str,
        /// The driver's words.
        reason: String,
    },
    /// The database went away while it was told to keep a write: it may be there or not. Whoever writes on the strength
    /// of the log reads it again; whoever cannot must not simply try again.
    #[error("{operation}: {reason}; whether it was written is unknown")]
    Unknown {
        /// What was attempted.
        operation: &'static str,
        /// The driver's words.
        reason: String,
    },
    /// The caller asked for what cannot be: a defect of the program, not to be tried again.
    #[error("{operation}: {reason}")]
    Invalid {
        /// What was attempted.
        operation: &'static str,
        /// Why it cannot be.
        reason: String,
    },
    /// The workspace would keep more than it may: nothing was written, and the client is told (security STORE-4).
    #[error("the workspace has {used} of {quota} {what}")]
    OverQuota {
        /// Of what, such as `bytes`.
        what: &'static str,
        /// How much it may keep.
        quota: u64,
        /// How much it keeps.
        used: u64,
    },
    /// A stored item fails its checksum or cannot be read: only this item is affected (security STORE-3).
    #[error("{item} is damaged: {reason}")]
    Damaged {
        /// Which item.
        item: String,
        /// How it is damaged.
        reason: String,
    },
}

impl Error {
    /// That this stored item is not as it should be.
    pub(crate) fn damaged(item: impl Into<String>, reason: impl ToString) -> Self {
        Self::Damaged {
            item: item.into(),
            reason: reason.to_string(),
        }
    }
}

/// Why a brain's append was refused. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Another owner has the session now: stop at once (security LEASE-1).
    #[error("the lease of epoch {epoch} is no longer valid")]
    StaleEpoch {
        /// The epoch that was refused.
        epoch: i64,
    },
    /// A client's input came in after the position the caller had read: fold again.
    #[error("there is input the brain has not read")]
    UnreadInput,
    /// The session is gone or archived: stop.
    #[error("the session is gone")]
    Gone,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}
