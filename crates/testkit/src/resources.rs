//! Resources as a server keeps them, for those who measure what is below it.

use manyhands_protocol::agent::Agent;
use manyhands_protocol::environment::Environment;
use serde_json::{Value, json};

const NOW: &str = "2026-11-21T00:00:00Z";

/// An agent with nothing but a name.
pub fn agent() -> Agent {
    made(json!({
        "id": "agent_measured", "type": "agent", "version": 1, "name": "measured", "description": null, "system": null,
        "model": {"id": "scripted", "effort": {"type": "high"}, "speed": "standard"}, "tools": [],
        "mcp_servers": [], "skills": [], "multiagent": null, "execution_identity": {"type": "service_account"},
        "metadata": {}, "created_at": NOW, "updated_at": NOW, "archived_at": null
    }))
}

/// An environment whose sandboxes are somebody else's.
pub fn environment() -> Environment {
    made(json!({
        "id": "env_measured", "type": "environment", "name": "measured", "description": null,
        "config": {"type": "self_hosted"}, "metadata": {}, "scope": "organization",
        "created_at": NOW, "updated_at": NOW, "archived_at": null
    }))
}

fn made<T: serde::de::DeserializeOwned>(resource: Value) -> T {
    serde_json::from_value(resource).expect("a resource")
}
