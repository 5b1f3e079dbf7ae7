//! What servers have listed: kept in the log, so that every model request can be built from it again (invariant I6).

use std::collections::BTreeMap;
use std::sync::Arc;

use manyhands_mcp::Failure;
use manyhands_protocol::agent::Definition;
use manyhands_protocol::event::{RetryStatus, SessionError, SessionErrorType};
use serde::{Deserialize, Serialize};

use super::{Server, policy, servers};

pub(crate) use manyhands_mcp::Tool;

/// Tools of all servers together that a model is shown.
const MOST_TOOLS: usize = 512;

/// Bytes of their definitions together.
const MOST_BYTES: usize = 1 << 20;

/// Bytes of one tool's definition.
const LONGEST: usize = 64 << 10;

/// Body of an [`MCP_TOOLS`](crate::record::MCP_TOOLS) entry: what the servers said that were asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct McpTools {
    /// The servers, in the order of the agent's toolsets.
    pub(crate) servers: Vec<ServerTools>,
}

/// What one server said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServerTools {
    /// The agent's name for it.
    pub(crate) name: String,
    /// Where it was asked.
    pub(crate) url: String,
    /// What it said.
    pub(crate) listed: Listed,
}

/// What a server said about its tools.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Listed {
    /// These, ordered by name; without those that the agent has switched off.
    Tools(Arc<[Tool]>),
    /// The same as the last time.
    Same,
    /// Nothing: it has none until it is asked again (runtime MC-7).
    Failed,
}

/// What is known of the tools of a session's servers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Listings(BTreeMap<String, Listing>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Listing {
    url: String,
    tools: Arc<[Tool]>,
    state: State,
    /// The client knows of a failure since the server was asked last.
    told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// It has answered in this turn.
    Current,
    /// It has failed in this turn.
    Failed,
    /// It is asked before the next request.
    Due,
}

impl Listings {
    /// Takes what servers have said.
    pub(crate) fn fold(&mut self, said: McpTools) {
        for ServerTools { name, url, listed } in said.servers {
            let (tools, state) = match listed {
                Listed::Tools(tools) => (tools, State::Current),
                Listed::Same => {
                    let known = self.0.remove(&name).map(|known| known.tools);
                    (known.unwrap_or_default(), State::Current)
                }
                Listed::Failed => (Arc::default(), State::Failed),
            };
            let listing = Listing {
                url,
                tools,
                state,
                told: state == State::Failed,
            };
            self.0.insert(name, listing);
        }
    }

    /// A turn begins: all servers are asked again, since their tools may be others now (runtime MC-3, MC-8).
    pub(crate) fn turn_begins(&mut self) {
        for listing in self.0.values_mut() {
            listing.state = State::Due;
        }
    }

    /// A turn goes on behind a pause: only servers that had failed are asked again (runtime MC-8), so that a model that
    /// is in the middle of its work goes on with the tools it knows.
    pub(crate) fn turn_resumes(&mut self) {
        for listing in self.0.values_mut() {
            if listing.state == State::Failed {
                listing.state = State::Due;
            }
        }
    }

    /// The client was told of a failure of this server.
    pub(crate) fn failure_told(&mut self, server: &str) {
        if let Some(listing) = self.0.get_mut(server) {
            listing.told = true;
        }
    }

    /// Whether the client knows of a failure of this server since it was asked last.
    pub(crate) fn is_failure_told(&self, server: &str) -> bool {
        self.0.get(server).is_some_and(|listing| listing.told)
    }

    /// The servers of an agent that have to be asked before the next request.
    pub(crate) fn due<'a>(&'a self, agent: &'a Definition) -> impl Iterator<Item = Server<'a>> {
        servers(agent).filter(|server| {
            self.of(*server)
                .is_none_or(|listing| listing.state == State::Due)
        })
    }

    /// The tools of a server, as it listed them last, ordered by name.
    pub(crate) fn tools(&self, server: Server<'_>) -> &[Tool] {
        self.of(server).map_or(&[], |listing| &listing.tools)
    }

    /// What is known of this server at this place: behind another URL it is another one.
    fn of(&self, server: Server<'_>) -> Option<&Listing> {
        let listing = self.0.get(server.name);
        listing.filter(|listing| listing.url == server.url)
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let listings = self.0.values().flat_map(|listing| listing.tools.iter());
        listings.map(weight).sum()
    }
}

/// What is written about the answers of servers, in the order of the agent's toolsets, and what the client is told.
///
/// A list is taken up to the limits of what a model can be shown; what is beyond them is left out, and said.
pub(crate) fn admit(
    agent: &Definition,
    known: &Listings,
    answers: Vec<(Server<'_>, Result<Vec<Tool>, Failure>)>,
) -> (McpTools, Vec<SessionError>) {
    let asked: Vec<&str> = answers.iter().map(|(server, _)| server.name).collect();
    let others = servers(agent).filter(|server| !asked.contains(&server.name));
    let others = others.flat_map(|server| known.tools(server));
    let mut room = Room {
        tools: MOST_TOOLS,
        bytes: MOST_BYTES,
    };
    for tool in others {
        room.takes(tool);
    }
    let mut told = Vec::new();
    let servers = answers.into_iter().map(|(server, answer)| {
        let listed = match answer {
            Err(failure) => {
                told.push(session_error(server.name, &failure));
                Listed::Failed
            }
            Ok(tools) => {
                let (tools, left_out) = room.fit(agent, server, tools);
                if *tools == *known.tools(server) && known.of(server).is_some() {
                    Listed::Same
                } else {
                    told.extend((left_out > 0).then(|| too_many(server.name, left_out)));
                    Listed::Tools(tools.into())
                }
            }
        };
        ServerTools {
            name: server.name.to_owned(),
            url: server.url.to_owned(),
            listed,
        }
    });
    let servers = servers.collect();
    (McpTools { servers }, told)
}

/// What still fits.
struct Room {
    tools: usize,
    bytes: usize,
}

impl Room {
    /// The tools of a list that the agent wants and that fit, ordered by name, and how many did not fit.
    fn fit(
        &mut self,
        agent: &Definition,
        server: Server<'_>,
        tools: Vec<Tool>,
    ) -> (Vec<Tool>, usize) {
        let mut tools = tools;
        tools.retain(|tool| policy(agent, server.name, &tool.name).is_some());
        tools.sort_by(|one, other| one.name.cmp(&other.name));
        tools.dedup_by(|one, other| one.name == other.name);
        let wanted = tools.len();
        tools.retain(|tool| weight(tool) <= LONGEST && self.takes(tool));
        let left_out = wanted - tools.len();
        (tools, left_out)
    }

    fn takes(&mut self, tool: &Tool) -> bool {
        let bytes = weight(tool);
        let fits = self.tools > 0 && bytes <= self.bytes;
        if fits {
            self.tools -= 1;
            self.bytes -= bytes;
        }
        fits
    }
}

/// Bytes of a tool's definition.
fn weight(tool: &Tool) -> usize {
    // A map of JSON values can always be written.
    let schema = serde_json::to_string(&tool.input_schema).map_or(LONGEST, |schema| schema.len());
    tool.name.len() + tool.description.len() + schema
}

/// What the client is told about a server that cannot be used (runtime MC-7, ER-9).
pub(crate) fn session_error(server: &str, failure: &Failure) -> SessionError {
    let kind = match failure {
        Failure::Authentication { .. } => SessionErrorType::McpAuthenticationFailedError,
        Failure::Connection { .. } | Failure::Unknown { .. } | Failure::TooLarge { .. } => {
            SessionErrorType::McpConnectionFailedError
        }
    };
    about(server, kind, format!("MCP server {server:?}: {failure}"))
}

fn too_many(server: &str, left_out: usize) -> SessionError {
    let message = format!(
        "MCP server {server:?}: {left_out} of its tools do not fit beside the others and are left out. Switch off those \
         that are not needed."
    );
    about(server, SessionErrorType::UnknownError, message)
}

fn about(server: &str, kind: SessionErrorType, message: String) -> SessionError {
    SessionError {
        mcp_server_name: Some(server.to_owned()),
        ..SessionError::new(kind, message, RetryStatus::Retrying)
    }
}
