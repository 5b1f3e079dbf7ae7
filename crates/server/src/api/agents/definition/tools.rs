//! The list of an agent's tools, and the built-in toolset in it (runtime AG-9, AG-10).

use std::collections::HashSet;

use manyhands_hands::toolset;
use manyhands_protocol::agent::{
    AgentToolsetParams, CustomToolParams, PermissionPolicy, Tool, ToolConfig, ToolConfigParam,
    ToolDefault, ToolDefaultParam,
};
use manyhands_protocol::web::WebSettings;
use serde_json::Value;

use super::{custom, mcp, web};
use crate::api::error::ApiError;
use crate::api::json;

/// Entries of the list, and tools over all of them: both limits hold (runtime AG-9, CONFLICT-6).
const ENTRIES: usize = 128;
const TOOLS: usize = 256;

pub(super) const TOOLSET: &str = "agent_toolset_20260401";

/// The tool entries, resolved (runtime AG-10, CT-1).
pub(crate) fn tools(entries: &[Value]) -> Result<Vec<Tool>, ApiError> {
    if entries.len() > ENTRIES {
        let problem = format!(
            "has {} entries; at most {ENTRIES} are allowed",
            entries.len()
        );
        return Err(ApiError::field("tools", problem));
    }
    let mut resolved = Vec::with_capacity(entries.len());
    let mut names = HashSet::new();
    let customs = customs(entries);
    for (index, entry) in entries.iter().enumerate() {
        let at = format!("tools[{index}]");
        let tool = match json::tag(entry, &at)? {
            TOOLSET => {
                if !names.insert(TOOLSET.to_owned()) {
                    return Err(ApiError::field(at, format!("{TOOLSET} is listed twice")));
                }
                built_in(json::entry(entry, &at)?, &customs, &at)?
            }
            "mcp_toolset" => mcp::toolset(json::entry(entry, &at)?, &at)?,
            "custom" => {
                let params: CustomToolParams = json::entry(entry, &at)?;
                custom::check(&params, &at)?;
                if !names.insert(params.name.clone()) {
                    return Err(ApiError::field(
                        format!("{at}.name"),
                        format!("{:?} is used twice", params.name),
                    ));
                }
                Tool::Custom {
                    name: params.name,
                    description: params.description,
                    input_schema: params.input_schema,
                }
            }
            _ => {
                return Err(ApiError::field(
                    format!("{at}.type"),
                    "expected agent_toolset_20260401, mcp_toolset or custom",
                ));
            }
        };
        resolved.push(tool);
    }
    let named: usize = resolved.iter().map(named).sum();
    if named > TOOLS {
        let problem = format!("name {named} tools; at most {TOOLS} are allowed");
        return Err(ApiError::field("tools", problem));
    }
    Ok(resolved)
}

/// The tools that an entry names. What an MCP server has beyond those with settings of their own is not known here.
fn named(tool: &Tool) -> usize {
    match tool {
        Tool::AgentToolset { .. } => toolset::definitions().len(),
        Tool::McpToolset { configs, .. } => configs.len(),
        Tool::Custom { .. } => 1,
    }
}

/// The names of the custom tools, as far as they can be told before the entries are checked.
fn customs(entries: &[Value]) -> HashSet<String> {
    let custom = entries.iter().filter(|entry| entry["type"] == "custom");
    custom
        .filter_map(|entry| Some(entry["name"].as_str()?.to_owned()))
        .collect()
}

/// What holds for the tools of a set that say nothing themselves: enabled, and the set's own policy, unless it says otherwise.
pub(super) fn default_of(sent: Option<ToolDefaultParam>, policy: PermissionPolicy) -> ToolDefault {
    let ToolDefaultParam {
        enabled,
        permission_policy,
    } = sent.unwrap_or_default();
    ToolDefault {
        enabled: enabled.unwrap_or(true),
        permission_policy: permission_policy.unwrap_or(policy),
    }
}

fn built_in(
    params: AgentToolsetParams,
    customs: &HashSet<String>,
    at: &str,
) -> Result<Tool, ApiError> {
    let default_config = default_of(params.default_config, PermissionPolicy::AlwaysAllow {});
    let mut configs = Vec::new();
    let mut seen = HashSet::new();
    for (index, config) in params.configs.unwrap_or_default().into_iter().enumerate() {
        let at = format!("{at}.configs[{index}]");
        if !seen.insert(config.name.clone()) {
            return Err(ApiError::field(
                at,
                format!("{:?} is listed twice", config.name),
            ));
        }
        configs.push(tool_config(config, &default_config, customs, &at)?);
    }
    Ok(Tool::AgentToolset {
        configs,
        default_config,
    })
}

fn tool_config(
    config: ToolConfigParam,
    default: &ToolDefault,
    customs: &HashSet<String>,
    at: &str,
) -> Result<ToolConfig, ApiError> {
    let name = config.name;
    if toolset::find(&name).is_none() {
        return Err(ApiError::field(
            format!("{at}.name"),
            "expected bash, edit, read, write, glob, grep, web_fetch or web_search",
        ));
    }
    if config.kind.as_ref().is_some_and(|kind| *kind != name) {
        return Err(ApiError::field(
            format!("{at}.type"),
            format!("expected {name:?}, the same as the name"),
        ));
    }
    let enabled = config.enabled.unwrap_or(default.enabled);
    let given = WebSettings {
        allowed_domains: config.allowed_domains,
        blocked_domains: config.blocked_domains,
        user_location: config.user_location,
        max_content_tokens: config.max_content_tokens,
        url_sources: config.url_sources,
    };
    Ok(ToolConfig {
        web: web::settings(&name, given, customs, at)?,
        kind: name.clone(),
        name,
        enabled,
        permission_policy: config
            .permission_policy
            .unwrap_or(default.permission_policy),
    })
}
