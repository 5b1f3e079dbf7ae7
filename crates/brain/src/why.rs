//! What a session waits for, since when, and who has to act: in one sentence, and for machines (security I8).

mod explain;

use manyhands_protocol::{EventId, Timestamp};
use manyhands_store::{SessionRecord, Store};
use serde::Serialize;

use crate::activity::Activities;
use crate::history::{self, HistoryError};

use explain::{Facts, explain};

/// What a session waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Why {
    /// The kind of wait.
    pub state: State,
    /// Who has to act.
    pub waiting_for: Party,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself at the latest, where it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// What it is about.
    pub details: Details,
    /// All of it for people.
    pub sentence: String,
}

/// The kinds of waits: a session is in exactly one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The turn is over.
    AwaitingMessage,
    /// Calls want a result or a confirmation of the client.
    AwaitingAnswers,
    /// The budget is used up.
    AwaitingBudget,
    /// There is work, and no brain has taken it yet.
    AwaitingBrain,
    /// The model answers.
    AskingModel,
    /// The model summarises the conversation.
    Summarising,
    /// A judge decides whether calls may run.
    JudgingCalls,
    /// MCP servers list their tools.
    ListingTools,
    /// A sandbox starts.
    StartingSandbox,
    /// Calls run.
    RunningTools,
    /// A failed model request is tried again later.
    AwaitingRetry,
    /// The server reads and writes.
    Working,
    /// Nothing will happen any more.
    Ended,
}

/// Who has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// The client.
    Client,
    /// This server.
    Server,
    /// The model's endpoint.
    Model,
    /// The sandbox, or what it is started by.
    Sandbox,
    /// MCP servers.
    McpServers,
    /// The operator's judge of calls.
    Judge,
    /// Nobody: it is over.
    Nobody,
}

/// What a wait is about. Absent members do not apply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Details {
    /// The calls in question.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<WaitingCall>,
    /// The model's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How many requests have failed in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Messages and interrupts that wait to be taken.
    #[serde(skip_serializing_if = "is_zero")]
    pub queued: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// A call that is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WaitingCall {
    /// The tool-use event.
    pub event_id: EventId,
    /// The tool.
    pub name: String,
    /// The MCP server whose tool it is, if it is one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcp_server_name: Option<String>,
    /// What it needs.
    pub needs: Need,
}

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// A `user.custom_tool_result`.
    Result,
    /// A `user.tool_confirmation`.
    Confirmation,
    /// To end.
    Time,
}

/// What a session waits for: from its row and its log, and from the wake that works on it when this process has it.
///
/// # Errors
/// When the store fails or the log cannot be read.
pub async fn why(
    store: &Store,
    activities: &Activities,
    record: &SessionRecord,
    now: Timestamp,
) -> Result<Why, HistoryError> {
    let live = activities.look(&record.id);
    let held = store.is_held(&record.workspace, &record.id).await?;
    let mut transcript = history::start(store, &record.id, record.last_position).await?;
    let mut changed = None;
    history::catch_up(store, &record.id, &mut transcript, |entry| {
        if entry.type_name.starts_with("session.status_") {
            changed = Some(entry.created_at);
        }
    })
    .await?;
    Ok(explain(&Facts {
        record,
        transcript: &transcript,
        changed: changed.unwrap_or(record.created_at),
        live,
        held,
        now,
    }))
}
