//! The branches that enough cases must have taken: what clients sent, what befell the server, what came of it.

use std::collections::BTreeMap;

use crate::case::POINTS;
use crate::world::Settings;

/// So many cases of one part take all of them.
pub(crate) const ENOUGH: u64 = 2_000;

const ALWAYS: [&str; 86] = [
    "answer: Answered",
    "answer: NotAsked",
    "answer: Open",
    "answer: Unknown",
    "archive: 200",
    "archive: 400",
    "archive: 404",
    "call started 1 times",
    "call started 3 times",
    "call: ask_client, custom",
    "call: bash, allow",
    "call: bash, ask",
    "call: edit, allow",
    "call: edit, ask",
    "call: edit, deny",
    "call: grep, deny",
    "call: read, allow",
    "call: teleport, deny",
    "call: write, allow",
    "call: write, ask",
    "compacted",
    "death at a durable step",
    "delete: 200",
    "delete: 400",
    "delete: 404",
    "deletion: found",
    "deletion: told",
    "end: Alive",
    "end: Archived",
    "end: Deleted",
    "error: billing_error, exhausted",
    "error: model_overloaded_error, retrying",
    "error: model_rate_limited_error, retrying",
    "error: model_request_failed_error, exhausted",
    "error: model_request_failed_error, retrying",
    "flushed: messages",
    "flushed: nothing",
    "idle: budget_reached",
    "idle: end_turn",
    "idle: end_turn at the cap",
    "idle: refusal",
    "idle: requires_action",
    "idle: retries_exhausted",
    "interrupt: without a trace",
    "request: answered or cut",
    "request: failed",
    "requests: extend each other",
    "requests: extend each other, but for system turns",
    "requests: may differ",
    "result: interrupted",
    "send: 200",
    "send: 400",
    "send: 404",
    "send: answered before",
    "send: answered by the server",
    "server: died",
    "server: stopped",
    "step: archive",
    "step: await a request",
    "step: await an open call",
    "step: await events",
    "step: await rest",
    "step: change tools",
    "step: crash",
    "step: delete",
    "step: let go",
    "step: lose the sandbox",
    "step: remove the budget",
    "step: rename",
    "step: restart",
    "step: send",
    "step: send both",
    "step: set the budget",
    "taken: system.message",
    "taken: user.custom_tool_result",
    "taken: user.interrupt",
    "taken: user.message",
    "taken: user.tool_confirmation",
    "update: 200",
    "update: 400",
    "why: asking_model",
    "why: awaiting_answers",
    "why: awaiting_budget",
    "why: awaiting_message",
    "why: ended",
    "why: running_tools",
];

/// The branches that were never taken.
pub(crate) fn missing(counts: &BTreeMap<String, u64>, settings: Settings) -> Vec<String> {
    let narrow = settings
        .window
        .map(|_| "error: tool_use_limit_reached_error, exhausted");
    let deaths = POINTS.map(|point| format!("step: {point}"));
    let all = ALWAYS.into_iter().chain(narrow).map(str::to_owned);
    all.chain(deaths)
        .filter(|branch| !counts.contains_key(branch))
        .collect()
}
