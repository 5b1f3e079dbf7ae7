//! What a model must not trust any more: files that it wrote in a sandbox that is gone (runtime EN-18, EN-19, security TOOL-3).
//!
//! The log knows which calls were begun, and the checkpoint or the host up to which of them the files are whole. Only where
//! calls were begun beyond that something may be missing, and only then it is said.

use manyhands_hands::Sandbox;
use manyhands_hands::provider::Origin;
use manyhands_protocol::Timestamp;

use super::{Stop, Wake};
use crate::record::{TOOL_STARTED, ToolStarted};

/// A call that was begun, as the log has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Begun {
    position: i64,
    epoch: i64,
    at: Timestamp,
}

/// Up to where the files of a sandbox are whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whole {
    /// They are new.
    Nothing,
    /// They hold what calls of owners up to this epoch have written.
    Owners(i64),
    /// They hold what calls up to this place in the log have written.
    Log(i64),
}

impl Whole {
    fn holds(self, begun: &Begun) -> bool {
        match self {
            Self::Nothing => false,
            Self::Owners(epoch) => begun.epoch <= epoch,
            Self::Log(position) => begun.position <= position,
        }
    }
}

/// What to tell the model of a sandbox whose files are `whole`, with the calls that were begun, oldest first.
fn missing(whole: Whole, expired: bool, begun: &[Begun]) -> Option<String> {
    let first = begun.iter().find(|begun| !whole.holds(begun))?;
    let since = first.at;
    Some(match (whole, expired) {
        (_, true) => "[The sandbox of this session was too old to go on with and has been removed with all files in it. \
             This is a new one: only uploaded files and repositories are there again. Do not rely on paths from before.]"
            .to_owned(),
        (Whole::Nothing, false) => format!(
            "[The sandbox of this session was lost, with all files in it: those written since {since} are gone. This is a \
             new one: only uploaded files and repositories are there again. Check what you need before you go on.]"
        ),
        _ => format!(
            "[The sandbox of this session was lost. Its files are back as they were before {since}; files written since then \
             may be missing. Check what you need before you go on.]"
        ),
    })
}

impl Wake {
    /// Has the model told with the next result what a sandbox lacks that was just provisioned.
    pub(super) async fn note_loss(&mut self, sandbox: &dyn Sandbox) -> Result<(), Stop> {
        let Some((whole, expired)) = self.whole(sandbox).await? else {
            return Ok(());
        };
        let entries = self
            .shared
            .store
            .privates(&self.lease.session, TOOL_STARTED)
            .await?;
        let begun: Vec<Begun> = entries
            .iter()
            .map(|entry| Begun {
                position: entry.position,
                epoch: entry.epoch,
                at: entry.created_at,
            })
            .collect();
        if let Some(text) = missing(whole, expired, &begun) {
            metrics::counter!("manyhands_files_lost_total").increment(1);
            tracing::warn!(session.id = %self.lease.session, ?whole, expired, "files of a sandbox may be missing");
            self.note = Some(match self.note.take() {
                Some(other) => format!("{other}\n{text}"),
                None => text,
            });
        }
        Ok(())
    }

    /// Whether another host has gone on with the session since this sandbox was owned last: what it shows is not the newest.
    pub(super) async fn is_behind(&self, sandbox: &dyn Sandbox) -> Result<bool, Stop> {
        match sandbox.origin() {
            Some(Origin::Kept { .. }) => Ok(self.whole(sandbox).await?.is_some()),
            _ => Ok(false),
        }
    }

    /// Up to where a sandbox's files are whole, and whether they were given up for their age; `None` when nothing can be
    /// missing.
    async fn whole(&self, sandbox: &dyn Sandbox) -> Result<Option<(Whole, bool)>, Stop> {
        let Some(origin) = sandbox.origin() else {
            return Ok(None);
        };
        let (store, session) = (&self.shared.store, &self.lease.session);
        let Some(last) = store.last_private(session, TOOL_STARTED).await? else {
            return Ok(None);
        };
        // The last intent names this very sandbox: nobody has begun anything elsewhere since, whether it came to run or not.
        let started: Option<ToolStarted> = serde_json::from_str(&last.body).ok();
        if started.is_some_and(|started| started.instance == sandbox.instance()) {
            return Ok(None);
        }
        let last = Begun {
            position: last.position,
            epoch: last.epoch,
            at: last.created_at,
        };
        let (whole, expired) = match origin {
            Origin::New { expired } => (Whole::Nothing, expired),
            Origin::Kept { epoch } => (Whole::Owners(epoch), false),
            Origin::Restored => {
                let checkpoint = store.checkpoint(session).await?;
                let position = checkpoint.map_or(0, |checkpoint| checkpoint.position);
                (Whole::Log(position), false)
            }
        };
        Ok((!whole.holds(&last)).then_some((whole, expired)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// runtime EN-18, EN-19, security TOOL-3: only where something may be missing the model is told, and since when.
    #[test]
    fn en_19_the_model_is_told_what_may_be_missing() {
        let begun = |position, epoch| Begun {
            position,
            epoch,
            at: Timestamp::from_micros(position * 1_000_000),
        };
        let log = [begun(5, 1), begun(9, 1), begun(14, 3)];
        #[track_caller]
        fn check(whole: Whole, expired: bool, begun: &[Begun], told: Option<&str>) {
            let said = missing(whole, expired, begun);
            match (&said, told) {
                (None, None) => {}
                (Some(said), Some(told)) => assert!(said.contains(told), "{said}"),
                _ => panic!("{whole:?}: {said:?}"),
            }
        }
        check(Whole::Nothing, false, &[], None);
        check(
            Whole::Nothing,
            false,
            &log,
            Some("since 1970-01-01T00:00:05.000000Z are gone"),
        );
        check(Whole::Nothing, true, &log, Some("too old"));
        check(Whole::Owners(3), false, &log, None);
        check(
            Whole::Owners(2),
            false,
            &log,
            Some("before 1970-01-01T00:00:14.000000Z"),
        );
        check(Whole::Log(14), false, &log, None);
        check(Whole::Log(20), false, &log, None);
        check(
            Whole::Log(8),
            false,
            &log,
            Some("before 1970-01-01T00:00:09.000000Z"),
        );
    }
}
