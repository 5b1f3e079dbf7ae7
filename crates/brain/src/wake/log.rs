//! What a wake hears from its session's log, and writes there.

use manyhands_protocol::EventId;
use manyhands_protocol::event::ModelUsage;
use manyhands_protocol::session::SessionStatus;
use manyhands_store::{Append, AppendError, Entry, NewEntry, UsageTotals};

use super::{Flow, Stop, Wake};
use crate::{answer, history, replay};

/// What an append does to the session's row.
#[derive(Clone, Copy)]
pub(super) struct Row {
    status: Option<SessionStatus>,
    usage: Option<UsageTotals>,
    active_millis: Option<i64>,
}

impl Row {
    pub(super) fn of(append: &Append) -> Self {
        Self {
            status: append.status,
            usage: append.usage,
            active_millis: append.active_millis,
        }
    }
}

impl Wake {
    /// Folds what clients have sent since, if they have sent anything.
    pub(super) async fn hear(&mut self) -> Result<(), Stop> {
        if self.signal.has_changed().unwrap_or(false) {
            self.signal.mark_unchanged();
            self.catch_up().await?;
        }
        Ok(())
    }

    /// Folds all entries after the last folded one.
    pub(super) async fn catch_up(&mut self) -> Result<(), Stop> {
        let (store, session) = (&self.shared.store, &self.lease.session);
        let (budget, active) = (&mut self.record.budget, &mut self.active);
        let activity = &self.activity;
        let hear = |entry: &Entry| {
            // Each entry of a long log is progress.
            activity.progress();
            *budget = replay::new_budget(entry).unwrap_or(*budget);
            active.hear(entry);
        };
        history::catch_up(store, session, &mut self.transcript, hear).await?;
        Ok(())
    }

    pub(super) fn fold(&mut self, entries: &[Entry]) -> Result<(), Stop> {
        for entry in entries {
            self.transcript
                .fold(entry)
                .map_err(|error| Stop::Faulty(error.to_string()))?;
        }
        Ok(())
    }

    /// Appends and folds what was appended, and what came before it.
    pub(super) async fn append(&mut self, append: Append) -> Result<(), Stop> {
        let row = Row::of(&append);
        let entries = self.shared.store.append(&self.lease, append).await?;
        self.absorb(&entries, row).await
    }

    /// Appends these, if there are any.
    pub(super) async fn write(&mut self, entries: Vec<NewEntry>) -> Result<(), Stop> {
        if entries.is_empty() {
            return Ok(());
        }
        self.append(Append {
            entries,
            ..Append::default()
        })
        .await
    }

    /// Folds what was appended, and what came before it.
    pub(super) async fn absorb(&mut self, entries: &[Entry], row: Row) -> Result<(), Stop> {
        if let Some(usage) = row.usage {
            self.usage = usage;
        }
        self.activity.progress();
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Ok(());
        };
        if first.position == self.transcript.position + 1 {
            self.active.wrote(row.status, last);
            self.fold(entries)?;
        } else {
            self.catch_up().await?;
        }
        self.active.showed(row.active_millis);
        Ok(())
    }

    /// Appends, unless a client's input has not been read: then nothing is written and the input is folded. Either way
    /// the caller decides again.
    pub(super) async fn append_if_read(&mut self, append: Append) -> Result<Flow, Stop> {
        let row = Row::of(&append);
        let read_to = self.transcript.position;
        let appended = self
            .shared
            .store
            .append_if_read(&self.lease, append, read_to);
        match appended.await {
            Ok(entries) => self.absorb(&entries, row).await?,
            Err(AppendError::UnreadInput) => self.catch_up().await?,
            Err(error) => return Err(error.into()),
        }
        Ok(Flow::Continue)
    }

    /// Appends and gives the lease back, unless a client's input has not been read: then nothing is written, the
    /// input is folded and the caller decides again.
    pub(super) async fn append_and_rest(&mut self, append: Append) -> Result<Flow, Stop> {
        let row = Row::of(&append);
        let read_to = self.transcript.position;
        let appended = self
            .shared
            .store
            .append_and_rest(&self.lease, append, read_to);
        match appended.await {
            Ok(entries) => {
                // The lease is gone: only what is in hand may be folded.
                let contiguous = entries
                    .first()
                    .is_none_or(|first| first.position == self.transcript.position + 1);
                if contiguous {
                    self.absorb(&entries, row).await?;
                }
                Ok(Flow::Rested)
            }
            Err(AppendError::UnreadInput) => {
                self.catch_up().await?;
                Ok(Flow::Continue)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The end of a request that a crash cut off, if there is one: what it used is not known.
    pub(super) fn close_span(&self) -> Option<NewEntry> {
        let start: &EventId = self.transcript.open_span.as_ref()?;
        Some(answer::span_end(start, true, ModelUsage::default()))
    }
}
