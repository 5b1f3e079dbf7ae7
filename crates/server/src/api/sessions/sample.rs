//! A session for tests of what is decided on one.

use manyhands_protocol::session::SessionStatus;
use manyhands_protocol::{EnvironmentId, SessionId, ThreadId, Timestamp, WorkspaceId};
use manyhands_store::{Change, NewSession, SessionRecord, SessionState};
use serde_json::json;

/// A session with this status whose agent has this model. Nothing has happened in it yet.
pub(crate) fn state(status: SessionStatus, model: &str) -> SessionState {
    let now = Timestamp::from_micros(1);
    let agent = json!({"id": "agent_01a", "type": "agent", "version": 1, "name": "coder", "description": null,
        "system": null, "model": {"id": model, "effort": {"type": "high"}, "speed": "standard"}, "tools": [],
        "mcp_servers": [], "skills": [], "multiagent": null, "execution_identity": {"type": "service_account"}});
    let new = NewSession {
        workspace: WorkspaceId::parse("wrkspc_01a").expect("an id"),
        id: SessionId::parse("sesn_01a").expect("an id"),
        thread_id: ThreadId::parse("sthr_01a").expect("an id"),
        environment_id: EnvironmentId::parse("env_01a").expect("an id"),
        agent: serde_json::from_value(agent).expect("an agent"),
        title: None,
        metadata: Default::default(),
        budget: None,
        vault_ids: Vec::new(),
        change: Change::default(),
    };
    let (record, _) = new.begin(now);
    SessionState {
        record: SessionRecord { status, ..record },
        calls: Vec::new(),
        queued: 0,
        wanted: false,
        now,
    }
}
