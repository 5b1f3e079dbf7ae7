//! Resources as a server keeps them, for those who test or measure what is below it.

use manyhands_protocol::agent::Agent;
use manyhands_protocol::environment::Environment;
use manyhands_protocol::vault::{
    Credential, CredentialAuth, CredentialNetworking, InjectionLocation, Vault,
};
use manyhands_protocol::{CredentialId, Timestamp, VaultId};
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

/// A vault with this id and nothing in it, made at this time.
pub fn vault(id: &VaultId, now: Timestamp) -> Vault {
    Vault {
        id: id.clone(),
        kind: Default::default(),
        display_name: "keys".to_owned(),
        metadata: Default::default(),
        created_at: now,
        updated_at: now,
        archived_at: None,
    }
}

/// A new credential without a name, put into this vault at this time.
pub fn credential(vault: &VaultId, auth: CredentialAuth, now: Timestamp) -> Credential {
    Credential {
        id: CredentialId::generate(),
        kind: Default::default(),
        vault_id: vault.clone(),
        display_name: None,
        auth,
        metadata: Default::default(),
        created_at: now,
        updated_at: now,
        archived_at: None,
    }
}

/// An environment variable that goes into headers and bodies of requests to these hosts.
pub fn variable(secret_name: &str, networking: CredentialNetworking) -> CredentialAuth {
    CredentialAuth::EnvironmentVariable {
        secret_name: secret_name.to_owned(),
        networking,
        injection_location: InjectionLocation {
            body: true,
            header: true,
        },
    }
}

fn made<T: serde::de::DeserializeOwned>(resource: Value) -> T {
    serde_json::from_value(resource).expect("a resource")
}
