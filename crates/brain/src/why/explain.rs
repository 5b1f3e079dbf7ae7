//! From the facts to the answer and its sentence (pure).

use manyhands_protocol::session::SessionStatus;
use manyhands_protocol::{EventId, Timestamp};
use manyhands_store::SessionRecord;

use super::{Details, Need, Party, State, WaitingCall, Why};
use crate::activity::{Doing, Look};
use crate::record::CallKind;
use crate::replay::{Call, Transcript};
use crate::tools::Hand;

/// All that the answer depends on.
pub(crate) struct Facts<'a> {
    /// The session's row.
    pub(crate) record: &'a SessionRecord,
    /// Its log, folded.
    pub(crate) transcript: &'a Transcript,
    /// When its status changed last.
    pub(crate) changed: Timestamp,
    /// What its wake in this process is doing, if it has one.
    pub(crate) live: Option<Look>,
    /// Whether a living server, this one or another, has its lease.
    pub(crate) held: bool,
    /// Now.
    pub(crate) now: Timestamp,
}

/// The answer.
pub(crate) fn explain(facts: &Facts<'_>) -> Why {
    let record = facts.record;
    if record.archived_at.is_some() || record.status == SessionStatus::Terminated {
        return ended(facts);
    }
    match &facts.live {
        // Its wake has written that it waits and is not there yet: the log says so first.
        Some(look) if look.doing == Doing::Working && facts.next_try().is_some() => at_rest(facts),
        Some(look) if record.status != SessionStatus::Idle => at_work(facts, look),
        _ => at_rest(facts),
    }
}

fn ended(facts: &Facts<'_>) -> Why {
    let (since, what) = match (facts.record.archived_at, facts.record.terminated_at) {
        (Some(at), _) => (at, "was archived"),
        (None, at) => (at.unwrap_or(facts.changed), "was terminated"),
    };
    let sentence =
        format!("The session {what}: nothing more happens, its history can still be read.");
    Why {
        since,
        ..facts.answer(State::Ended, Party::Nobody, sentence)
    }
}

/// What its wake says.
fn at_work(facts: &Facts<'_>, look: &Look) -> Why {
    let model = &facts.record.agent.definition.model.id;
    let answer = match &look.doing {
        Doing::Queueing => {
            let sentence = "The session waits for a place among the sessions at work: the server has as many as its limit allows.";
            facts.answer(State::AwaitingBrain, Party::Server, sentence)
        }
        Doing::Working => facts.working(),
        Doing::Asking => facts.asking(),
        Doing::Compacting => {
            let sentence = format!(
                "The session waits for the model {model} to summarise the conversation, which has become too long for it."
            );
            let answer = facts.answer(State::Summarising, Party::Model, sentence);
            facts.about_model(answer)
        }
        Doing::Judging => {
            let sentence =
                "The session waits for the judge that decides whether the model's calls may run.";
            facts.answer(State::JudgingCalls, Party::Judge, sentence)
        }
        Doing::Listing => {
            let due = facts.due();
            let sentence = format!("The session waits for {due} to list its tools.");
            facts.answer(State::ListingTools, Party::McpServers, sentence)
        }
        Doing::Provisioning => {
            let sentence = "The session waits for its sandbox to start.";
            facts.answer(State::StartingSandbox, Party::Sandbox, sentence)
        }
        Doing::Furnishing(step) => {
            let sentence = format!(
                "The session waits for its environment's packages, which are installed once: {step}."
            );
            facts.answer(State::StartingSandbox, Party::Sandbox, sentence)
        }
        Doing::Cloning(url) => {
            let sentence = format!("The session waits until {url} is cloned into its sandbox.");
            facts.answer(State::StartingSandbox, Party::Sandbox, sentence)
        }
        Doing::Running(calls) => facts.running(|id, _| calls.contains(id)),
        Doing::Waiting { until } => facts.retrying(*until),
    };
    let until = look.left.map(|left| facts.now.after(left));
    Why {
        since: look.since,
        until: answer.until.or(until),
        ..answer
    }
}

/// What its row and its log say.
fn at_rest(facts: &Facts<'_>) -> Why {
    let transcript = facts.transcript;
    let now = facts.now;
    match facts.record.status {
        SessionStatus::Idle
            if transcript
                .open_calls()
                .any(|(_, call)| call.waits_for_client()) =>
        {
            facts.answers()
        }
        SessionStatus::Idle if facts.record.at_cap(now) => {
            let sentence =
                "The session's budget is used up: it goes on when the budget is raised or removed.";
            facts.answer(State::AwaitingBudget, Party::Client, sentence)
        }
        SessionStatus::Idle if transcript.has_message() || transcript.is_interrupted() => {
            facts.wanting()
        }
        SessionStatus::Idle => {
            let sentence = "The session waits for a message: its last turn is over.";
            facts.answer(State::AwaitingMessage, Party::Client, sentence)
        }
        SessionStatus::Rescheduling => match facts.next_try() {
            Some(until) => facts.retrying(until),
            None => facts.wanting(),
        },
        // Another server works on it: its log alone tells what it does.
        _ if facts.held && transcript.open_span.is_some() => facts.asking(),
        _ if facts.held && transcript.open_calls().next().is_some() => {
            facts.running(|_, call| call.started.is_some())
        }
        _ if facts.held => facts.working(),
        _ => facts.wanting(),
    }
}

impl Facts<'_> {
    fn answer(&self, state: State, waiting_for: Party, sentence: impl Into<String>) -> Why {
        Why {
            state,
            waiting_for,
            since: self.changed,
            until: None,
            details: Details {
                queued: self.transcript.queued.len(),
                ..Details::default()
            },
            sentence: sentence.into(),
        }
    }

    fn wanting(&self) -> Why {
        let sentence = "The session has work and waits for the server to take it up, which happens within a second or two.";
        self.answer(State::AwaitingBrain, Party::Server, sentence)
    }

    fn working(&self) -> Why {
        let sentence = "The server is reading and writing the session's log.";
        self.answer(State::Working, Party::Server, sentence)
    }

    fn asking(&self) -> Why {
        let model = &self.record.agent.definition.model.id;
        let sentence = format!("The session waits for the answer of the model {model}.");
        let answer = self.answer(State::AskingModel, Party::Model, sentence);
        self.about_model(answer)
    }

    fn about_model(&self, mut answer: Why) -> Why {
        answer.details.model = Some(self.record.agent.definition.model.id.clone());
        answer
    }

    /// When the failed request is tried again, as long as that is to come.
    fn next_try(&self) -> Option<Timestamp> {
        let retry = self.transcript.retry?;
        let waits = self.record.status == SessionStatus::Rescheduling && retry.until() > self.now;
        waits.then(|| retry.until())
    }

    fn retrying(&self, until: Timestamp) -> Why {
        let attempt = self.transcript.retry.map(|retry| retry.attempt);
        let failed = match attempt {
            Some(1) | None => "The last request to the model failed".to_owned(),
            Some(times) => format!("The last {times} requests to the model failed"),
        };
        let left = self.transcript.retry.map(|retry| retry.left(self.now));
        let left = left.unwrap_or_default();
        // A clock that was set back does not put it off.
        let until = until.min(self.now.after(left));
        // Rounded up: it is not tried sooner than said.
        let seconds = left.as_nanos().div_ceil(1_000_000_000);
        let sentence = format!("{failed}; the next try is in {seconds} s.");
        let mut answer = self.answer(State::AwaitingRetry, Party::Server, sentence);
        answer.until = Some(until);
        answer.details.attempt = attempt;
        self.about_model(answer)
    }

    fn running(&self, wanted: impl Fn(&EventId, &Call) -> bool) -> Why {
        let calls = self.calls(|id, call| wanted(id, call), |_| Need::Time);
        let sentence = format!("The session waits for {} to end.", told(&calls));
        let open = self.transcript.open_calls();
        let mut hands = open
            .filter(|(id, call)| wanted(id, call))
            .map(|(_, call)| call.hand());
        let party = match hands.next() {
            Some(Hand::Mcp) if hands.all(|hand| hand == Hand::Mcp) => Party::McpServers,
            _ => Party::Sandbox,
        };
        let mut answer = self.answer(State::RunningTools, party, sentence);
        answer.details.calls = calls;
        answer
    }

    fn answers(&self) -> Why {
        let need = |call: &Call| match call.kind {
            CallKind::Custom => Need::Result,
            _ => Need::Confirmation,
        };
        let calls = self.calls(|_, call| call.waits_for_client(), need);
        let of = |need| -> Vec<WaitingCall> {
            let found = calls.iter().filter(|call| call.needs == need);
            found.cloned().collect()
        };
        let (results, confirmations) = (of(Need::Result), of(Need::Confirmation));
        let mut wants = Vec::new();
        if !results.is_empty() {
            wants.push(format!("for the client's result of {}", told(&results)));
        }
        if !confirmations.is_empty() {
            let text = told(&confirmations);
            wants.push(format!("for the client to allow or deny {text}"));
        }
        let sentence = format!("The session waits {}.", wants.join(" and "));
        let mut answer = self.answer(State::AwaitingAnswers, Party::Client, sentence);
        answer.details.calls = calls;
        answer
    }

    /// The MCP servers that are asked for their tools, in words.
    fn due(&self) -> String {
        let agent = self
            .transcript
            .agent
            .as_deref()
            .unwrap_or(&self.record.agent);
        let due = self.transcript.mcp.due(&agent.definition);
        let names: Vec<&str> = due.map(|server| server.name).collect();
        match names.as_slice() {
            [] => "an MCP server".to_owned(),
            [name] => format!("the MCP server {name}"),
            [first, rest @ ..] => format!("the MCP server {first} or one of {} others", rest.len()),
        }
    }

    fn calls(
        &self,
        wanted: impl Fn(&EventId, &Call) -> bool,
        need: impl Fn(&Call) -> Need,
    ) -> Vec<WaitingCall> {
        let open = self.transcript.open_calls();
        open.filter(|(id, call)| wanted(id, call))
            .map(|(id, call)| WaitingCall {
                event_id: id.clone(),
                name: call
                    .mcp
                    .as_ref()
                    .map_or(&call.name, |mcp| &mcp.tool)
                    .clone(),
                mcp_server_name: call.mcp.as_ref().map(|mcp| mcp.server.clone()),
                needs: need(call),
            })
            .collect()
    }
}

/// Calls in words: `bash (sevt_…) and read (sevt_…)`.
fn told(calls: &[WaitingCall]) -> String {
    const SHOWN: usize = 3;
    let mut texts: Vec<String> = calls
        .iter()
        .take(SHOWN)
        .map(|call| match &call.mcp_server_name {
            Some(server) => format!("{} of {server} ({})", call.name, call.event_id),
            None => format!("{} ({})", call.name, call.event_id),
        })
        .collect();
    match calls.len().saturating_sub(SHOWN) {
        0 => {}
        1 => texts.push("1 more call".to_owned()),
        more => texts.push(format!("{more} more calls")),
    }
    match texts.split_last() {
        None => "its tools".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, before)) => format!("{} and {last}", before.join(", ")),
    }
}

#[cfg(test)]
mod tests;
