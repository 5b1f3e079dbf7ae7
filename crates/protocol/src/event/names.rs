//! The types by name, and which of them wait in the queue (api §10.9).

use super::EventBody;

/// The persisted types, the legal values of the list's `types[]` (api §10.9).
pub const PERSISTED_TYPES: [&str; 41] = [
    "user.message",
    "user.interrupt",
    "user.tool_confirmation",
    "user.custom_tool_result",
    "user.tool_result",
    "user.define_outcome",
    "system.message",
    "agent.message",
    "agent.thinking",
    "agent.tool_use",
    "agent.tool_result",
    "agent.mcp_tool_use",
    "agent.mcp_tool_result",
    "agent.custom_tool_use",
    "agent.thread_context_compacted",
    "agent.thread_message_received",
    "agent.thread_message_sent",
    "session.status_running",
    "session.status_idle",
    "session.status_rescheduled",
    "session.status_terminated",
    "session.error",
    "session.updated",
    "session.usage",
    "session.thread_created",
    "session.thread_status_running",
    "session.thread_status_idle",
    "session.thread_status_rescheduled",
    "session.thread_status_terminated",
    "span.model_request_start",
    "span.model_request_end",
    "span.outcome_evaluation_start",
    "span.outcome_evaluation_ongoing",
    "span.outcome_evaluation_end",
    "workflow_run.created",
    "workflow_run.status_running",
    "workflow_run.status_idle",
    "workflow_run.status_ended",
    "workflow_run.error",
    "workflow_run.phase_started",
    "workflow_run.phase_ended",
];

impl EventBody {
    /// The wire name, such as `user.message`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::UserMessage { .. } => "user.message",
            Self::UserInterrupt { .. } => "user.interrupt",
            Self::UserToolConfirmation { .. } => "user.tool_confirmation",
            Self::UserCustomToolResult { .. } => "user.custom_tool_result",
            Self::UserToolResult { .. } => "user.tool_result",
            Self::UserDefineOutcome { .. } => "user.define_outcome",
            Self::SystemMessage { .. } => "system.message",
            Self::AgentMessage { .. } => "agent.message",
            Self::AgentThinking {} => "agent.thinking",
            Self::AgentToolUse { .. } => "agent.tool_use",
            Self::AgentToolResult { .. } => "agent.tool_result",
            Self::AgentMcpToolUse { .. } => "agent.mcp_tool_use",
            Self::AgentMcpToolResult { .. } => "agent.mcp_tool_result",
            Self::AgentCustomToolUse { .. } => "agent.custom_tool_use",
            Self::AgentThreadContextCompacted {} => "agent.thread_context_compacted",
            Self::AgentThreadMessageReceived { .. } => "agent.thread_message_received",
            Self::AgentThreadMessageSent { .. } => "agent.thread_message_sent",
            Self::SessionStatusRunning {} => "session.status_running",
            Self::SessionStatusIdle { .. } => "session.status_idle",
            Self::SessionStatusRescheduled {} => "session.status_rescheduled",
            Self::SessionStatusTerminated {} => "session.status_terminated",
            Self::SessionDeleted {} => "session.deleted",
            Self::SessionError { .. } => "session.error",
            Self::SessionUpdated { .. } => "session.updated",
            Self::SessionUsage { .. } => "session.usage",
            Self::SessionThreadCreated { .. } => "session.thread_created",
            Self::SessionThreadStatusRunning { .. } => "session.thread_status_running",
            Self::SessionThreadStatusIdle { .. } => "session.thread_status_idle",
            Self::SessionThreadStatusRescheduled { .. } => "session.thread_status_rescheduled",
            Self::SessionThreadStatusTerminated { .. } => "session.thread_status_terminated",
            Self::SpanModelRequestStart {} => "span.model_request_start",
            Self::SpanModelRequestEnd { .. } => "span.model_request_end",
            Self::SpanOutcomeEvaluationStart { .. } => "span.outcome_evaluation_start",
            Self::SpanOutcomeEvaluationOngoing { .. } => "span.outcome_evaluation_ongoing",
            Self::SpanOutcomeEvaluationEnd { .. } => "span.outcome_evaluation_end",
            Self::WorkflowRunCreated { .. } => "workflow_run.created",
            Self::WorkflowRunStatusRunning { .. } => "workflow_run.status_running",
            Self::WorkflowRunStatusIdle { .. } => "workflow_run.status_idle",
            Self::WorkflowRunStatusEnded { .. } => "workflow_run.status_ended",
            Self::WorkflowRunError { .. } => "workflow_run.error",
            Self::WorkflowRunPhaseStarted { .. } => "workflow_run.phase_started",
            Self::WorkflowRunPhaseEnded { .. } => "workflow_run.phase_ended",
        }
    }

    /// Whether a client's event of this type waits in the queue until the brain takes it (runtime SE-3).
    pub fn is_queued_on_receipt(&self) -> bool {
        matches!(
            self,
            Self::UserMessage { .. }
                | Self::UserInterrupt { .. }
                | Self::UserToolConfirmation { .. }
                | Self::SystemMessage { .. }
        )
    }
}
