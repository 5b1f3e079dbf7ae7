//! What the routes' bodies are made of, for tests of one workspace against another.

/// Bodies with which a request would succeed but for the ids in its path; `{}` for all others.
pub(super) const BODIES: &[(&str, &str)] = &[
    ("update_environment", r#"{"name": "n"}"#),
    ("send_events", r#"{"events": [{"type": "user.interrupt"}]}"#),
    (
        "add_resource",
        r#"{"type": "file", "file_id": "{file_id}"}"#,
    ),
    ("update_resource", r#"{"authorization_token": "t"}"#),
    (
        "create_credential",
        r#"{"auth": {"type": "static_bearer", "token": "t", "mcp_server_url": "https://mcp.example.com/x"}}"#,
    ),
    ("create_memory", r#"{"path": "/n.md", "content": "c"}"#),
    (
        "create_skill_version",
        "--b\r\nContent-Disposition: form-data; name=\"files[]\"; filename=\"first/SKILL.md\"\r\n\r\n---\nname: first\ndescription: d\n---\nbody\r\n--b--\r\n",
    ),
    ("rename_workspace", r#"{"name": "n"}"#),
    (
        "create_action_url",
        r#"{"action": {"type": "enroll_end_user"}}"#,
    ),
];

/// Requests that refer to something in their bodies, and whether they succeed with the ids of the caller's own workspace.
pub(super) const REFERENCES: &[(&str, &str, &str, bool)] = &[
    (
        "create_session",
        "/v1/sessions",
        r#"{"agent": "{agent_id}", "environment_id": "{environment_id}", "vault_ids": ["{vault_id}"],
            "resources": [{"type": "file", "file_id": "{file_id}"},
                          {"type": "memory_store", "memory_store_id": "{memory_store_id}"}]}"#,
        true,
    ),
    (
        "create_session",
        "/v1/sessions",
        r#"{"agent": {"type": "agent", "id": "{agent_id}", "version": 1}, "environment_id": "{environment_id}"}"#,
        true,
    ),
    (
        "create_agent",
        "/v1/agents",
        r#"{"name": "a", "model": "claude-sonnet-4-5", "tools": [{"type": "agent_toolset_20260401"}],
            "skills": [{"type": "custom", "skill_id": "{skill_id}"}]}"#,
        true,
    ),
    (
        "update_agent",
        "/v1/agents/{agent_id}",
        r#"{"skills": [{"type": "custom", "skill_id": "{skill_id}", "version": "{version}"}]}"#,
        true,
    ),
    (
        "add_resource",
        "/v1/sessions/{session_id}/resources",
        r#"{"type": "file", "file_id": "{file_id}"}"#,
        true,
    ),
    (
        "send_events",
        "/v1/sessions/{session_id}/events",
        r#"{"events": [{"type": "user.interrupt", "session_thread_id": "{thread_id}"}]}"#,
        true,
    ),
    (
        "send_events",
        "/v1/sessions/{session_id}/events",
        r#"{"events": [{"type": "user.message", "content": [
            {"type": "document", "source": {"type": "file", "file_id": "{file_id}"}}]}]}"#,
        true,
    ),
    // Nobody has asked anything in these sessions.
    (
        "send_events",
        "/v1/sessions/{session_id}/events",
        r#"{"events": [{"type": "user.tool_confirmation", "tool_use_id": "{event_id}", "result": "allow"}]}"#,
        false,
    ),
    (
        "send_events",
        "/v1/sessions/{session_id}/events",
        r#"{"events": [{"type": "user.custom_tool_result", "custom_tool_use_id": "{event_id}", "content": []}]}"#,
        false,
    ),
    (
        "create_key",
        "/v1/manyhands/keys",
        r#"{"name": "k", "environment_id": "{environment_id}"}"#,
        true,
    ),
    (
        "create_key",
        "/v1/manyhands/keys",
        r#"{"name": "k", "workspace_id": "{workspace_id}"}"#,
        true,
    ),
];

/// Names of members that end like an id's and refer to nothing that a workspace has.
pub(super) const NO_REFERENCES: &[&str] = &[
    // OAuth's name for who asks.
    "client_id",
    // What the client calls somebody.
    "external_id",
    "reference_id",
];
