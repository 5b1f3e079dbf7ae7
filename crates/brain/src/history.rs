//! A session's log → its transcript: from the last summary on, in pages.

use manyhands_protocol::{SessionId, Timestamp};
use manyhands_store::{Entry, Error as StoreError, Store};
use serde::Serialize;

use crate::record::COMPACTION;
use crate::replay::{Compaction, FoldError, Transcript};

/// Why a session's history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An entry is damaged, or was written by a newer version.
    #[error("{0}")]
    Unreadable(String),
}

impl From<FoldError> for HistoryError {
    fn from(error: FoldError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// A summary that took the place of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The position of its entry in the log: all before it is out of the model's sight.
    pub position: i64,
    /// When it was written.
    pub at: Timestamp,
    /// The model that wrote it.
    pub model: String,
    /// About how many tokens the conversation had before.
    pub tokens_before: u64,
    /// Its text.
    pub summary: String,
}

/// All summaries of a session, oldest first (runtime CC-1, CC-2).
///
/// # Errors
/// When the store fails or an entry cannot be read.
pub async fn compactions(store: &Store, session: &SessionId) -> Result<Vec<Summary>, HistoryError> {
    let entries = store.privates(session, COMPACTION).await?;
    entries.iter().map(summary).collect()
}

fn summary(entry: &Entry) -> Result<Summary, HistoryError> {
    let body: Compaction = serde_json::from_str(&entry.body).map_err(|error| {
        HistoryError::Unreadable(format!("entry {} cannot be read: {error}", entry.position))
    })?;
    Ok(Summary {
        position: entry.position,
        at: entry.created_at,
        model: body.model,
        tokens_before: body.tokens_before,
        summary: body.summary,
    })
}

/// Entries that are read at once.
const PAGE: u32 = 1000;

/// A log of so few entries is read from its beginning, without a look for a summary.
const SHORT: i64 = 64;

/// Where the fold of a log of this length begins: with the last summary, which stands for all before it, or with nothing.
pub(crate) async fn start(
    store: &Store,
    session: &SessionId,
    last_position: i64,
) -> Result<Transcript, HistoryError> {
    if last_position <= SHORT {
        return Ok(Transcript::default());
    }
    match store.last_private(session, COMPACTION).await? {
        Some(entry) => Ok(Transcript::from_compaction(&entry)?),
        None => Ok(Transcript::default()),
    }
}

/// Folds all entries after the last folded one, each shown to `seen`.
pub(crate) async fn catch_up(
    store: &Store,
    session: &SessionId,
    transcript: &mut Transcript,
    mut seen: impl FnMut(&Entry),
) -> Result<(), HistoryError> {
    loop {
        let entries = store.read(session, transcript.position, PAGE).await?;
        for entry in &entries {
            transcript.fold(entry)?;
            seen(entry);
        }
        if entries.len() < PAGE as usize {
            return Ok(());
        }
    }
}
