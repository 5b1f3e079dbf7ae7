//! The tool calls that were seen, and which of them wait for the client (pure).

use std::collections::HashMap;

use manyhands_protocol::EventId;
use manyhands_protocol::event::{EvaluatedPermission, Event, EventBody, StopReason};

use crate::render::{safe, summary};

/// What a call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owed {
    /// Whether it may run (runtime TC-3).
    Confirmation,
    /// What the client's own tool gives (runtime SQ-10).
    Result,
    /// An answer of a kind that is not known, because the call was never seen.
    Unknown,
}

/// A call, as a person wants to see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// The tool-use event.
    pub(super) id: EventId,
    /// What it waits for, if it waits.
    pub(super) owed: Owed,
    name: String,
    input: String,
}

impl Call {
    /// The call in an event; `None` for an event that is none, or one that waits for nobody.
    pub(super) fn in_event(event: &Event) -> Option<Self> {
        let (name, input, owed) = match &event.body {
            EventBody::AgentToolUse {
                name,
                input,
                evaluated_permission: Some(EvaluatedPermission::Ask),
                ..
            } => (name.clone(), input, Owed::Confirmation),
            EventBody::AgentMcpToolUse {
                mcp_server_name,
                name,
                input,
                evaluated_permission: Some(EvaluatedPermission::Ask),
                ..
            } => {
                let name = format!("{mcp_server_name}/{name}");
                (name, input, Owed::Confirmation)
            }
            EventBody::AgentCustomToolUse { name, input, .. } => {
                (name.clone(), input, Owed::Result)
            }
            _ => return None,
        };
        Some(Self {
            id: event.id.clone(),
            owed,
            input: safe(&summary(&name, input)),
            name: safe(&name),
        })
    }

    /// Its tool and its input, on one line.
    pub(super) fn shown(&self) -> String {
        format!("{}: {}", self.name, self.input)
    }
}

/// The calls that were seen.
#[derive(Debug, Default)]
pub(super) struct Calls {
    seen: HashMap<EventId, Call>,
}

impl Calls {
    /// Takes note of a call.
    pub(super) fn see(&mut self, event: &Event) {
        if let Some(call) = Call::in_event(event) {
            self.seen.insert(call.id.clone(), call);
        }
    }

    /// Takes note of calls from before.
    pub(super) fn add(&mut self, calls: &[Call]) {
        let calls = calls.iter().cloned();
        self.seen.extend(calls.map(|call| (call.id.clone(), call)));
    }

    /// The calls that a rest names, in its order.
    pub(super) fn blocking(&self, reason: &StopReason) -> Vec<Call> {
        let StopReason::RequiresAction { event_ids } = reason else {
            return vec![];
        };
        let find = |id: &EventId| self.seen.get(id).cloned();
        let unknown = |id: &EventId| Call {
            id: id.clone(),
            owed: Owed::Unknown,
            name: "a call".to_owned(),
            input: id.to_string(),
        };
        event_ids
            .iter()
            .map(|id| find(id).unwrap_or_else(|| unknown(id)))
            .collect()
    }
}

/// What is missing, in one sentence.
pub(super) fn what_is_owed(calls: &[Call], session: &str) -> String {
    let (number, calls) = match calls {
        [_] => ("an answer".to_owned(), "a tool call"),
        _ => (format!("{} answers", calls.len()), "tool calls"),
    };
    format!("session {session} waits for {number} to {calls}")
}

/// How to give it: each call with the flags that answer it.
pub(super) fn how_to_answer(calls: &[Call], session: &str) -> String {
    let mut text = format!("manyhands run --session {session} with these flags:");
    for call in calls {
        let id = &call.id;
        let flags = match call.owed {
            Owed::Confirmation => format!("--allow {id}  or  --deny {id}"),
            Owed::Result => format!("--result {id}=TEXT"),
            Owed::Unknown => format!("--allow, --deny or --result for {id}"),
        };
        text.push_str(&format!("\n      {flags}\n        for {}", call.shown()));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn event(id: &str, body: Value) -> Event {
        let mut event = body;
        event["id"] = json!(id);
        event["processed_at"] = json!("2026-11-21T10:00:00Z");
        serde_json::from_value(event).unwrap()
    }

    fn requires(ids: &[&str]) -> StopReason {
        let event_ids = ids.iter().map(|id| EventId::parse(id).unwrap()).collect();
        StopReason::RequiresAction { event_ids }
    }

    fn some_calls() -> Calls {
        let bash = |permission: &str| {
            json!({"type": "agent.tool_use", "name": "bash", "input": {"command": "rm x"},
                "evaluated_permission": permission})
        };
        let custom =
            json!({"type": "agent.custom_tool_use", "name": "look\x1bup", "input": {"q": 1}});
        let mut calls = Calls::default();
        calls.see(&event("sevt_1", bash("ask")));
        calls.see(&event("sevt_2", custom));
        calls.see(&event("sevt_3", bash("allow")));
        calls
    }

    /// runtime MC-4: whoever confirms a call sees whose tool it is.
    #[test]
    fn mc_4_a_call_that_asks_names_its_server() {
        let asks = json!({"type": "agent.mcp_tool_use", "mcp_server_name": "docs", "name": "bash",
            "input": {"command": "ls"}, "evaluated_permission": "ask"});
        let call = Call::in_event(&event("sevt_1", asks)).unwrap();
        assert_eq!(call.shown(), "docs/bash: {\"command\":\"ls\"}");
        assert_eq!(call.owed, Owed::Confirmation);
    }

    #[test]
    fn sq_7_sq_10_only_the_named_calls_wait_each_for_its_kind_of_answer() {
        let calls = some_calls();
        let check = |ids: &[&str], expected: &[Owed]| {
            let blocking = calls.blocking(&requires(ids));
            let owed: Vec<Owed> = blocking.iter().map(|call| call.owed).collect();
            assert_eq!(owed, expected, "{ids:?}");
        };
        check(&["sevt_2", "sevt_1"], &[Owed::Result, Owed::Confirmation]);
        check(&["sevt_1"], &[Owed::Confirmation]);
        check(&["sevt_3"], &[Owed::Unknown]);
        assert_eq!(calls.blocking(&StopReason::EndTurn), vec![]);
    }

    #[test]
    fn a_person_reads_what_waits_and_the_flags_that_answer() {
        let waiting = some_calls().blocking(&requires(&["sevt_1", "sevt_2"]));
        assert_eq!(
            what_is_owed(&waiting, "sesn_1"),
            "session sesn_1 waits for 2 answers to tool calls"
        );
        assert_eq!(
            what_is_owed(&waiting[..1], "sesn_1"),
            "session sesn_1 waits for an answer to a tool call"
        );
        let said = how_to_answer(&waiting, "sesn_1");
        for part in [
            "run --session sesn_1",
            "--allow sevt_1  or  --deny sevt_1\n        for bash: rm x",
            "--result sevt_2=TEXT\n        for look\u{fffd}up: {\"q\":1}",
        ] {
            assert!(said.contains(part), "{said}");
        }
    }
}
