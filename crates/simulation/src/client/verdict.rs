//! What is judged when a session has ended or come to rest: the invariants, against all that its client knows.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use manyhands_protocol::SessionId;
use manyhands_store::{Entry, SessionRecord};

use super::{Fate, Life};
use crate::check::{self, Evidence, Problem, Row};
use crate::frames::Frame;
use crate::model::lock;

impl Life {
    /// Judges a life that has ended or come to rest.
    ///
    /// # Errors
    ///
    /// The first invariant that does not hold.
    pub async fn judge(&mut self) -> Result<(), Problem> {
        let frames = lock(&self.heard.frames).clone();
        self.around.count_many(
            "takeover: a turn went on under another lease",
            self.witness.takeovers,
        );
        self.around
            .count_many("result: unknown outcome", self.witness.unknown);
        let starts = lock(&self.script.starts).clone();
        // What one server commits right before another one deletes the session is gone before it is told.
        let overtaken = self.fate == Fate::Deleted && self.around.has_several_servers();
        let missed = overtaken || self.heard.missed.load(Ordering::SeqCst);
        check::life::check_starts(&starts, &frames, missed, &|branch: String| {
            self.count(branch)
        })?;
        check::stream::check_previews(&frames)?;
        if self.fate == Fate::Deleted {
            return self.check_deletion(&frames);
        }
        let log = self.look_back().await?;
        let rows = check::rows(log)?;
        let record = self.record().await?;
        let requests = lock(&self.script.requests).clone();
        let letters = lock(&self.script.letters).clone();
        let count = |branch: String| self.count(branch);
        let evidence = Evidence {
            rows: &rows,
            frames: &frames,
            requests: &requests,
            budget: self.budget,
            alive: self.fate == Fate::Alive,
            retooled: self.retooled,
            count: &count,
        };
        check::life::check_letters(&letters, &rows, &count)?;
        check::check_positions(&rows)?;
        check::check_epochs(&rows)?;
        check::stream::check_stream(&rows, &frames)?;
        check::check_list(&rows, &self.events().await?)?;
        check::life::check_accepted(&self.accepted, &evidence)?;
        self.check_doubtful(&rows)?;
        check::requests::check_shown(&evidence)?;
        check::grammar::check(&evidence)?;
        check::usage::check(&record, &rows)?;
        check::requests::check_prefixes(&evidence)?;
        let store = self.around.store().await;
        check::life::check_old_epoch(&store, &record).await
    }

    /// The log, a line each, for whoever looks for a fault.
    pub async fn dump(&mut self) -> String {
        let rows = self.look_back().await.and_then(check::rows);
        let log = rows.map_or_else(|problem| problem, |rows| check::dump(&rows));
        format!("session {} ({})\n{log}", self.number, self.session)
    }

    async fn look_back(&mut self) -> Result<Vec<Entry>, Problem> {
        let store = self.around.store().await;
        self.witness.look_back(&store).await
    }

    async fn record(&self) -> Result<SessionRecord, Problem> {
        let session = SessionId::parse(&self.session).map_err(|error| error.to_string())?;
        let store = self.around.store().await;
        let workspace = store.default_workspace().await;
        let workspace = workspace.map_err(|error| error.to_string())?;
        let record = store.session(&workspace, &session).await;
        let record = record.map_err(|error| error.to_string())?;
        record.ok_or_else(|| "the session has no row".to_owned())
    }

    /// Every message in the log was sent, and is there at most as often as it was sent: what was not answered may be
    /// there or not, what was refused is not.
    fn check_doubtful(&self, rows: &[Row]) -> Result<(), Problem> {
        let messages = rows.iter().filter(|row| {
            row.is_event() && matches!(row.kind(), "user.message" | "system.message")
        });
        let mut there: HashMap<&str, usize> = HashMap::new();
        for row in messages.skip(self.initial) {
            let text = row.body["content"][0]["text"].as_str().unwrap_or_default();
            *there.entry(text).or_default() += 1;
        }
        let sent = self.accepted.iter().map(|accepted| &accepted.sent);
        let mut times: HashMap<&str, usize> = HashMap::new();
        for event in sent.chain(&self.doubtful) {
            let text = event["content"][0]["text"].as_str().unwrap_or_default();
            *times.entry(text).or_default() += 1;
        }
        let mut there: Vec<_> = there.into_iter().collect();
        there.sort_unstable();
        for (text, count) in there {
            let sent = times.get(text).copied().unwrap_or_default();
            if count > sent {
                return Err(format!(
                    "{text:?} is in the log {count} times and was sent {sent} times (I1)"
                ));
            }
            if count > 1 {
                self.count("message: there twice, as it was sent");
            }
        }
        Ok(())
    }

    /// A deleted session's stream ends with its deletion (runtime SQ-20); one that a server's end or a new connection
    /// cut off before is not there to be taken up again.
    fn check_deletion(&self, frames: &[Frame]) -> Result<(), Problem> {
        let told = frames.last().map(|frame| &*frame.name);
        if told == Some("session.deleted") {
            self.count("deletion: told");
        } else if self.heard.missed.load(Ordering::SeqCst) {
            self.count("deletion: found");
        } else {
            return Err(format!(
                "the last frame of a deleted session is {told:?} (SQ-20)"
            ));
        }
        Ok(())
    }
}
