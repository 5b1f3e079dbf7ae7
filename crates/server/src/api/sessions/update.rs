//! Changing a session: title, metadata, budget, and while it is idle its tools (runtime UP-1 to UP-4, BU-9 to BU-11).
//! Pure.

use std::collections::BTreeMap;

use manyhands_protocol::agent::{McpServer, SessionAgent, Tool};
use manyhands_protocol::budget::Budget;
use manyhands_protocol::event::EventBody;
use manyhands_protocol::patch::Patch;
use manyhands_protocol::session::{SessionStatus, SessionUpdateParams};
use manyhands_store::{Append, Change, NewEntry, SessionState};
use serde_json::Value;

use crate::api::agents::definition;
use crate::api::error::ApiError;

/// An update that is well formed by itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Update {
    title: Patch<String>,
    metadata: BTreeMap<String, Option<String>>,
    pub(super) tools: Option<Vec<Tool>>,
    servers: Option<Vec<McpServer>>,
    budget: Patch<Budget>,
}

/// A budget as clients send it (runtime BU-1).
pub(crate) fn budget(value: &Value) -> Result<Budget, ApiError> {
    Budget::parse(value).map_err(|error| ApiError::invalid(error.to_string()))
}

/// Checks what can be checked without the session.
pub(crate) fn parse(params: SessionUpdateParams) -> Result<Update, ApiError> {
    if params.vault_ids.is_sent() {
        return Err(ApiError::field("vault_ids", "cannot be changed"));
    }
    if let Patch::Set(title) = &params.title {
        definition::text("title", title, 0, super::TITLE)?;
    }
    let agent = match params.agent {
        Patch::Clear => return Err(ApiError::field("agent", "cannot be cleared")),
        Patch::Keep => Default::default(),
        Patch::Set(agent) => agent,
    };
    let inside = |error: ApiError| error.inside("agent");
    Ok(Update {
        title: params.title,
        metadata: match params.metadata {
            Patch::Keep | Patch::Clear => BTreeMap::new(),
            Patch::Set(patch) => patch,
        },
        tools: match agent.tools {
            Patch::Keep => None,
            Patch::Clear => Some(Vec::new()),
            Patch::Set(entries) => Some(definition::tools(&entries).map_err(inside)?),
        },
        servers: match agent.mcp_servers {
            Patch::Keep => None,
            Patch::Clear => Some(Vec::new()),
            Patch::Set(entries) => Some(definition::servers(&entries).map_err(inside)?),
        },
        budget: match params.budget {
            Patch::Keep => Patch::Keep,
            Patch::Clear => Patch::Clear,
            Patch::Set(value) => Patch::Set(budget(&value)?),
        },
    })
}

/// What the update writes: only what changes, and one `session.updated` that says so (UP-4, SQ-21).
pub(crate) fn decide(state: &SessionState, update: Update) -> Result<Change, ApiError> {
    let record = &state.record;
    if record.archived_at.is_some() || record.status == SessionStatus::Terminated {
        return Err(ApiError::invalid(
            "the session has ended and can no longer be changed",
        ));
    }
    let replaces = update.tools.is_some() || update.servers.is_some();
    if replaces && record.status != SessionStatus::Idle {
        return Err(ApiError::field(
            "agent",
            format!(
                "can only be changed while the session is idle, and it is {}: send user.interrupt and wait",
                record.status.as_str()
            ),
        ));
    }
    let title = update.title.apply(record.title.clone());
    let title = (title != record.title).then_some(title);
    let metadata = definition::merge_metadata(&record.metadata, update.metadata)?;
    let metadata = (metadata != record.metadata).then_some(metadata);
    let agent = change_agent(&record.agent, update.tools, update.servers)?;
    let budget = change_budget(state, update.budget)?;
    if title.is_none() && metadata.is_none() && agent.is_none() && budget.is_none() {
        return Ok(Change::default());
    }
    let event = EventBody::SessionUpdated {
        agent: agent.clone().map(Box::new),
        budget,
        metadata: metadata.clone().filter(|metadata| !metadata.is_empty()),
        title: title.clone(),
    };
    // A turn that is open goes on with the agent as it was (UP-3, CC-6).
    let before = agent
        .is_some()
        .then(|| manyhands_brain::agent_before(&record.agent));
    Ok(Change {
        append: Append {
            entries: before.into_iter().chain([NewEntry::event(event)]).collect(),
            ..Append::default()
        },
        // A pause at the cap ends by itself: the brain finds what is owed (runtime BU-9, BU-10).
        wants_brain: budget.is_some(),
        title,
        metadata,
        agent,
        budget,
        ..Change::default()
    })
}

/// The agent with other tools or servers, validated together (UP-3); `None` when nothing changes.
fn change_agent(
    current: &SessionAgent,
    tools: Option<Vec<Tool>>,
    servers: Option<Vec<McpServer>>,
) -> Result<Option<SessionAgent>, ApiError> {
    let mut agent = current.clone();
    let definition = &mut agent.definition;
    if let Some(tools) = tools {
        definition.tools = tools;
    }
    if let Some(servers) = servers {
        definition.mcp_servers = servers;
    }
    definition::agree(&definition.tools, &definition.mcp_servers)
        .and_then(|()| definition::readable(&definition.tools, &definition.skills))
        .map_err(|error| error.inside("agent"))?;
    Ok((agent != *current).then_some(agent))
}

/// The new cap (`Some(None)` removes it); `None` when nothing changes.
fn change_budget(
    state: &SessionState,
    patch: Patch<Budget>,
) -> Result<Option<Option<Budget>>, ApiError> {
    let record = &state.record;
    let Patch::Set(budget) = patch else {
        let removed = matches!(patch, Patch::Clear) && record.budget.is_some();
        return Ok(removed.then_some(None));
    };
    let Some(current) = record.budget else {
        let problem = "can only be set when a session is created";
        return Err(ApiError::field("budget", problem).with_code("budget_create_only"));
    };
    let consumed = record.consumption_at(state.now);
    if consumed.unpriced {
        let problem =
            "cannot be changed, only removed: the session used a model without a list price";
        return Err(ApiError::field("budget", problem).with_code("model_not_budgetable"));
    }
    if consumed.cost.reaches(&budget) {
        let problem = "budget.max_list_cost must be greater than the session's consumed list cost";
        return Err(ApiError::invalid(problem).with_code("budget_not_raised"));
    }
    Ok((budget != current).then_some(Some(budget)))
}

#[cfg(test)]
mod tests;
