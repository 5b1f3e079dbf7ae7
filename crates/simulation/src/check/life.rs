//! What a client knows of its session's life, beside the log: what was taken, what was started, who may write.

use std::collections::{BTreeMap, HashMap};

use manyhands_store::{Append, AppendError, Lease, SessionRecord, Store};
use serde_json::Value;

use super::{Evidence, Problem, Row};
use crate::frames::Frame;

/// An event that a server took.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The id it was given.
    pub id: String,
    /// As it was sent.
    pub sent: Value,
    /// Whether it may be without a trace: an interrupt of a session that rests at its budget (runtime IN-9).
    pub traceless: bool,
    /// Whether it may have been taken at an earlier try that was not answered, so that it stands before others.
    pub retold: bool,
}

/// Whether an event has all members of another, as they are.
pub fn shows(event: &Value, sent: &Value) -> bool {
    let mut members = sent.as_object().into_iter().flatten();
    members.all(|(member, value)| event[member] == *value)
}

/// Invariant I1: what was taken is there, once, as it was sent, in the order in which it was taken; and unless the
/// session has ended it was processed.
pub fn check_accepted(all: &[Accepted], evidence: &Evidence<'_>) -> Result<(), Problem> {
    let mut before = 0;
    for accepted in all {
        let mut found = evidence
            .rows
            .iter()
            .filter(|row| row.is_event() && row.id() == accepted.id);
        let (found, more) = (found.next(), found.next());
        if accepted.traceless && found.is_none() {
            (evidence.count)("interrupt: without a trace".to_owned());
            continue;
        }
        let (Some(row), None) = (found, more) else {
            return Err(format!("{} is not in the log once (I1)", accepted.sent));
        };
        // Nobody waited for an event that may leave no trace, so its place among others is not known either.
        if !accepted.traceless && !accepted.retold {
            if row.entry.position < before {
                return Err(format!("{} is not in its place (I1)", accepted.sent));
            }
            before = row.entry.position;
        }
        if !shows(&row.body, &accepted.sent) {
            return Err(format!("{} is stored as {} (I1)", accepted.sent, row.body));
        }
        let processed = evidence
            .rows
            .iter()
            .filter(|row| row.id() == accepted.id && row.entry.processed_at.is_some());
        let times = processed.count();
        if times > 1 || (times == 0 && evidence.alive) {
            return Err(format!(
                "{} was processed {times} times (I1)",
                accepted.sent
            ));
        }
    }
    Ok(())
}

/// Invariant I4: a call is started at most once, one that only looks at most three times. `missed` says that the stream
/// may not have told all of them.
pub fn check_starts(
    starts: &HashMap<String, usize>,
    frames: &[Frame],
    missed: bool,
    count: &(dyn Fn(String) + Sync),
) -> Result<(), Problem> {
    let calls: HashMap<&str, &str> = frames
        .iter()
        .filter(|frame| frame.name == "agent.tool_use")
        .map(|frame| (frame.id(), frame.data["name"].as_str().unwrap_or_default()))
        .collect();
    let mut starts: Vec<(&String, &usize)> = starts.iter().collect();
    starts.sort();
    for (call, starts) in starts {
        let most = match calls.get(call.as_str()) {
            Some(&("read" | "glob" | "grep")) => 3,
            Some(_) => 1,
            None if missed => 3,
            None => return Err(format!("{call} was started and is no call")),
        };
        if *starts > most {
            return Err(format!("{call} was started {starts} times (I4)"));
        }
        count(format!("call started {starts} times"));
    }
    Ok(())
}

/// Invariant I4, security TOOL-2: no letter is sent twice, and one that is said to have been sent was. `rows` is the log.
pub fn check_letters(
    letters: &BTreeMap<String, usize>,
    rows: &[Row],
    count: &(dyn Fn(String) + Sync),
) -> Result<(), Problem> {
    for (letter, times) in letters {
        if *times > 1 {
            return Err(format!("letter {letter} was sent {times} times (I4)"));
        }
        count("letter: sent".to_owned());
    }
    let uses = rows.iter().filter(|row| row.kind() == "agent.mcp_tool_use");
    let uses: HashMap<&str, &str> = uses
        .filter_map(|row| {
            let (_, letter) = row.body["input"]["letter"].as_str()?.split_once(' ')?;
            Some((row.id(), letter))
        })
        .collect();
    for row in rows
        .iter()
        .filter(|row| row.kind() == "agent.mcp_tool_result")
    {
        let call = row.body["mcp_tool_use_id"].as_str().unwrap_or_default();
        let letter = uses.get(call).ok_or("a result of no call")?;
        let sent = letters.contains_key(*letter);
        let text = row.body["content"][0]["text"].as_str().unwrap_or_default();
        if row.body["is_error"] == false && !sent {
            return Err(format!("letter {letter} is said to be sent and is not"));
        }
        if text.contains("took effect is unknown") {
            count(format!("letter: unknown, and sent: {sent}"));
        }
    }
    Ok(())
}

/// Invariant I5: whoever has an older lease writes nothing.
pub async fn check_old_epoch(store: &Store, record: &SessionRecord) -> Result<(), Problem> {
    let lease = Lease {
        workspace: record.workspace.clone(),
        session: record.id.clone(),
        epoch: record.epoch - 1,
    };
    let appended = store.append(&lease, Append::default()).await;
    let rested = store.append_and_rest(&lease, Append::default(), i64::MAX);
    match (appended, rested.await) {
        (
            Err(AppendError::StaleEpoch { .. } | AppendError::Gone),
            Err(AppendError::StaleEpoch { .. } | AppendError::Gone),
        ) => Ok(()),
        other => Err(format!("an append of an older epoch gives {other:?} (I5)")),
    }
}
