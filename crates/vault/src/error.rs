//! What can go wrong, sorted by what is to be done about it. No text has a secret in it.

/// Why a secret cannot be had, or kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no master key, or not the one in use: tell the client to come back, and the operator what is missing. What
    /// needs no secret goes on (security CRED-1).
    #[error("the vaults are sealed: {why}")]
    Sealed {
        /// What is missing.
        why: String,
    },
    /// The service that keeps the master key does not answer: a retry may help.
    #[error("the key service does not answer: {reason}")]
    Unavailable {
        /// Its words.
        reason: String,
    },
    /// A sealed value was changed, moved or cut, or its key was: only this item is affected (security STORE-3).
    #[error("{item} cannot be opened: {reason}")]
    Damaged {
        /// Which.
        item: String,
        /// How.
        reason: &'static str,
    },
    /// A secret that cannot be sealed: tell the client.
    #[error(transparent)]
    NotSealed(#[from] crate::seal::NotSealed),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] manyhands_store::Error),
}

impl Error {
    /// Something that cannot be opened.
    pub(crate) fn damaged(item: impl Into<String>, reason: &'static str) -> Self {
        Self::Damaged {
            item: item.into(),
            reason,
        }
    }
}
