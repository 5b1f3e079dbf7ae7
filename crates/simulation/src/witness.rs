//! Looks at a session's log while it grows: what must be true at any moment, whoever writes (security I2, I3, I5).

use std::collections::HashMap;

use manyhands_protocol::SessionId;
use manyhands_store::{Entry, EntryKind, Store};
use serde_json::Value;

use crate::check::Problem;

/// More than any log here.
const ALL: u32 = 100_000;

/// What was seen of one session's log.
pub(crate) struct Witness {
    session: SessionId,
    /// All entries so far. None of them may ever change.
    seen: Vec<Entry>,
    epoch: i64,
    /// Under which lease the present turn is worked on; 0 between turns.
    at_work: i64,
    open_request: Option<String>,
    results: HashMap<String, usize>,
    /// How often a turn went on under another lease.
    pub(crate) takeovers: u64,
    /// Calls of which nobody knows what became.
    pub(crate) unknown: u64,
}

impl Witness {
    pub(crate) fn new(session: &str) -> Result<Self, Problem> {
        let session = SessionId::parse(session).map_err(|error| error.to_string())?;
        Ok(Self {
            session,
            seen: Vec::new(),
            epoch: 0,
            at_work: 0,
            open_request: None,
            results: HashMap::new(),
            takeovers: 0,
            unknown: 0,
        })
    }

    /// Reads on.
    pub(crate) async fn look(&mut self, store: &Store) -> Result<(), Problem> {
        let entries = store.read(&self.session, self.seen.len() as i64, ALL).await;
        for entry in entries.map_err(|error| error.to_string())? {
            let at = format!("entry {} ({})", entry.position, entry.type_name);
            self.see(&entry)
                .map_err(|problem| format!("{at}: {problem}"))?;
            self.seen.push(entry);
        }
        Ok(())
    }

    /// Reads all of it again: it is as it was seen, entry by entry. Gives the whole log.
    pub(crate) async fn look_back(&mut self, store: &Store) -> Result<Vec<Entry>, Problem> {
        self.look(store).await?;
        let all = store.read(&self.session, 0, ALL).await;
        let all = all.map_err(|error| error.to_string())?;
        match self.seen.iter().zip(&all).find(|(then, now)| then != now) {
            Some((then, now)) => Err(format!("{then:?} has become {now:?} (I1)")),
            None if all.len() < self.seen.len() => Err("entries have gone (I1)".to_owned()),
            None => Ok(all),
        }
    }

    fn see(&mut self, entry: &Entry) -> Result<(), Problem> {
        if entry.position != self.seen.len() as i64 + 1 {
            return Err(format!("it stands behind {} (I2)", self.seen.len()));
        }
        if entry.epoch > 0 && entry.epoch < self.epoch {
            return Err(format!(
                "of epoch {} behind {} (I5)",
                entry.epoch, self.epoch
            ));
        }
        self.epoch = self.epoch.max(entry.epoch);
        if entry.epoch > 0 {
            self.takeovers += u64::from(self.at_work > 0 && entry.epoch > self.at_work);
            let rests = &*entry.type_name == "session.status_idle";
            self.at_work = if rests { 0 } else { entry.epoch };
        }
        if entry.kind != EntryKind::Event {
            return Ok(());
        }
        let body: Value = serde_json::from_str(&entry.body).map_err(|error| error.to_string())?;
        let result_of = match &*entry.type_name {
            "agent.tool_result" | "agent.mcp_tool_result" => {
                let text = body["content"][0]["text"].as_str().unwrap_or_default();
                self.unknown += u64::from(text.contains("took effect is unknown"));
                let names = ["tool_use_id", "mcp_tool_use_id"];
                names.iter().find_map(|name| body[*name].as_str())
            }
            "user.custom_tool_result" => body["custom_tool_use_id"].as_str(),
            "span.model_request_start" => {
                let open = self.open_request.replace(entry.event_id.to_string());
                return match open {
                    Some(open) => Err(format!("request {open} is open (SQ-3)")),
                    None => Ok(()),
                };
            }
            "span.model_request_end" => {
                let start = body["model_request_start_id"].as_str();
                let open = self.open_request.take();
                return match open.as_deref() == start {
                    true => Ok(()),
                    false => Err(format!("it ends {start:?} and open is {open:?} (SQ-3)")),
                };
            }
            _ => None,
        };
        let Some(call) = result_of else {
            return Ok(());
        };
        let results = self.results.entry(call.to_owned()).or_default();
        *results += 1;
        match *results {
            1 => Ok(()),
            results => Err(format!("{call} has {results} results (I3)")),
        }
    }
}
