//! Transcript → the bytes of a model request (pure): prompt, tools, conversation, cache marks.
//!
//! The same log gives the same bytes, and each request's tools, system and messages begin with those of the request
//! before, apart from the cache marks that move along (invariant I6, runtime CC-5).

use std::borrow::Cow;
use std::sync::LazyLock;

use manyhands_hands::toolset::{self, Place};
use manyhands_protocol::agent::{Definition, Tool};
use manyhands_protocol::model::EffortLevel;
use serde_json::json;

use crate::mcp::{self, Listings};
use crate::memory;
use crate::models::{Request, Resolved, Thinking};
use crate::replay::{Json, Role, Transcript, Turn};
use crate::repositories;
use crate::skills;

/// What begins a system message in a user's turn.
const OPERATOR: &str = r#"{"type":"text","text":"The operator of this session says:"}"#;

const MARK: &str = ",\"cache_control\":{\"type\":\"ephemeral\"}}";

/// What an agent with a sandbox is told about it, after its own system prompt.
const SANDBOX_NOTE: &str = "Your tools run in a Linux sandbox of your own. The working directory is /workspace; files there stay for the whole \
     session. Files that the user has attached are in /mnt/session/uploads, which is read-only. Put files that are meant for the user \
     into /mnt/session/outputs. The sandbox reaches the outside over HTTP and HTTPS alone, through a proxy that programs find by \
     themselves. The session's environment decides which hosts; what it does not allow is answered with status 403 and the reason.";

/// Who runs a tool of this name, for this agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// We do: in the sandbox, or beside the server.
    BuiltIn,
    /// The client.
    Custom,
    /// Nobody: it is unknown, or switched off (runtime TL-5).
    None,
}

/// Who runs a tool of this name, for this agent.
pub(crate) fn access(agent: &Definition, name: &str) -> Access {
    let custom = |tool: &Tool| matches!(tool, Tool::Custom { name: own, .. } if own == name);
    if agent.tools.iter().any(custom) {
        Access::Custom
    } else if toolset::find(name).is_some() && is_enabled(agent, name) {
        Access::BuiltIn
    } else {
        Access::None
    }
}

/// Whether the agent has a tool that runs in a sandbox.
pub(crate) fn has_sandbox(agent: &Definition) -> bool {
    let mut in_sandbox = toolset::definitions()
        .iter()
        .filter(|tool| tool.place == Place::Sandbox);
    in_sandbox.any(|tool| is_enabled(agent, tool.name))
}

/// Whether the agent can read files of its sandbox, and so skills (runtime AG-11, SK-6).
pub(crate) fn reads(agent: &Definition) -> bool {
    is_enabled(agent, "read")
}

fn is_enabled(agent: &Definition, name: &str) -> bool {
    agent.tools.iter().any(|tool| match tool {
        Tool::AgentToolset {
            configs,
            default_config,
        } => {
            let own = configs.iter().find(|config| config.name == name);
            own.map_or(default_config.enabled, |config| config.enabled)
        }
        Tool::McpToolset { .. } | Tool::Custom { .. } => false,
    })
}

/// The request that continues a conversation. The transcript must have something for the model to answer.
pub(crate) fn build(agent: &Definition, model: &Resolved, transcript: &Transcript) -> Request {
    let mut body = format!(
        "{{\"model\":{},\"max_tokens\":{},\"stream\":true",
        json!(model.upstream_id),
        model.max_output
    );
    match model.thinking {
        Thinking::Unset => {}
        Thinking::Adaptive => body.push_str(",\"thinking\":{\"type\":\"adaptive\"}"),
        Thinking::Budget(tokens) => body.push_str(&format!(
            ",\"thinking\":{{\"type\":\"enabled\",\"budget_tokens\":{tokens}}}"
        )),
    }
    let effort = agent.model.effort.level;
    if model.effort && effort != EffortLevel::High {
        body.push_str(&format!(
            ",\"output_config\":{{\"effort\":{}}}",
            json!(effort)
        ));
    }
    let tools = tools(agent, &transcript.mcp);
    for (name, blocks) in [("tools", tools), ("system", system(agent, transcript))] {
        if !blocks.is_empty() {
            body.push_str(&format!(",\"{name}\":["));
            push_blocks(&mut body, &blocks, true);
            body.push(']');
        }
    }
    body.push_str(",\"messages\":[");
    push_messages(&mut body, model.mid_conversation_system, transcript);
    body.push_str("]}");
    Request { body: body.into() }
}

/// Bytes of the tools and the system prompt.
pub(crate) fn fixed_bytes(agent: &Definition, transcript: &Transcript) -> usize {
    let system = system(agent, transcript);
    let blocks = tools(agent, &transcript.mcp).into_iter().chain(system);
    blocks.map(|block| block.len()).sum()
}

/// Built-in tools in their documented order, the agent's own in its order, and last those of MCP servers, which may be
/// others in the next turn.
fn tools(agent: &Definition, mcp: &Listings) -> Vec<Json> {
    static BUILT_IN: LazyLock<Vec<Json>> = LazyLock::new(|| {
        let definitions = toolset::definitions().iter();
        definitions
            .map(|tool| tool_json(tool.name, tool.description, &tool.input_schema))
            .collect()
    });
    let built_in = toolset::definitions()
        .iter()
        .zip(&*BUILT_IN)
        .filter(|(definition, _)| is_enabled(agent, definition.name))
        .map(|(_, json)| Json::clone(json));
    let custom = agent.tools.iter().filter_map(|tool| match tool {
        Tool::Custom {
            name,
            description,
            input_schema,
        } => Some(tool_json(name, description, input_schema)),
        Tool::AgentToolset { .. } | Tool::McpToolset { .. } => None,
    });
    let offers = mcp::offers(agent, mcp);
    let listed = offers.map(|offer| offer.definition().to_string().into());
    built_in.chain(custom).chain(listed).collect()
}

fn tool_json(name: &str, description: &str, input_schema: &serde_json::Value) -> Json {
    json!({"name": name, "description": description, "input_schema": input_schema})
        .to_string()
        .into()
}

fn system(agent: &Definition, transcript: &Transcript) -> Vec<Json> {
    let text = |text: &str| json!({"type": "text", "text": text}).to_string().into();
    let repositories = repositories::note(&transcript.repositories).filter(|_| has_sandbox(agent));
    let memory = memory::note(&transcript.memory).filter(|_| has_sandbox(agent));
    let skills = [
        skills::note(&transcript.skills),
        skills::note_found(&transcript.skills_known),
    ];
    let skills = skills.iter().flatten().filter(|_| reads(agent));
    let own = agent
        .system
        .as_deref()
        .filter(|system| !system.trim().is_empty());
    own.into_iter()
        .chain(has_sandbox(agent).then_some(SANDBOX_NOTE))
        .chain(repositories.as_deref())
        .chain(memory.as_deref())
        .chain(skills.map(String::as_str))
        .map(text)
        .collect()
}

/// The conversation. Marks: the end of the last user turn, for the next request, and the end of the user turn before
/// it, where this request finds what the last one left: a provider looks back only a few blocks from a mark.
///
/// For a model that takes no system turns (its entry was changed since they were sent), they are said in the user's.
fn push_messages(body: &mut String, takes_system: bool, transcript: &Transcript) {
    let tail: Vec<Turn> = transcript.tail().collect();
    let turns: Vec<&Turn> = transcript.turns.iter().chain(&tail).collect();
    let is = |index: usize, role| turns.get(index).is_some_and(|turn| turn.role == role);
    let users = (0..turns.len())
        .rev()
        .filter(|index| is(*index, Role::User));
    let marked: Vec<usize> = users.take(2).collect();
    for (index, turn) in turns.iter().enumerate() {
        if turn.role == Role::System && !takes_system {
            continue;
        }
        if index > 0 {
            body.push(',');
        }
        let mut blocks = Cow::Borrowed(&turn.blocks);
        if is(index + 1, Role::System) && !takes_system {
            let said = blocks.to_mut();
            said.push(OPERATOR.into());
            said.extend_from_slice(&turns[index + 1].blocks);
        }
        push_turn(body, turn.role, &blocks, marked.contains(&index));
    }
}

fn push_turn(body: &mut String, role: Role, blocks: &[Json], marked: bool) {
    body.push_str(match role {
        Role::User => "{\"role\":\"user\",\"content\":[",
        Role::System => "{\"role\":\"system\",\"content\":[",
        Role::Assistant => "{\"role\":\"assistant\",\"content\":[",
    });
    push_blocks(body, blocks, marked);
    body.push_str("]}");
}

fn push_blocks(body: &mut String, blocks: &[Json], marked: bool) {
    for (index, block) in blocks.iter().enumerate() {
        if index > 0 {
            body.push(',');
        }
        let last = index + 1 == blocks.len();
        match block.strip_suffix('}').filter(|_| marked && last) {
            Some(open) => {
                body.push_str(open);
                body.push_str(MARK);
            }
            None => body.push_str(block),
        }
    }
}

#[cfg(test)]
mod tests;
