//! What happened: one variant for each type, with its own members (api §10.2 to §10.7).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Confirmation, EvaluatedPermission, Evaluation, ModelUsage, SessionError, StopDetails,
    StopReason, WorkflowPhase,
};
use crate::agent::SessionAgent;
use crate::budget::Budget;
use crate::content::ContentBlock;
use crate::session::Usage;
use crate::{EventId, Metadata, ThreadId};

/// What happened: the type and its own members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
pub enum EventBody {
    /// A message of the user.
    #[serde(rename = "user.message")]
    UserMessage {
        /// Text, images, documents.
        content: Vec<ContentBlock>,
    },
    /// Stop what is running.
    #[serde(rename = "user.interrupt")]
    UserInterrupt {
        /// Only this thread; absent means all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session_thread_id: Option<ThreadId>,
    },
    /// The answer to a call that asked.
    #[serde(rename = "user.tool_confirmation")]
    UserToolConfirmation {
        /// The tool-use event.
        tool_use_id: EventId,
        /// Run it or not.
        result: Confirmation,
        /// Why not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deny_message: Option<String>,
        /// The thread the answer went to; absent means the primary.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session_thread_id: Option<ThreadId>,
    },
    /// The result of a tool that the client ran (runtime SQ-10).
    #[serde(rename = "user.custom_tool_result")]
    UserCustomToolResult {
        /// The tool-use event.
        custom_tool_use_id: EventId,
        /// What it gave.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<Vec<ContentBlock>>,
        /// Whether it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        is_error: Option<bool>,
        /// The thread the answer went to; absent means the primary.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session_thread_id: Option<ThreadId>,
    },
    /// The result of a built-in tool that a worker ran.
    #[serde(rename = "user.tool_result")]
    UserToolResult {
        /// The tool-use event.
        tool_use_id: EventId,
        /// What it gave.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<Vec<ContentBlock>>,
        /// Whether it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        is_error: Option<bool>,
        /// The thread the answer went to; absent means the primary.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session_thread_id: Option<ThreadId>,
    },
    /// What the session has to reach.
    #[serde(rename = "user.define_outcome")]
    UserDefineOutcome {
        /// The outcome's id.
        outcome_id: String,
        /// What is wanted.
        description: String,
        /// How it is judged.
        rubric: Value,
        /// How often it may be tried.
        max_iterations: Option<u32>,
    },
    /// A message of the operator in mid-conversation.
    #[serde(rename = "system.message")]
    SystemMessage {
        /// Text.
        content: Vec<ContentBlock>,
    },
    /// What the model said.
    #[serde(rename = "agent.message")]
    AgentMessage {
        /// Text blocks (runtime SQ-26).
        content: Vec<ContentBlock>,
    },
    /// The model was thinking; never with content (runtime SQ-25).
    #[serde(rename = "agent.thinking")]
    AgentThinking {},
    /// The model calls a built-in tool.
    #[serde(rename = "agent.tool_use")]
    AgentToolUse {
        /// The tool.
        name: String,
        /// Its input.
        input: Map<String, Value>,
        /// Whether it may run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        evaluated_permission: Option<EvaluatedPermission>,
        /// How that was decided.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        evaluation: Option<Evaluation>,
        /// Set only on a child's call shown on the primary stream.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session_thread_id: Option<ThreadId>,
    },
    /// What a built-in tool gave.
    #[serde(rename = "agent.tool_result")]
    AgentToolResult {
        /// The tool-use event.
        tool_use_id: EventId,
        /// What it gave.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<Vec<ContentBlock>>,
        /// Whether it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        is_error: Option<bool>,
    },
    /// The model calls a tool of an MCP server.
    #[serde(rename = "agent.mcp_tool_use")]
    AgentMcpToolUse {
        /// The server.
        mcp_server_name: String,
        /// The tool.
        name: String,
        /// Its input.
        input: Map<String, Value>,
        /// Whether it may run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        evaluated_permission: Option<EvaluatedPermission>,
        /// How that was decided.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        evaluation: Option<Evaluation>,
        /// Set only on a child's call shown on the primary stream.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session_thread_id: Option<ThreadId>,
    },
    /// What a tool of an MCP server gave.
    #[serde(rename = "agent.mcp_tool_result")]
    AgentMcpToolResult {
        /// The tool-use event.
        mcp_tool_use_id: EventId,
        /// What it gave.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<Vec<ContentBlock>>,
        /// Whether it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        is_error: Option<bool>,
    },
    /// The model calls a tool that the client runs.
    #[serde(rename = "agent.custom_tool_use")]
    AgentCustomToolUse {
        /// The tool.
        name: String,
        /// Its input.
        input: Map<String, Value>,
        /// Set only on a child's call shown on the primary stream.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session_thread_id: Option<ThreadId>,
    },
    /// A thread's context was summarised.
    #[serde(rename = "agent.thread_context_compacted")]
    AgentThreadContextCompacted {},
    /// A message came from another thread.
    #[serde(rename = "agent.thread_message_received")]
    AgentThreadMessageReceived {
        /// What it says.
        content: Vec<ContentBlock>,
        /// From which thread.
        from_session_thread_id: ThreadId,
        /// From which agent.
        from_agent_name: Option<String>,
    },
    /// A message went to another thread.
    #[serde(rename = "agent.thread_message_sent")]
    AgentThreadMessageSent {
        /// What it says.
        content: Vec<ContentBlock>,
        /// To which thread.
        to_session_thread_id: ThreadId,
        /// To which agent.
        to_agent_name: Option<String>,
    },
    /// The session is at work.
    #[serde(rename = "session.status_running")]
    SessionStatusRunning {},
    /// The session rests.
    #[serde(rename = "session.status_idle")]
    SessionStatusIdle {
        /// Why.
        stop_reason: StopReason,
        /// More about a refusal; null for all other reasons (runtime SQ-15).
        stop_details: Option<StopDetails>,
    },
    /// The session waits to try again.
    #[serde(rename = "session.status_rescheduled")]
    SessionStatusRescheduled {},
    /// The session has ended.
    #[serde(rename = "session.status_terminated")]
    SessionStatusTerminated {},
    /// The session is gone. Stream-only: the log goes with it (runtime SQ-20).
    #[serde(rename = "session.deleted")]
    SessionDeleted {},
    /// Something failed.
    #[serde(rename = "session.error")]
    SessionError {
        /// What, and what happens next.
        error: SessionError,
    },
    /// The session was changed: only what changed is there (runtime UP-4).
    #[serde(rename = "session.updated")]
    SessionUpdated {
        /// The whole new snapshot.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<Box<SessionAgent>>,
        /// The new cap; null when removed.
        #[serde(
            default,
            skip_serializing_if = "Option::is_none",
            with = "super::double_option"
        )]
        #[schemars(with = "Option<Budget>")]
        budget: Option<Option<Budget>>,
        /// The whole bag after the change.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        metadata: Option<Metadata>,
        /// The new title; null when cleared.
        #[serde(
            default,
            skip_serializing_if = "Option::is_none",
            with = "super::double_option"
        )]
        #[schemars(with = "Option<String>")]
        title: Option<Option<String>>,
    },
    /// What the session used in all, before every rest (runtime SQ-17).
    #[serde(rename = "session.usage")]
    SessionUsage {
        /// Cumulative.
        usage: Usage,
        /// The cap in force.
        budget: Option<Budget>,
    },
    /// A thread was made.
    #[serde(rename = "session.thread_created")]
    SessionThreadCreated {
        /// The thread.
        session_thread_id: ThreadId,
        /// Its agent.
        agent_name: String,
        /// The workflow run it belongs to.
        workflow_run_id: Option<String>,
    },
    /// A thread is at work.
    #[serde(rename = "session.thread_status_running")]
    SessionThreadStatusRunning {
        /// The thread.
        session_thread_id: ThreadId,
        /// Its agent.
        agent_name: String,
    },
    /// A thread rests.
    #[serde(rename = "session.thread_status_idle")]
    SessionThreadStatusIdle {
        /// The thread.
        session_thread_id: ThreadId,
        /// Its agent.
        agent_name: String,
        /// Why.
        stop_reason: StopReason,
        /// More about a refusal.
        stop_details: Option<StopDetails>,
    },
    /// A thread waits to try again.
    #[serde(rename = "session.thread_status_rescheduled")]
    SessionThreadStatusRescheduled {
        /// The thread.
        session_thread_id: ThreadId,
        /// Its agent.
        agent_name: String,
    },
    /// A thread has ended.
    #[serde(rename = "session.thread_status_terminated")]
    SessionThreadStatusTerminated {
        /// The thread.
        session_thread_id: ThreadId,
        /// Its agent.
        agent_name: String,
    },
    /// A model request begins (runtime SQ-3).
    #[serde(rename = "span.model_request_start")]
    SpanModelRequestStart {},
    /// A model request is over, however it ended.
    #[serde(rename = "span.model_request_end")]
    SpanModelRequestEnd {
        /// The start event.
        model_request_start_id: EventId,
        /// Whether it failed.
        is_error: Option<bool>,
        /// What it used (runtime US-5).
        model_usage: ModelUsage,
    },
    /// Grading begins.
    #[serde(rename = "span.outcome_evaluation_start")]
    SpanOutcomeEvaluationStart {
        /// The outcome.
        outcome_id: String,
        /// From 0.
        iteration: u32,
    },
    /// Grading goes on.
    #[serde(rename = "span.outcome_evaluation_ongoing")]
    SpanOutcomeEvaluationOngoing {
        /// The outcome.
        outcome_id: String,
        /// From 0.
        iteration: u32,
    },
    /// Grading is over.
    #[serde(rename = "span.outcome_evaluation_end")]
    SpanOutcomeEvaluationEnd {
        /// The start event; empty when interrupted before it.
        outcome_evaluation_start_id: String,
        /// The outcome.
        outcome_id: String,
        /// From 0.
        iteration: u32,
        /// The verdict.
        result: String,
        /// Its reasons.
        explanation: String,
        /// What grading used.
        usage: ModelUsage,
    },
    /// A workflow run was made.
    #[serde(rename = "workflow_run.created")]
    WorkflowRunCreated {
        /// The run.
        workflow_run_id: String,
        /// Its name.
        name: String,
        /// What it is for.
        description: Option<String>,
        /// Its phases.
        phases: Vec<WorkflowPhase>,
    },
    /// A workflow run is at work.
    #[serde(rename = "workflow_run.status_running")]
    WorkflowRunStatusRunning {
        /// The run.
        workflow_run_id: String,
    },
    /// A workflow run pauses.
    #[serde(rename = "workflow_run.status_idle")]
    WorkflowRunStatusIdle {
        /// The run.
        workflow_run_id: String,
    },
    /// A workflow run has ended.
    #[serde(rename = "workflow_run.status_ended")]
    WorkflowRunStatusEnded {
        /// The run.
        workflow_run_id: String,
        /// How.
        result: Value,
    },
    /// A workflow run failed, or could not start.
    #[serde(rename = "workflow_run.error")]
    WorkflowRunError {
        /// The run; null when it could not start.
        workflow_run_id: Option<String>,
        /// What failed.
        error: Value,
    },
    /// A phase begins.
    #[serde(rename = "workflow_run.phase_started")]
    WorkflowRunPhaseStarted {
        /// The run.
        workflow_run_id: String,
        /// The phase.
        workflow_run_phase_id: String,
    },
    /// A phase is over.
    #[serde(rename = "workflow_run.phase_ended")]
    WorkflowRunPhaseEnded {
        /// The run.
        workflow_run_id: String,
        /// The phase.
        workflow_run_phase_id: String,
        /// The event that began it.
        phase_started_id: String,
    },
}
