//! The neighbours of the brain, as far as the stories need them: admission, an agent, a log that can be read.

use manyhands_protocol::agent::{
    Agent, Definition, ExecutionIdentity, PermissionPolicy, Tool, ToolConfig, ToolDefault,
};
use manyhands_protocol::environment::{Environment, EnvironmentConfig};
use manyhands_protocol::event::EventBody;
use manyhands_protocol::model::{Effort, EffortLevel, ModelConfig, Speed};
use manyhands_protocol::session::SessionStatus;
use manyhands_protocol::time::{Clock, SystemClock};
use manyhands_protocol::{AgentId, EnvironmentId, EventId, ThreadId, tag};
use manyhands_store::{Append, Change, Entry, EntryKind, NewEntry};
use serde_json::{Value, json};

/// The built-in tools and one of the client's.
pub(crate) fn tools() -> Vec<Tool> {
    let default_config = ToolDefault {
        enabled: true,
        permission_policy: PermissionPolicy::AlwaysAllow {},
    };
    let off = ToolConfig {
        name: "grep".to_owned(),
        kind: "grep".to_owned(),
        enabled: false,
        permission_policy: PermissionPolicy::AlwaysAllow {},
        web: Default::default(),
    };
    vec![
        Tool::AgentToolset {
            configs: vec![off],
            default_config,
        },
        Tool::Custom {
            name: "ask_human".to_owned(),
            description: "Asks a person.".to_owned(),
            input_schema: json!({"type": "object", "properties": {"question": {"type": "string"}}}),
        },
    ]
}

/// Where an MCP server is.
pub(crate) fn server_url(name: &str) -> String {
    format!("https://{name}.example.com/mcp")
}

/// As [`tools`], under these policies: the default's, and those of single tools.
pub(crate) fn tools_under(
    default: PermissionPolicy,
    own: &[(&str, PermissionPolicy)],
) -> Vec<Tool> {
    let mut tools = tools();
    if let Tool::AgentToolset {
        configs,
        default_config,
    } = &mut tools[0]
    {
        default_config.permission_policy = default;
        configs.extend(own.iter().map(|(name, policy)| ToolConfig {
            name: (*name).to_owned(),
            kind: (*name).to_owned(),
            enabled: true,
            permission_policy: *policy,
            web: Default::default(),
        }));
    }
    tools
}

/// The server's admission, as far as the stories need it.
pub(crate) fn admit(
    state: &manyhands_store::SessionState,
    events: Vec<EventBody>,
    thread: &ThreadId,
) -> Change {
    let idle = state.record.status == SessionStatus::Idle;
    let mut open = state.calls.len();
    let waiting = open > 0;
    let mut append = Append::default();
    let (mut interrupts, mut work) = (false, false);
    for body in events {
        let id = EventId::generate();
        let mut queued = body.is_queued_on_receipt();
        let mut confirmed = None;
        match &body {
            EventBody::UserInterrupt { .. } if idle && !waiting && !state.wanted => queued = false,
            EventBody::UserInterrupt { .. } => interrupts = true,
            EventBody::UserCustomToolResult {
                custom_tool_use_id, ..
            } => {
                append
                    .answered
                    .push((custom_tool_use_id.clone(), id.clone()));
                open -= 1;
                work = true;
            }
            EventBody::UserToolConfirmation { tool_use_id, .. } => {
                append.answered.push((tool_use_id.clone(), id.clone()));
                open -= 1;
                work = true;
                confirmed = Some(id.clone());
            }
            // Alone on an idle session it is read at once and opens no turn.
            EventBody::SystemMessage { .. } if idle && open == 0 && !work => queued = false,
            EventBody::SystemMessage { .. } => work |= !idle,
            _ => work |= !idle || !waiting,
        }
        append.entries.push(NewEntry::Event { id, body, queued });
        let confirmed = confirmed.map(|event_id| NewEntry::Processed { event_id });
        append.entries.extend(confirmed);
    }
    let starts = idle && open == 0 && !interrupts && (work || waiting);
    if starts {
        append
            .entries
            .push(NewEntry::event(EventBody::SessionThreadStatusRunning {
                session_thread_id: thread.clone(),
                agent_name: "helper".to_owned(),
            }));
        append
            .entries
            .push(NewEntry::event(EventBody::SessionStatusRunning {}));
        append.status = Some(SessionStatus::Running);
    }
    Change {
        append,
        wants_brain: starts || work || interrupts,
        ..Change::default()
    }
}

pub(super) fn line(entry: &Entry) -> String {
    let body: Value = serde_json::from_str(&entry.body).unwrap();
    let name = &entry.type_name;
    if entry.kind == EntryKind::Processed {
        return format!("{name} processed");
    }
    let texts = |content: &Value| {
        let blocks = content.as_array().cloned().unwrap_or_default();
        let texts = blocks
            .iter()
            .map(|block| block["text"].as_str().unwrap_or("?"));
        texts.collect::<Vec<_>>().join("|")
    };
    match &**name {
        "user.message" | "system.message" | "agent.message" => {
            format!("{name}: {}", texts(&body["content"]))
        }
        "user.tool_confirmation" => format!("{name}: {}", body["result"].as_str().unwrap()),
        "user.custom_tool_result" => format!("{name}: {}", texts(&body["content"])),
        "agent.tool_use" => format!(
            "{name}: {} {} {}",
            body["name"].as_str().unwrap(),
            body["input"],
            body["evaluated_permission"].as_str().unwrap_or("-")
        ),
        "agent.mcp_tool_use" => format!(
            "{name}: {} of {} {} {}",
            body["name"].as_str().unwrap(),
            body["mcp_server_name"].as_str().unwrap(),
            body["input"],
            body["evaluated_permission"].as_str().unwrap_or("-")
        ),
        "agent.custom_tool_use" => {
            format!(
                "{name}: {} {}",
                body["name"].as_str().unwrap(),
                body["input"]
            )
        }
        "agent.tool_result" | "agent.mcp_tool_result" => format!(
            "{name}: {}{}",
            texts(&body["content"]),
            if body["is_error"] == true {
                " (error)"
            } else {
                ""
            }
        ),
        "session.status_idle" | "session.thread_status_idle" => {
            format!("{name}: {}", body["stop_reason"]["type"].as_str().unwrap())
        }
        "session.error" => format!(
            "{name}: {} {}",
            body["error"]["type"].as_str().unwrap(),
            body["error"]["retry_status"]["type"].as_str().unwrap()
        ),
        "span.model_request_end" if body["is_error"] == true => format!("{name} (error)"),
        _ => name.to_string(),
    }
}

pub(crate) fn agent() -> Agent {
    let now = SystemClock.now();
    Agent {
        id: AgentId::generate(),
        kind: tag::Agent::Value,
        version: 1,
        definition: Definition {
            name: "helper".to_owned(),
            description: None,
            system: Some("You help.".to_owned()),
            model: ModelConfig {
                id: "claude-opus-4-8".to_owned(),
                effort: Effort {
                    level: EffortLevel::High,
                },
                speed: Speed::Standard,
                inference_geo: None,
            },
            tools: tools(),
            mcp_servers: Vec::new(),
            skills: Vec::new(),
            multiagent: None,
            execution_identity: ExecutionIdentity::default(),
        },
        metadata: Default::default(),
        created_at: now,
        updated_at: now,
        archived_at: None,
    }
}

pub(crate) fn environment() -> Environment {
    let now = SystemClock.now();
    Environment {
        id: EnvironmentId::generate(),
        kind: tag::Environment::Value,
        name: "plain".to_owned(),
        description: None,
        config: EnvironmentConfig::default(),
        metadata: Default::default(),
        scope: Default::default(),
        created_at: now,
        updated_at: now,
        archived_at: None,
    }
}
