//! What the sessions of a recording are made of.

use manyhands_protocol::agent::{Agent, SessionAgent};
use manyhands_protocol::environment::Environment;
use manyhands_protocol::event::EventBody;
use manyhands_protocol::session::SessionStatus;
use manyhands_protocol::{AgentId, EnvironmentId, EventId, SessionId, ThreadId, WorkspaceId};
use manyhands_store::{Append, Change, NewEntry, NewSession};
use manyhands_testkit::resources;
use rand::Rng as _;
use rand::rngs::StdRng;

/// Some text, mostly short, now and then longer than pages of the database.
pub(crate) fn text(rng: &mut StdRng) -> String {
    let length = match rng.random_range(0..20) {
        0 => rng.random_range(10_000..40_000),
        1..=3 => rng.random_range(1_000..9_000),
        _ => rng.random_range(1..300),
    };
    (0..length)
        .map(|_| char::from(rng.random_range(b'a'..=b'z')))
        .collect()
}

/// A user's message that waits for the brain.
pub(crate) fn queued(rng: &mut StdRng) -> NewEntry {
    NewEntry::Event {
        id: EventId::generate(),
        body: said(&text(rng)),
        queued: true,
    }
}

fn body(value: serde_json::Value) -> EventBody {
    serde_json::from_value(value).unwrap()
}

/// A user's message.
pub(crate) fn said(text: &str) -> EventBody {
    body(serde_json::json!({"type": "user.message", "content": [{"type": "text", "text": text}]}))
}

/// An agent's message.
pub(crate) fn answered(text: &str) -> EventBody {
    body(serde_json::json!({"type": "agent.message", "content": [{"type": "text", "text": text}]}))
}

/// A call that the client has to answer.
pub(crate) fn call_body() -> EventBody {
    body(serde_json::json!({"type": "agent.custom_tool_use", "name": "ask", "input": {}}))
}

/// The client's answer to a call.
pub(crate) fn result_of(call: &EventId) -> EventBody {
    body(serde_json::json!({"type": "user.custom_tool_result", "custom_tool_use_id": call}))
}

/// A new agent.
pub(crate) fn agent() -> Agent {
    Agent {
        id: AgentId::generate(),
        ..resources::agent()
    }
}

/// A new environment.
pub(crate) fn environment() -> Environment {
    Environment {
        id: EnvironmentId::generate(),
        ..resources::environment()
    }
}

/// A session that is born with work to do.
pub(crate) fn new_session(
    workspace: &WorkspaceId,
    agent: &Agent,
    environment: &Environment,
    id: SessionId,
) -> NewSession {
    let first = NewEntry::Event {
        id: EventId::generate(),
        body: said("go"),
        queued: true,
    };
    NewSession {
        workspace: workspace.clone(),
        id,
        thread_id: ThreadId::generate(),
        environment_id: environment.id.clone(),
        agent: SessionAgent {
            id: agent.id.clone(),
            kind: Default::default(),
            version: agent.version,
            definition: agent.definition.clone(),
        },
        title: None,
        metadata: Default::default(),
        budget: None,
        vault_ids: Vec::new(),
        change: Change {
            append: Append {
                entries: vec![first],
                status: Some(SessionStatus::Running),
                ..Append::default()
            },
            wants_brain: true,
            ..Change::default()
        },
    }
}
