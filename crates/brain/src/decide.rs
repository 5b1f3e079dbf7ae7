//! Transcript → the next step (pure).

use manyhands_protocol::{EventId, Timestamp};

use crate::compaction::{self, Due, Form, Room};
use crate::record::{CallKind, StopRecord};
use crate::replay::{Call, Consent, Status, Transcript};

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Stop the turn: the client asked for it.
    Interrupt {
        /// The interrupts to mark as applied.
        ids: Vec<EventId>,
    },
    /// Run these calls; all that can run now.
    Execute {
        /// The tool-use events, in the model's order.
        calls: Vec<EventId>,
    },
    /// Tell the model that the client does not want these calls (runtime TC-7).
    Reject {
        /// The tool-use events, in the model's order.
        calls: Vec<EventId>,
    },
    /// Ask again, but not yet.
    Wait {
        /// When.
        until: Timestamp,
    },
    /// Say that the session runs: it was rescheduled, or idle at its budget. A client's message may say so first.
    Resume,
    /// Ask the agent's MCP servers for their tools, before the model is asked (runtime MC-3, MC-8).
    List,
    /// Ask the model.
    Sample {
        /// Queued messages that join this request, in order.
        take: Vec<EventId>,
    },
    /// Ask the model for a summary that takes the conversation's place (runtime CC-1).
    Compact {
        /// How.
        form: Form,
    },
    /// Stop here and say why.
    Rest(Rest),
}

/// Why there is nothing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// The turn is over.
    EndTurn,
    /// The turn is over: the model declined (runtime SQ-15).
    Refusal {
        /// The provider's category.
        category: Option<String>,
        /// For people.
        explanation: Option<String>,
    },
    /// The turn is over: the answer was cut at a limit of the model.
    CutOff,
    /// The turn is over: too many rounds of tool calls (runtime ER-4).
    ToolLimit,
    /// The turn is over: summaries do not help any more (runtime ER-5).
    CompactionLimit,
    /// The client has to answer these calls.
    RequiresAction {
        /// The tool-use events.
        ids: Vec<EventId>,
    },
    /// The session costs what it may: what is owed stays owed (runtime BU-4).
    BudgetReached,
    /// Nothing has changed since the session went idle.
    Quiet,
}

/// What bounds a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Rounds of tool calls in one turn.
    pub(crate) tool_rounds: u32,
    /// Summaries in a row, without an answer in between.
    pub(crate) compactions_in_a_row: u32,
    /// What fits the model, where that is known.
    pub(crate) room: Option<Room>,
    /// Whether no further model request may be made (runtime BU-4).
    pub(crate) at_cap: bool,
    /// Whether an MCP server has to be asked for its tools first.
    pub(crate) unlisted: bool,
}

/// The next step of a session.
pub(crate) fn decide(transcript: &Transcript, limits: Limits, now: Timestamp) -> Step {
    if transcript.status == Status::Terminated {
        return Step::Rest(Rest::Quiet);
    }
    if transcript.is_interrupted() {
        return Step::Interrupt {
            ids: transcript.interrupts(),
        };
    }
    if let Some(step) = settle(transcript) {
        return step;
    }
    let take = transcript.inputs();
    let asked = transcript.has_message();
    let at_work = matches!(transcript.status, Status::Running | Status::Rescheduling);
    let retry = transcript.retry.map(|retry| retry.until());
    let retry = retry.filter(|until| transcript.status == Status::Rescheduling && now < *until);
    let next = || {
        if limits.at_cap {
            // There is nothing to wait for.
            return pause(transcript);
        }
        if let Some(until) = retry {
            return Step::Wait { until };
        }
        if transcript.status != Status::Running {
            return Step::Resume;
        }
        if limits.unlisted {
            return Step::List;
        }
        match compaction::due(transcript, limits.room, limits.compactions_in_a_row) {
            None => Step::Sample { take },
            Some(Due::Compact(form)) => Step::Compact { form },
            Some(Due::Limit) => Step::Rest(Rest::CompactionLimit),
        }
    };
    if transcript.owes_answer {
        if transcript.rounds >= limits.tool_rounds {
            return Step::Rest(Rest::ToolLimit);
        }
        return next();
    }
    match (&transcript.ending, at_work) {
        (None, _) if asked => next(),
        // What was sent meanwhile is the word to go on.
        (Some(StopRecord::MaxTokens), _) if asked => next(),
        // The turn is over; what was sent meanwhile opens the next one (runtime SE-5).
        (Some(ending), true) => Step::Rest(over(ending)),
        (None, true) => Step::Rest(Rest::EndTurn),
        (_, false) => Step::Rest(Rest::Quiet),
    }
}

/// A stop at the cap, which is said once.
fn pause(transcript: &Transcript) -> Step {
    let said = transcript.status == Status::Idle && transcript.paused;
    Step::Rest(if said {
        Rest::Quiet
    } else {
        Rest::BudgetReached
    })
}

/// What the calls of the last response need. Those that need nobody run at once; as long as the client has to do
/// something about one of them, those it agreed to wait (runtime SQ-8, SQ-9).
fn settle(transcript: &Transcript) -> Option<Step> {
    let open = |wanted: fn(&Call) -> bool| {
        let calls = transcript.open_calls().filter(|(_, call)| wanted(call));
        let ids: Vec<EventId> = calls.map(|(id, _)| id.clone()).collect();
        Some(ids).filter(|ids| !ids.is_empty())
    };
    if let Some(calls) = open(|call| call.kind == CallKind::Sandbox) {
        return Some(Step::Execute { calls });
    }
    if let Some(ids) = open(Call::waits_for_client) {
        let said = transcript.status == Status::Idle && transcript.announced == ids;
        return Some(Step::Rest(if said {
            Rest::Quiet
        } else {
            Rest::RequiresAction { ids }
        }));
    }
    if let Some(calls) = open(|call| matches!(call.consent, Some(Consent::Refused { .. }))) {
        return Some(Step::Reject { calls });
    }
    let calls = open(|call| call.consent == Some(Consent::Given))?;
    Some(Step::Execute { calls })
}

fn over(ending: &StopRecord) -> Rest {
    match ending {
        StopRecord::EndTurn | StopRecord::ToolUse => Rest::EndTurn,
        StopRecord::MaxTokens => Rest::CutOff,
        StopRecord::Refusal {
            category,
            explanation,
        } => Rest::Refusal {
            category: category.clone(),
            explanation: explanation.clone(),
        },
    }
}

#[cfg(test)]
mod tests;
