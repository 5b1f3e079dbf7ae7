//! The tools of MCP servers, as far as they are decided on (pure): what was listed, what of it a model is shown, and
//! under which names (runtime §17). Connecting and calling is in `wake`.

mod listing;
mod name;
mod schema;

pub(crate) use listing::{Listings, McpTools, Tool, admit, session_error};
use name::{model_name, named};

use manyhands_protocol::agent::{Definition, McpServer, PermissionPolicy, Tool as AgentTool};
use serde::{Deserialize, Serialize};

/// The tool of a call, as clients and servers name it (runtime MC-4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Target {
    /// The agent's name for the server.
    pub(crate) server: String,
    /// The server's name for the tool.
    pub(crate) tool: String,
}

/// A server of an agent: one that a toolset names. The agent's others are not talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Server<'a> {
    /// The agent's name for it.
    pub(crate) name: &'a str,
    /// Its endpoint.
    pub(crate) url: &'a str,
}

/// The servers that an agent's toolsets name, in the order of the toolsets.
pub(crate) fn servers(agent: &Definition) -> impl Iterator<Item = Server<'_>> {
    let named = agent.tools.iter().filter_map(|tool| match tool {
        AgentTool::McpToolset {
            mcp_server_name, ..
        } => Some(mcp_server_name.as_str()),
        AgentTool::AgentToolset { .. } | AgentTool::Custom { .. } => None,
    });
    named.filter_map(|name| server(agent, name))
}

/// The server of this name, if the agent has it.
pub(crate) fn server<'a>(agent: &'a Definition, name: &str) -> Option<Server<'a>> {
    agent.mcp_servers.iter().find_map(|server| {
        let McpServer::Url { name: own, url } = server;
        (own == name).then_some(Server { name: own, url })
    })
}

/// What the agent says about a tool of a server: its own setting, else its toolset's; `None` when it is switched off, or
/// no toolset names the server (runtime MC-2, MC-3, TC-2).
pub(crate) fn policy(agent: &Definition, server: &str, tool: &str) -> Option<PermissionPolicy> {
    agent.tools.iter().find_map(|entry| match entry {
        AgentTool::McpToolset {
            mcp_server_name,
            configs,
            default_config,
        } if mcp_server_name == server => {
            let own = configs.iter().find(|config| config.name == tool);
            let (enabled, policy) = own.map_or(
                (default_config.enabled, default_config.permission_policy),
                |own| (own.enabled, own.permission_policy),
            );
            enabled.then_some(policy)
        }
        _ => None,
    })
}

/// A tool that a model may call now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Offer<'a> {
    /// The agent's name for the server.
    pub(crate) server: &'a str,
    /// What the server said of it.
    pub(crate) tool: &'a Tool,
    /// Who must agree first.
    pub(crate) policy: PermissionPolicy,
}

/// What a model may call now: of each server in order what it has listed and the agent has not switched off, by name.
pub(crate) fn offers<'a>(
    agent: &'a Definition,
    listings: &'a Listings,
) -> impl Iterator<Item = Offer<'a>> {
    servers(agent).flat_map(move |server| {
        let tools = listings.tools(server).iter();
        tools.filter_map(move |tool| {
            let policy = policy(agent, server.name, &tool.name)?;
            Some(Offer {
                server: server.name,
                tool,
                policy,
            })
        })
    })
}

/// What a model means by a name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Meaning {
    /// A tool that it may call, under this policy.
    Offered(Target, PermissionPolicy),
    /// A tool of one of the agent's servers that is switched off, or that the server does not list (runtime TL-5).
    Absent(Target),
}

/// What a model means by this name, if it is one of an MCP tool.
pub(crate) fn meaning(agent: &Definition, listings: &Listings, name: &str) -> Option<Meaning> {
    let target = |server: &str, tool: &str| Target {
        server: server.to_owned(),
        tool: tool.to_owned(),
    };
    let offered = offers(agent, listings)
        .find(|offer| model_name(offer.server, &offer.tool.name) == name)
        .map(|offer| Meaning::Offered(target(offer.server, &offer.tool.name), offer.policy));
    offered.or_else(|| {
        let listed = servers(agent).find_map(|server| {
            let mut tools = listings.tools(server).iter();
            let tool = tools.find(|tool| model_name(server.name, &tool.name) == name)?;
            Some(target(server.name, &tool.name))
        });
        let absent = listed.or_else(|| {
            let (server, tool) = servers(agent).find_map(|server| {
                let tool = named(server.name, name)?;
                Some((server.name, tool))
            })?;
            Some(target(server, tool))
        });
        absent.map(Meaning::Absent)
    })
}

#[cfg(test)]
mod tests;
