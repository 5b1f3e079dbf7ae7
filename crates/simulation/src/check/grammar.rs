//! The order of events: a small machine that reads a log and knows what may come next (runtime §4, §5).

use std::collections::HashMap;

use manyhands_store::EntryKind;
use serde_json::Value;

use super::{Evidence, Problem, Row};
use crate::model::DOLLARS;

/// Where the session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Idle,
    Running,
    Rescheduling,
    Terminated,
}

/// A call.
struct Call {
    custom: bool,
    asks: bool,
    /// The client's decision.
    confirmed: Option<bool>,
    results: usize,
    /// In which response it came, to be listed in order.
    order: usize,
}

/// What has been read.
struct Machine<'a> {
    count: &'a (dyn Fn(String) + Sync),
    rows: &'a [&'a Row],
    status: Status,
    /// Why it is idle.
    reason: String,
    span: Option<&'a str>,
    calls: HashMap<&'a str, Call>,
    /// Client events that wait, with their types.
    queued: HashMap<&'a str, &'a str>,
    /// Whether the last turn ended, so that there is nothing to ask before another message.
    over: bool,
    /// The budget in force, in cents.
    budget: Option<f64>,
    /// What tokens have cost so far, in cents.
    cost: f64,
}

/// Reads the public log.
pub fn check(evidence: &Evidence<'_>) -> Result<(), Problem> {
    let rows = evidence.rows;
    let public: Vec<&Row> = rows.iter().filter(|row| row.entry.is_public()).collect();
    let mut machine = Machine {
        count: evidence.count,
        rows: &public,
        status: Status::Idle,
        reason: String::new(),
        span: None,
        calls: HashMap::new(),
        queued: HashMap::new(),
        over: true,
        budget: evidence.budget.map(|cents| cents as f64),
        cost: 0.0,
    };
    for (index, row) in public.iter().enumerate() {
        machine.read(index, row).map_err(|problem| {
            format!("event {} ({}): {problem}", row.entry.position, row.kind())
        })?;
    }
    Ok(())
}

fn must(so: bool, problem: &str) -> Result<(), Problem> {
    if so { Ok(()) } else { Err(problem.to_owned()) }
}

impl<'a> Machine<'a> {
    /// The type of the event so many places before or behind.
    fn beside(&self, index: usize, by: isize) -> &'a str {
        let at = index.checked_add_signed(by);
        at.and_then(|at| self.rows.get(at))
            .map_or("", |row| row.kind())
    }

    fn read(&mut self, index: usize, row: &'a Row) -> Result<(), Problem> {
        must(
            self.status != Status::Terminated,
            "nothing follows session.status_terminated (LC-2)",
        )?;
        if row.entry.kind == EntryKind::Processed {
            let was_queued = self.queued.remove(row.id()).is_some();
            must(was_queued, "it was not queued (SE-4)")?;
            return self.processed(row);
        }
        if row.entry.processed_at.is_none() {
            self.queued.insert(row.id(), row.kind());
        }
        let body = &row.body;
        match row.kind() {
            "user.message" => must(
                row.entry.processed_at.is_none(),
                "it is queued first (SE-3)",
            ),
            // One that comes alone is taken at once (SE-8); an interrupt of nothing, too (IN-8).
            "system.message" | "user.interrupt" => Ok(()),
            "session.updated" => {
                if let Some(budget) = body.get("budget") {
                    let amount = budget["max_list_cost"]["amount"].as_str();
                    self.budget = amount.and_then(|amount| amount.parse().ok());
                }
                Ok(())
            }
            "user.custom_tool_result" => self.call(&body["custom_tool_use_id"], |call| {
                must(call.custom, "the call is not the client's (SQ-10)")?;
                call.results += 1;
                must(call.results == 1, "the call has its result (I3)")
            }),
            "user.tool_confirmation" => {
                let allow = body["result"] == "allow";
                self.call(&body["tool_use_id"], |call| {
                    must(call.asks, "the call does not ask (SE-15)")?;
                    must(call.confirmed.is_none(), "the call was answered (SE-18)")?;
                    must(call.results == 0, "the call has its result (I3)")?;
                    call.confirmed = Some(allow);
                    Ok(())
                })
            }
            kind if kind.starts_with("agent.") => self.agent(row),
            kind if kind.starts_with("span.") => self.span(row),
            kind => self.session(kind, index, body),
        }
    }

    /// A queued event was processed: only a running turn takes messages (SE-3).
    fn processed(&mut self, row: &Row) -> Result<(), Problem> {
        if row.kind() == "user.message" {
            must(
                self.status != Status::Idle,
                "an idle session takes no message",
            )?;
            must(
                self.span.is_none(),
                "a request takes only what came before it",
            )?;
            self.over = false;
        }
        Ok(())
    }

    fn call(
        &mut self,
        id: &Value,
        change: impl FnOnce(&mut Call) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let id = id.as_str().unwrap_or_default();
        let call = self.calls.get_mut(id);
        change(call.ok_or("there is no such call")?)
    }

    fn agent(&mut self, row: &'a Row) -> Result<(), Problem> {
        let body = &row.body;
        let in_span = self.span.is_some();
        match row.kind() {
            "agent.message" => {
                must(in_span, "outside of a request (SQ-4)")?;
                let content = body["content"].as_array().map_or(0, Vec::len);
                must(content > 0, "without content (SQ-26)")
            }
            "agent.thinking" => must(in_span, "outside of a request (SQ-4)"),
            "agent.tool_use" | "agent.mcp_tool_use" | "agent.custom_tool_use" => {
                must(in_span, "outside of a request (SQ-4)")?;
                let permission = body["evaluated_permission"].as_str();
                let custom = row.kind() == "agent.custom_tool_use";
                must(
                    custom == permission.is_none(),
                    "a permission, and only of a tool that is not the client's (TC-1)",
                )?;
                let name = body["name"].as_str().unwrap_or_default();
                let shown = permission.unwrap_or("custom");
                (self.count)(format!("call: {name}, {shown}"));
                let order = self.calls.len();
                let call = Call {
                    custom,
                    asks: permission == Some("ask"),
                    confirmed: None,
                    results: 0,
                    order,
                };
                self.calls.insert(row.id(), call);
                Ok(())
            }
            "agent.tool_result" | "agent.mcp_tool_result" => {
                must(!in_span, "inside of a request (SQ-5)")?;
                let interrupted = body["content"][0]["text"]
                    == "Tool execution was interrupted before completion. Please retry.";
                let is_error = body["is_error"] == true;
                let running = self.status == Status::Running;
                must(running || interrupted, "of an idle session (SQ-7)")?;
                if interrupted {
                    (self.count)("result: interrupted".to_owned());
                }
                let of = match row.kind() {
                    "agent.mcp_tool_result" => &body["mcp_tool_use_id"],
                    _ => &body["tool_use_id"],
                };
                self.call(of, |call| {
                    call.results += 1;
                    must(call.results == 1, "the call has its result (I3)")?;
                    must(!call.custom || interrupted, "of the client's tool (SQ-10)")?;
                    match call.confirmed {
                        Some(false) => must(is_error, "a denied call succeeds (TC-7)"),
                        None if call.asks => must(interrupted, "nobody confirmed it (TC-3)"),
                        _ => Ok(()),
                    }
                })
            }
            "agent.thread_context_compacted" => {
                (self.count)("compacted".to_owned());
                must(
                    self.status == Status::Running && !in_span,
                    "outside of a turn (SQ-22)",
                )
            }
            _ => Err("not expected".to_owned()),
        }
    }

    fn span(&mut self, row: &'a Row) -> Result<(), Problem> {
        match row.kind() {
            "span.model_request_start" => {
                must(self.status == Status::Running, "outside of a turn (SQ-2)")?;
                must(self.span.is_none(), "inside of another request (SQ-3)")?;
                let open = self.calls.values().any(|call| call.results == 0);
                must(!open, "a call has no result yet (I3)")?;
                // A summary may be asked for before the message that opened the turn is taken (CC-1).
                let said = self.queued.values().any(|kind| *kind == "user.message");
                must(
                    !self.over || said,
                    "the turn is over and nobody has said anything (IN-3)",
                )?;
                let below = self.budget.is_none_or(|budget| self.cost < budget + 1e-9);
                must(below, "at the cap (BU-4)")?;
                self.span = Some(row.id());
                Ok(())
            }
            _ => {
                let start = row.body["model_request_start_id"].as_str();
                must(
                    self.span.is_some() && self.span == start,
                    "it ends no request (SQ-3)",
                )?;
                self.span = None;
                let usage = &row.body["model_usage"];
                let tokens = DOLLARS.map(|(name, _)| usage[name].as_u64().unwrap_or(0));
                self.cost += super::usage::cents(&tokens);
                let outcome = if row.body["is_error"] == true {
                    "failed"
                } else {
                    "answered or cut"
                };
                (self.count)(format!("request: {outcome}"));
                Ok(())
            }
        }
    }

    fn session(&mut self, kind: &str, index: usize, body: &Value) -> Result<(), Problem> {
        let follows = |by: isize, expected: &str, problem: &str| {
            must(self.beside(index, by) == expected, problem)
        };
        match kind {
            "session.thread_status_running" => {
                follows(1, "session.status_running", "without the session's (SQ-18)")
            }
            "session.thread_status_rescheduled" => {
                follows(
                    1,
                    "session.status_rescheduled",
                    "without the session's (SQ-18)",
                )?;
                follows(-1, "session.error", "without its error (SQ-12)")
            }
            "session.thread_status_terminated" => follows(
                1,
                "session.status_terminated",
                "without the session's (SQ-18)",
            ),
            "session.thread_status_idle" => {
                follows(1, "session.usage", "without the usage (SQ-17)")?;
                follows(2, "session.status_idle", "without the session's (SQ-18)")?;
                let thread = body["stop_reason"]["type"].as_str().unwrap_or_default();
                let session = &self.rows[index + 2].body["stop_reason"]["type"];
                let session = session.as_str().unwrap_or_default();
                must(
                    thread == session || session == "budget_reached",
                    "the session has another reason (BU-5)",
                )?;
                self.over = thread != "requires_action" && thread != "budget_reached";
                if thread != session {
                    (self.count)(format!("idle: {thread} at the cap"));
                }
                Ok(())
            }
            "session.usage" => follows(1, "session.status_idle", "without an idle (SQ-17)"),
            "session.status_running" => {
                follows(
                    -1,
                    "session.thread_status_running",
                    "without the thread's (SQ-18)",
                )?;
                must(self.status != Status::Running, "it runs already (LC-2)")?;
                self.status = Status::Running;
                Ok(())
            }
            "session.status_rescheduled" => {
                follows(
                    -1,
                    "session.thread_status_rescheduled",
                    "without the thread's",
                )?;
                must(self.status == Status::Running, "it does not run (LC-2)")?;
                must(self.span.is_none(), "inside of a request (SQ-3)")?;
                self.status = Status::Rescheduling;
                Ok(())
            }
            "session.status_terminated" => {
                follows(
                    -1,
                    "session.thread_status_terminated",
                    "without the thread's",
                )?;
                self.status = Status::Terminated;
                Ok(())
            }
            "session.status_idle" => {
                follows(-1, "session.usage", "without the usage (SQ-17)")?;
                self.idle(body)
            }
            "session.error" => {
                let error = &body["error"];
                let kind = error["type"].as_str().unwrap_or_default();
                let retry = error["retry_status"]["type"].as_str().unwrap_or_default();
                (self.count)(format!("error: {kind}, {retry}"));
                must(self.status != Status::Idle, "of an idle session (ER-1)")
            }
            other => Err(format!("{other} is not expected")),
        }
    }

    fn idle(&mut self, body: &Value) -> Result<(), Problem> {
        let reason = body["stop_reason"]["type"].as_str().unwrap_or_default();
        must(
            reason != "budget_reached" || self.budget.is_some(),
            "there is no budget (BU-4)",
        )?;
        must(self.span.is_none(), "inside of a request (SQ-3)")?;
        // An interrupt ends what waits for the client, or for the brain since the cap was raised (IN-6, BU-9).
        let waits = match &*self.reason {
            "requires_action" => true,
            "budget_reached" => reason == "end_turn",
            _ => false,
        };
        must(
            self.status != Status::Idle || waits,
            "it is idle already (LC-2)",
        )?;
        let mut open: Vec<(&str, &Call)> = Vec::new();
        for (id, call) in &self.calls {
            if call.results == 0 {
                open.push((id, call));
            }
        }
        open.sort_by_key(|(_, call)| call.order);
        if reason == "requires_action" {
            let blocking = open
                .iter()
                .filter(|(_, call)| call.custom || (call.asks && call.confirmed.is_none()));
            let blocking: Vec<&str> = blocking.map(|(id, _)| *id).collect();
            let named = body["stop_reason"]["event_ids"].as_array();
            let named: Vec<&str> = named
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            must(
                !named.is_empty() && named == blocking,
                "not the calls that wait (SQ-8)",
            )?;
            let unasked = open.iter().any(|(_, call)| !call.custom && !call.asks);
            must(!unasked, "calls that need nobody have no result (SQ-9)")?;
        } else {
            must(open.is_empty(), "a call has no result (I3)")?;
        }
        (self.count)(format!("idle: {reason}"));
        self.status = Status::Idle;
        reason.clone_into(&mut self.reason);
        Ok(())
    }
}
