//! The conversations of one wake with MCP servers: opened when they are needed, and ended with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use manyhands_egress::host::{Host, Pattern};
use manyhands_mcp::{Caller, Connection, Failure, Server, Tool};
use manyhands_protocol::EventId;
use manyhands_protocol::environment::Networking;
use manyhands_protocol::event::SessionError;
use serde_json::{Map, Value};
use url::Url;

use crate::config::Mcp;
use crate::fence::Fence;
use crate::mcp::{Target, session_error};
use crate::tools::{Done, Given, Hand, Verdict};

/// How long the end of all conversations may take.
const CLOSING: Duration = Duration::from_secs(5);

/// What the model reads of a call that may have run (security TOOL-2).
const UNKNOWN: &str =
    "Whether the call took effect is unknown. Check the state before you repeat the call.";

/// A call of an MCP tool.
pub(in crate::wake) struct McpCall {
    pub(super) id: EventId,
    /// The model's name for the tool.
    pub(super) name: String,
    pub(super) target: Target,
    /// Where the server is; `None` when the agent has none of this name any more.
    pub(super) url: Option<String>,
    pub(super) input: Map<String, Value>,
    /// What bounds it now (runtime MC-10).
    pub(super) networking: Networking,
}

/// The servers, as one wake talks to them.
pub(in crate::wake) struct Servers {
    client: Option<Mcp>,
    caller: Caller,
    fence: Fence,
    open: Mutex<HashMap<Server, Arc<dyn Connection>>>,
}

impl Servers {
    /// No conversation yet.
    pub(in crate::wake) fn new(client: Option<Mcp>, caller: Caller, fence: Fence) -> Self {
        Self {
            client,
            caller,
            fence,
            open: Mutex::default(),
        }
    }

    /// How long a list may take at most.
    pub(super) fn listing(&self) -> Duration {
        self.client
            .as_ref()
            .map_or(Duration::ZERO, |client| client.listing)
    }

    /// How long a call may take at most.
    pub(super) fn calling(&self) -> Duration {
        self.client
            .as_ref()
            .map_or(Duration::ZERO, |client| client.calling)
    }

    /// The tools of a server.
    pub(super) async fn tools(
        &self,
        server: &Server,
        networking: &Networking,
    ) -> Result<Vec<Tool>, Failure> {
        let list = async { self.connect(server, networking).await?.tools().await };
        match tokio::time::timeout(self.listing(), list).await {
            Ok(listed) => listed,
            Err(_) => Err(failed("it did not list its tools in time")),
        }
    }

    /// Runs a call to its end, whatever that is; never twice.
    pub(in crate::wake) fn answer(
        self: &Arc<Self>,
        call: McpCall,
    ) -> impl Future<Output = Done> + Send + use<> {
        let servers = Arc::clone(self);
        async move {
            let (verdict, failure) = servers.call(&call).await;
            Done {
                id: call.id,
                name: call.name,
                hand: Hand::Mcp,
                verdict,
                failure,
                searches: 0,
                rejected: None,
            }
        }
    }

    async fn call(&self, call: &McpCall) -> (Verdict, Option<Box<SessionError>>) {
        let Target { server: name, tool } = &call.target;
        let Some(url) = call.url.clone() else {
            let text = format!("the session has no MCP server '{name}' any more");
            return (Verdict::Given(Given::error(text)), None);
        };
        let server = Server {
            name: name.clone(),
            url,
        };
        let within = self.calling();
        let run = async {
            let connection = self.connect(&server, &call.networking).await?;
            // Another server may have said meanwhile that nobody knows what became of the call.
            if !self.fence.holds("call") {
                return Ok(None);
            }
            connection.call(tool, &call.input, within).await.map(Some)
        };
        let ended = tokio::time::timeout(within, run).await;
        let failure = match ended {
            Ok(Ok(Some(output))) => {
                let given = Given {
                    content: output.content,
                    is_error: output.is_error,
                };
                return (Verdict::Given(given), None);
            }
            Ok(Ok(None)) => return (Verdict::Stale, None),
            Ok(Err(failure)) => failure,
            Err(_) => Failure::Unknown {
                reason: "no answer came in time".to_owned(),
            },
        };
        let text = match &failure {
            Failure::Connection { reason } | Failure::Authentication { reason } => {
                let told = session_error(name, &failure);
                let text = format!("The MCP server '{name}' cannot be used: {reason}");
                return (Verdict::Given(Given::error(text)), Some(Box::new(told)));
            }
            Failure::Unknown { reason } => {
                return (
                    Verdict::Lost(format!("The MCP server '{name}': {reason}. {UNKNOWN}")),
                    None,
                );
            }
            Failure::TooLarge { .. } => {
                format!("The MCP server '{name}' has run the call: {failure}, and is not shown.")
            }
        };
        (Verdict::Given(Given::error(text)), None)
    }

    async fn connect(
        &self,
        server: &Server,
        networking: &Networking,
    ) -> Result<Arc<dyn Connection>, Failure> {
        admits(networking, &server.url)?;
        let Some(client) = &self.client else {
            return Err(failed("this installation talks to no MCP servers"));
        };
        let connection = client.connector.connect(&self.caller, server).await?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(server.clone(), Arc::clone(&connection));
        Ok(connection)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let open = std::mem::take(&mut self.open).into_inner();
        let open = open.unwrap_or_else(PoisonError::into_inner);
        // Without a runtime the process ends, and its connections with it.
        let runtime = tokio::runtime::Handle::try_current();
        let (false, Ok(runtime)) = (open.is_empty(), runtime) else {
            return;
        };
        runtime.spawn(async move {
            let all = futures::future::join_all(open.values().map(|open| open.close()));
            if tokio::time::timeout(CLOSING, all).await.is_err() {
                tracing::debug!("MCP servers did not hear the end of a conversation in time");
            }
        });
    }
}

fn failed(reason: &str) -> Failure {
    Failure::Connection {
        reason: reason.to_owned(),
    }
}

/// Whether an environment lets its agents talk to this server (runtime MC-10).
fn admits(networking: &Networking, url: &str) -> Result<(), Failure> {
    let Networking::Limited {
        allowed_hosts,
        allow_mcp_servers: false,
        ..
    } = networking
    else {
        return Ok(());
    };
    let url = Url::parse(url).ok();
    let host = url.as_ref().and_then(Url::host_str);
    let host = host.and_then(|host| Host::parse(host).ok());
    // What is no pattern admits nothing.
    let mut patterns = allowed_hosts
        .iter()
        .filter_map(|host| Pattern::parse(host).ok());
    match host {
        Some(host) if patterns.any(|pattern| pattern.matches(&host)) => Ok(()),
        _ => Err(failed(
            "the session's environment limits its hosts, and this server's is not among them; allow the host, or all MCP \
             servers",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use manyhands_mcp::scripted::Scripted;
    use manyhands_mcp::{Output, Settings};
    use manyhands_protocol::content::ContentBlock;
    use manyhands_protocol::{SessionId, WorkspaceId};

    use super::*;
    use crate::testing::store_up_for;

    /// security LEASE-1, TOOL-2: whoever took the session over has said by then what is known of its calls.
    #[tokio::test]
    async fn lease_1_a_server_that_was_away_for_long_makes_no_call() {
        let seconds = Arc::new(AtomicU64::new(1000));
        let store = store_up_for(&seconds).await;
        let url = "https://mail.example.com/mcp";
        let peer = Scripted::new();
        peer.serve(url, Vec::new(), |_, _| {
            Ok(Output {
                content: vec![ContentBlock::text("sent")],
                is_error: false,
            })
        });
        let caller = Caller {
            workspace: WorkspaceId::generate(),
            session: SessionId::generate(),
            vaults: Vec::new(),
        };
        let client = Mcp::new(Arc::new(peer.clone()), Settings::default());
        let fence = Fence::new(store);
        let servers = Servers::new(Some(client), caller, fence);
        let call = McpCall {
            id: EventId::generate(),
            name: "mcp__mail__send".to_owned(),
            target: Target {
                server: "mail".to_owned(),
                tool: "send".to_owned(),
            },
            url: Some(url.to_owned()),
            input: Map::new(),
            networking: Networking::Unrestricted {},
        };
        assert!(matches!(servers.call(&call).await.0, Verdict::Given(_)));
        seconds.fetch_add(11, Ordering::Relaxed);
        assert!(matches!(servers.call(&call).await.0, Verdict::Stale));
        assert_eq!(peer.calls().len(), 1);
    }

    /// runtime MC-10, security NET-1
    #[test]
    fn mc_10_a_limited_environment_admits_listed_servers_or_all() {
        #[track_caller]
        fn check(allowed_hosts: &[&str], allow_mcp_servers: bool, url: &str, expected: bool) {
            let networking = Networking::Limited {
                allowed_hosts: allowed_hosts.iter().map(|&host| host.to_owned()).collect(),
                allow_mcp_servers,
                allow_package_managers: true,
            };
            assert_eq!(admits(&networking, url).is_ok(), expected, "{url}");
            assert!(admits(&Networking::Unrestricted {}, url).is_ok());
        }
        let url = "https://mcp.example.com/mcp";
        check(&[], false, url, false);
        check(&[], true, url, true);
        check(&["mcp.example.com"], false, url, true);
        check(
            &["mcp.example.com"],
            false,
            "https://MCP.example.com:8443/",
            true,
        );
        check(&["*.example.com"], false, url, true);
        check(&["*.example.com"], false, "https://example.com/", false);
        check(&["example.com"], false, url, false);
        check(
            &["mcp.example.com"],
            false,
            "https://mcp.example.com.evil.net/",
            false,
        );
        check(
            &["mcp.example.com"],
            false,
            "https://mcp.example.com@evil.net/",
            false,
        );
        check(&["not a host", "mcp.example.com"], false, url, true);
        check(&["mcp.example.com"], false, "nothing", false);
    }
}
