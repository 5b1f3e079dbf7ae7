//! An agent's MCP servers and the toolsets that name them, checked and resolved (runtime MC-1 to MC-3, AG-9).

use std::collections::HashSet;

use manyhands_protocol::agent::{
    McpServer, McpServerParams, McpToolConfig, McpToolsetParams, PermissionPolicy, Tool,
};
use manyhands_vault::ServerUrl;
use serde_json::Value;

use super::text;
use super::tools::default_of;
use crate::api::error::ApiError;
use crate::api::json;

/// Servers of an agent, and the lengths of their names and URLs (api §29).
const SERVERS: usize = 20;
const NAME: usize = 255;
const URL: usize = 2048;
/// The longest name of a server's tool (runtime MC-2).
const TOOL: usize = 128;

/// The server entries. They hold no secrets: a user or a password in a URL is refused (MC-1).
pub(crate) fn servers(entries: &[Value]) -> Result<Vec<McpServer>, ApiError> {
    if entries.len() > SERVERS {
        let problem = format!(
            "has {} entries; at most {SERVERS} are allowed",
            entries.len()
        );
        return Err(ApiError::field("mcp_servers", problem));
    }
    let mut names = HashSet::new();
    let mut servers = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let at = format!("mcp_servers[{index}]");
        if json::tag(entry, &at)? != "url" {
            return Err(ApiError::field(format!("{at}.type"), "expected url"));
        }
        let McpServerParams { name, url } = json::entry(entry, &at)?;
        text(&format!("{at}.name"), &name, 1, NAME)?;
        if !names.insert(name.clone()) {
            let problem = format!("{name:?} is used twice");
            return Err(ApiError::field(format!("{at}.name"), problem));
        }
        text(&format!("{at}.url"), &url, 1, URL)?;
        // The same reader as of credentials, so that each URL here can have one (MC-6).
        ServerUrl::parse(&url)
            .map_err(|problem| ApiError::field(format!("{at}.url"), problem.to_string()))?;
        servers.push(McpServer::Url { name, url });
    }
    Ok(servers)
}

/// A toolset with everything resolved: all tools are on, and each call is asked about, unless it says otherwise (MC-2).
pub(super) fn toolset(params: McpToolsetParams, at: &str) -> Result<Tool, ApiError> {
    text(
        &format!("{at}.mcp_server_name"),
        &params.mcp_server_name,
        1,
        NAME,
    )?;
    let default_config = default_of(params.default_config, PermissionPolicy::AlwaysAsk {});
    let mut seen = HashSet::new();
    let mut configs = Vec::new();
    for (index, config) in params.configs.unwrap_or_default().into_iter().enumerate() {
        let at = format!("{at}.configs[{index}]");
        text(&format!("{at}.name"), &config.name, 1, TOOL)?;
        if !seen.insert(config.name.clone()) {
            let problem = format!("{:?} is listed twice", config.name);
            return Err(ApiError::field(at, problem));
        }
        configs.push(McpToolConfig {
            name: config.name,
            enabled: config.enabled.unwrap_or(default_config.enabled),
            permission_policy: config
                .permission_policy
                .unwrap_or(default_config.permission_policy),
        });
    }
    Ok(Tool::McpToolset {
        mcp_server_name: params.mcp_server_name,
        configs,
        default_config,
    })
}

/// Whether each toolset names a server, and each server is named by exactly one toolset (AG-9).
pub(crate) fn agree(tools: &[Tool], servers: &[McpServer]) -> Result<(), ApiError> {
    let mut named = HashSet::new();
    for (index, tool) in tools.iter().enumerate() {
        let Tool::McpToolset {
            mcp_server_name: name,
            ..
        } = tool
        else {
            continue;
        };
        let at = || format!("tools[{index}].mcp_server_name");
        if !servers
            .iter()
            .any(|McpServer::Url { name: server, .. }| server == name)
        {
            let problem = format!("{name:?} is not one of mcp_servers");
            return Err(ApiError::field(at(), problem));
        }
        if !named.insert(name) {
            let problem = format!("{name:?} has a toolset already");
            return Err(ApiError::field(at(), problem));
        }
    }
    let lonely = servers.iter().enumerate();
    let lonely = lonely.map(|(index, McpServer::Url { name, .. })| (index, name));
    match lonely.into_iter().find(|(_, name)| !named.contains(name)) {
        Some((index, name)) => {
            let problem = format!("no mcp_toolset names {name:?}");
            Err(ApiError::field(
                format!("mcp_servers[{index}].name"),
                problem,
            ))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
