//! The ways a turn stops: over, waiting for the client, interrupted, or given up.

use std::time::Duration;

use manyhands_protocol::EventId;
use manyhands_protocol::budget::Consumption;
use manyhands_protocol::event::{
    EventBody, RetryStatus, SessionError, SessionErrorType, StopDetails, StopReason,
};
use manyhands_protocol::session::{CacheCreation, SessionStatus, Usage};
use manyhands_store::{Append, NewEntry, UsageTotals};

use super::{Flow, Stop, Wake};
use crate::decide::Rest;
use crate::record::{FLUSHED, Flushed, WITHHELD, private};
use crate::tools::{Hand, error_result};

/// What the model reads of a call that an interrupt cut off (runtime IN-6).
const INTERRUPTED: &str = "Tool execution was interrupted before completion. Please retry.";

/// What the model reads of a call that was open when its turn ended for another call's sake (runtime ER-10).
const ENDED: &str = "The turn ended before this call did.";

/// How long the end of running calls is waited for at an interrupt.
const KILL: Duration = Duration::from_secs(5);

/// The events of a rest.
pub(super) struct Idle {
    pub(super) entries: [NewEntry; 3],
    /// The running time that they show.
    pub(super) active_millis: i64,
    /// Whether the session rests at its budget: messages that wait open no turn.
    pub(super) paused: bool,
}

impl Wake {
    /// Nothing is left to do: says why and gives the lease back.
    pub(super) async fn rest(&mut self, rest: Rest) -> Result<Flow, Stop> {
        if self.copies.is_some() {
            // What runs on in the sandbox may have written since.
            self.reconcile().await?;
        }
        let (reason, details) = match rest {
            Rest::Quiet => return self.append_and_rest(Append::default()).await,
            Rest::CutOff => {
                let message =
                    "The model's answer was cut off at its output limit. Send a message to go on.";
                let error = exhausted(SessionErrorType::ModelRequestFailedError, message);
                return self.give_up(Vec::new(), error, false).await;
            }
            Rest::ToolLimit => {
                let rounds = self.shared.config.tool_rounds;
                let message = format!(
                    "The turn reached its limit of {rounds} rounds of tool calls. Send a message to go on."
                );
                let error = exhausted(SessionErrorType::ToolUseLimitReachedError, message);
                return self.give_up(Vec::new(), error, false).await;
            }
            Rest::CompactionLimit => {
                let times = self.shared.config.compactions_in_a_row;
                let message = format!(
                    "The conversation is too long for the model even after {times} summaries in a row. Send a message to go on, or start a new session."
                );
                let error = exhausted(SessionErrorType::CompactionLimitReachedError, message);
                return self.give_up(Vec::new(), error, false).await;
            }
            Rest::BudgetReached => (StopReason::BudgetReached, None),
            Rest::RequiresAction { ids } => (StopReason::RequiresAction { event_ids: ids }, None),
            Rest::EndTurn => (StopReason::EndTurn, None),
            Rest::Refusal {
                category,
                explanation,
            } => {
                let details = StopDetails::Refusal {
                    category,
                    explanation,
                };
                (StopReason::Refusal, Some(details))
            }
        };
        let goes_on = matches!(
            reason,
            StopReason::RequiresAction { .. } | StopReason::BudgetReached
        );
        let mut entries: Vec<NewEntry> = self.close_span().into_iter().collect();
        if !goes_on {
            entries.extend(self.read_systems());
        }
        self.pass("brain::rest").await;
        let idle = self.idle(reason, details, self.usage);
        let waits = goes_on || idle.paused;
        self.go_idle(entries, idle, Vec::new(), waits).await
    }

    /// The client asked to stop: open calls end in an error, the turn is over, what is queued opens the next one
    /// (runtime SQ-11, IN-3).
    pub(super) async fn interrupt(&mut self, ids: Vec<EventId>) -> Result<Flow, Stop> {
        self.pass("brain::interrupt").await;
        self.kill_open().await?;
        let idle = self.transcript.status == crate::replay::Status::Idle;
        let mut entries: Vec<NewEntry> = self.close_span().into_iter().collect();
        let (results, answered) = self.end_open(INTERRUPTED);
        entries.extend(results);
        entries.extend(
            ids.into_iter()
                .map(|event_id| NewEntry::Processed { event_id }),
        );
        if idle && answered.is_empty() && !self.transcript.owes_answer {
            // Nothing was stopped: only the interrupt is marked as seen (runtime IN-8).
            self.write(entries).await?;
            return Ok(Flow::Continue);
        }
        entries.extend(self.read_systems());
        let idle = self.idle(StopReason::EndTurn, None, self.usage);
        metrics::counter!("manyhands_turns_total", "ending" => "interrupted").increment(1);
        let waits = idle.paused;
        self.go_idle(entries, idle, answered, waits).await
    }

    /// A service does not take the agent's settings: calls that are open end, and the turn with them. Nothing is tried again
    /// (runtime ER-10).
    pub(super) async fn misconfigured(&mut self, why: String) -> Result<Flow, Stop> {
        self.kill_open().await?;
        let error = exhausted(SessionErrorType::UnknownError, why);
        self.pass("brain::give_up").await;
        loop {
            // Each time anew: a client may have answered one meanwhile.
            let (results, answered) = self.end_open(ENDED);
            if self
                .try_to_give_up(results, answered, &error, false)
                .await?
                == Flow::Rested
            {
                return Ok(Flow::Rested);
            }
        }
    }

    /// Ends what runs of the calls that are open, and keeps what the sandbox has written so far.
    async fn kill_open(&mut self) -> Result<(), Stop> {
        self.kill_calls().await;
        let mut open = self.transcript.open_calls();
        let in_sandbox = open.any(|(_, call)| call.hand() == Hand::Sandbox);
        drop(open);
        if in_sandbox {
            // What the model is to know of it comes with the next result.
            self.reconcile().await?;
        }
        Ok(())
    }

    /// Results with this error for the calls that are open, and which calls they answer.
    fn end_open(&self, text: &str) -> (Vec<NewEntry>, Vec<(EventId, EventId)>) {
        let mut answered = Vec::new();
        let results = self.transcript.open_calls().map(|(call, state)| {
            let result = error_result(call, state.hand(), text);
            if let NewEntry::Event { id, .. } = &result {
                answered.push((call.clone(), id.clone()));
            }
            result
        });
        let results = results.collect();
        (results, answered)
    }

    /// The turn is dead: `entries`, the error, the end of what was queued, idle (runtime SQ-13). With `withhold`, the
    /// input of the last request leaves the context, so that the next message is not refused for it.
    pub(super) async fn give_up(
        &mut self,
        entries: Vec<NewEntry>,
        error: SessionError,
        withhold: bool,
    ) -> Result<Flow, Stop> {
        self.pass("brain::give_up").await;
        loop {
            let entries = entries.clone();
            if self
                .try_to_give_up(entries, Vec::new(), &error, withhold)
                .await?
                == Flow::Rested
            {
                return Ok(Flow::Rested);
            }
        }
    }

    /// Writes the end of a dead turn, unless a client's input came meanwhile: then it is read, and there is no rest.
    async fn try_to_give_up(
        &mut self,
        mut entries: Vec<NewEntry>,
        answered: Vec<(EventId, EventId)>,
        error: &SessionError,
        withhold: bool,
    ) -> Result<Flow, Stop> {
        let usage = self.usage;
        entries.extend(self.close_span().filter(|_| entries.is_empty()));
        entries.push(NewEntry::event(EventBody::SessionError {
            error: error.clone(),
        }));
        if withhold {
            entries.push(private(WITHHELD, &serde_json::json!({})));
        }
        let queued: Vec<EventId> = self
            .transcript
            .queued
            .iter()
            .map(|queued| queued.id.clone())
            .collect();
        if !queued.is_empty() {
            let events = queued.clone();
            entries.push(private(FLUSHED, &Flushed { events }));
            let processed = queued.into_iter();
            entries.extend(processed.map(|event_id| NewEntry::Processed { event_id }));
        }
        let idle = self.idle(StopReason::RetriesExhausted, None, usage);
        entries.extend(idle.entries);
        let append = Append {
            entries,
            status: Some(SessionStatus::Idle),
            usage: Some(usage),
            active_millis: Some(idle.active_millis),
            answered,
            ..Append::default()
        };
        let flow = self.append_and_rest(append).await?;
        if flow == Flow::Rested {
            metrics::counter!("manyhands_turns_total", "ending" => "retries_exhausted")
                .increment(1);
        }
        Ok(flow)
    }

    /// Writes an idle behind `entries` and gives the lease back. When messages wait that nothing else holds up, the
    /// next turn opens in the same append.
    async fn go_idle(
        &mut self,
        mut entries: Vec<NewEntry>,
        idle: Idle,
        answered: Vec<(EventId, EventId)>,
        waits: bool,
    ) -> Result<Flow, Stop> {
        entries.extend(idle.entries);
        let next_turn = !waits && self.transcript.has_message();
        let mut append = Append {
            status: Some(SessionStatus::Idle),
            active_millis: Some(idle.active_millis),
            answered,
            ..Append::default()
        };
        if next_turn {
            entries.extend(self.running());
            append.status = Some(SessionStatus::Running);
            append.entries = entries;
            return self.append_if_read(append).await;
        }
        append.entries = entries;
        self.append_and_rest(append).await
    }

    /// At the end of a turn: system messages that no message of the user follows count as read; the next turn has them
    /// in its context (runtime SE-8).
    fn read_systems(&self) -> Vec<NewEntry> {
        if self.transcript.has_message() {
            return Vec::new();
        }
        let alone = self.transcript.inputs().into_iter();
        alone
            .map(|event_id| NewEntry::Processed { event_id })
            .collect()
    }

    /// Ends running calls and their processes; what cannot be reached in time is left to the sandbox's own limits.
    async fn kill_calls(&mut self) {
        let started: Vec<EventId> = self
            .transcript
            .open_calls()
            .filter(|(_, call)| call.started.is_some() && call.hand() == Hand::Sandbox)
            .map(|(id, _)| id.clone())
            .collect();
        if started.is_empty() {
            return;
        }
        // What an interrupt writes is refused as well when another brain has the session.
        let Ok(Some(sandbox)) = self.find_sandbox().await else {
            return;
        };
        let kills = started
            .iter()
            .map(|id| sandbox.kill(id.as_str(), self.lease.epoch));
        let all = futures::future::join_all(kills);
        match tokio::time::timeout(KILL, all).await {
            Ok(ended) => {
                for error in ended.into_iter().filter_map(Result::err) {
                    tracing::warn!(session.id = %self.lease.session, %error, "a call could not be ended");
                }
            }
            Err(_) => {
                tracing::warn!(session.id = %self.lease.session, "calls did not end in time");
            }
        }
    }

    /// `session.thread_status_idle`, `session.usage`, `session.status_idle` (runtime SQ-17, SQ-18). At the cap the
    /// thread says how its turn ended, and the session that the budget is reached, unless the client has to answer
    /// calls first (runtime BU-5, BU-7).
    pub(super) fn idle(
        &self,
        stop_reason: StopReason,
        stop_details: Option<StopDetails>,
        totals: UsageTotals,
    ) -> Idle {
        let (session_thread_id, agent_name) = self.thread();
        let consumed = self.consumed(totals);
        let active_millis = self.active.until(consumed.at);
        let budget = self.record.budget;
        let paused = consumed.exhausts(budget.as_ref())
            && !matches!(stop_reason, StopReason::RequiresAction { .. });
        let (reason, details) = if paused {
            (StopReason::BudgetReached, None)
        } else {
            (stop_reason.clone(), stop_details.clone())
        };
        let entries = [
            NewEntry::event(EventBody::SessionThreadStatusIdle {
                session_thread_id,
                agent_name,
                stop_reason,
                stop_details,
            }),
            NewEntry::event(EventBody::SessionUsage {
                usage: usage(totals, active_millis, consumed),
                budget,
            }),
            NewEntry::event(EventBody::SessionStatusIdle {
                stop_reason: reason,
                stop_details: details,
            }),
        ];
        Idle {
            entries,
            active_millis,
            paused,
        }
    }

    /// `session.thread_status_running`, `session.status_running`.
    pub(super) fn running(&self) -> [NewEntry; 2] {
        let (session_thread_id, agent_name) = self.thread();
        [
            NewEntry::event(EventBody::SessionThreadStatusRunning {
                session_thread_id,
                agent_name,
            }),
            NewEntry::event(EventBody::SessionStatusRunning {}),
        ]
    }

    /// `session.thread_status_rescheduled`, `session.status_rescheduled`.
    pub(super) fn rescheduled(&self) -> [NewEntry; 2] {
        let (session_thread_id, agent_name) = self.thread();
        [
            NewEntry::event(EventBody::SessionThreadStatusRescheduled {
                session_thread_id,
                agent_name,
            }),
            NewEntry::event(EventBody::SessionStatusRescheduled {}),
        ]
    }

    fn thread(&self) -> (manyhands_protocol::ThreadId, String) {
        let name = self.agent().definition.name.clone();
        (self.record.thread_id.clone(), name)
    }
}

fn exhausted(kind: SessionErrorType, message: impl Into<String>) -> SessionError {
    SessionError::new(kind, message, RetryStatus::Exhausted)
}

/// The session's usage as clients see it (runtime US-1).
fn usage(totals: UsageTotals, active_millis: i64, consumed: Consumption) -> Usage {
    Usage {
        input_tokens: totals.input_tokens,
        output_tokens: totals.output_tokens,
        cache_read_input_tokens: totals.cache_read_input_tokens,
        cache_creation: CacheCreation {
            ephemeral_1h_input_tokens: totals.cache_creation_1h_input_tokens,
            ephemeral_5m_input_tokens: totals.cache_creation_5m_input_tokens,
        },
        active_seconds: active_millis as f64 / 1000.0,
        list_cost: consumed.list_cost(),
        server_tool_use: Some(totals.server_tool_use()),
    }
}
