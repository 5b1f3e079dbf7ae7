//! Logs for table tests, built as the store would build them, and a store whose time the test keeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use manyhands_protocol::agent::{
    Definition, ExecutionIdentity, McpServer, PermissionPolicy, Tool, ToolConfig, ToolDefault,
};
use manyhands_protocol::model::{Effort, EffortLevel, ModelConfig, Speed};
use manyhands_protocol::time::{SharedClock, SystemClock};
use manyhands_protocol::{EventId, ThreadId, Timestamp};
use manyhands_store::replica::{Replica, Uptime};
use manyhands_store::{Config, Database, Entry, EntryKind, SharedMemory, Store};
use serde_json::{Value, json};

use crate::replay::Transcript;

/// A store on a machine that has been up for so many seconds.
pub(crate) async fn store_up_for(seconds: &Arc<AtomicU64>) -> Store {
    let clock: SharedClock = Arc::new(SystemClock);
    let seconds = Arc::clone(seconds);
    let store = Store::open(Config {
        database: Database::Memory(SharedMemory::new(Arc::clone(&clock)).unwrap()),
        clock,
        replica: Replica {
            uptime: Uptime::new(move || Duration::from_secs(seconds.load(Ordering::Relaxed))),
            ..Replica::default()
        },
    });
    store.await.unwrap()
}

/// A log in the making. Event ids are written short: `a` stands for `sevt_a`.
#[derive(Clone, Default)]
pub(crate) struct Log(Vec<Entry>);

impl Log {
    fn push(
        mut self,
        kind: EntryKind,
        id: &str,
        type_name: &str,
        queued: bool,
        body: &Value,
    ) -> Self {
        let at = Timestamp::from_micros(1_000_000 * self.0.len() as i64);
        self.0.push(Entry {
            position: self.0.len() as i64 + 1,
            kind,
            event_id: event_id(id),
            type_name: type_name.into(),
            thread_id: ThreadId::parse("sthr_1").unwrap(),
            body: body.to_string().into(),
            processed_at: (!queued).then_some(at),
            created_at: at,
            epoch: 0,
        });
        self
    }

    pub(crate) fn event(self, id: &str, type_name: &str, body: Value) -> Self {
        self.push(EntryKind::Event, id, type_name, false, &body)
    }

    pub(crate) fn private(self, type_name: &str, body: Value) -> Self {
        self.push(EntryKind::Private, "private", type_name, false, &body)
    }

    /// A queued message of one text.
    pub(crate) fn message(self, id: &str, text: &str) -> Self {
        let body = json!({"content": [{"type": "text", "text": text}]});
        self.push(EntryKind::Event, id, "user.message", true, &body)
    }

    /// A queued system message of one text.
    pub(crate) fn system(self, id: &str, text: &str) -> Self {
        let body = json!({"content": [{"type": "text", "text": text}]});
        self.push(EntryKind::Event, id, "system.message", true, &body)
    }

    /// The client's word on a call that asked; with a message it is a denial.
    pub(crate) fn confirmed(self, call: &str, deny: Option<&str>) -> Self {
        let body = match deny {
            None => json!({"tool_use_id": event_id(call), "result": "allow"}),
            Some(message) => {
                json!({"tool_use_id": event_id(call), "result": "deny", "deny_message": message})
            }
        };
        self.push(
            EntryKind::Event,
            "word",
            "user.tool_confirmation",
            true,
            &body,
        )
        .processed("word")
    }

    pub(crate) fn interrupt(self, id: &str) -> Self {
        self.push(EntryKind::Event, id, "user.interrupt", true, &json!({}))
    }

    pub(crate) fn processed(self, id: &str) -> Self {
        self.push(EntryKind::Processed, id, "user.message", false, &json!({}))
    }

    pub(crate) fn running(self) -> Self {
        self.event("run", "session.status_running", json!({}))
    }

    pub(crate) fn idle(self, reason: Value) -> Self {
        self.event(
            "idle",
            "session.status_idle",
            json!({"stop_reason": reason}),
        )
    }

    /// The idle events at the cap in the middle of a turn.
    pub(crate) fn paused(self) -> Self {
        self.rests("budget_reached")
    }

    /// The idle events of a turn that ends beyond the cap.
    pub(crate) fn over_at_the_cap(self) -> Self {
        self.rests("end_turn")
    }

    fn rests(self, thread: &str) -> Self {
        let reason = json!({"stop_reason": {"type": thread}});
        self.event("thread", "session.thread_status_idle", reason)
            .idle(json!({"type": "budget_reached"}))
    }

    pub(crate) fn span(self, id: &str) -> Self {
        self.event(id, "span.model_request_start", json!({}))
    }

    /// A message that was sent to an idle session and taken.
    pub(crate) fn asked(self, id: &str, text: &str) -> Self {
        self.message(id, text).running().processed(id).span("span")
    }

    /// A response: its blocks, and its calls as (our id, provider id, name, kind).
    pub(crate) fn response(
        self,
        stop: &str,
        content: Value,
        calls: &[(&str, &str, &str, &str)],
    ) -> Self {
        let calls: Vec<Value> = calls
            .iter()
            .map(|(id, provider, name, kind)| {
                json!({"event_id": event_id(id), "tool_use_id": provider, "name": name, "kind": kind})
            })
            .collect();
        let body = json!({
            "message_id": "msg_1", "model": "m", "stop": {"reason": stop, "category": null, "explanation": null},
            "content": content, "calls": calls,
        });
        self.private("response", body)
            .event("end", "span.model_request_end", json!({}))
    }

    /// A response of one text.
    pub(crate) fn said(self, text: &str) -> Self {
        self.response("end_turn", json!([{"type": "text", "text": text}]), &[])
    }

    /// A response of sandbox calls (our id is also the provider's).
    pub(crate) fn called(self, kind: &str, calls: &[&str]) -> Self {
        let content: Vec<Value> = calls
            .iter()
            .map(|id| json!({"type": "tool_use", "id": id, "name": "bash", "input": {"command": id}}))
            .collect();
        let calls: Vec<_> = calls.iter().map(|id| (*id, *id, "bash", kind)).collect();
        self.response("tool_use", Value::from(content), &calls)
    }

    /// What an MCP server said about its tools, of which the names are given; `None`: it failed.
    pub(crate) fn listed(self, server: &str, tools: Option<&[&str]>) -> Self {
        let tool = |name: &&str| json!({"name": name, "description": "d", "input_schema": {}});
        let listed = tools.map_or(
            json!("failed"),
            |names| json!({"tools": names.iter().map(tool).collect::<Vec<_>>()}),
        );
        let said = json!({"name": server, "url": mcp_url(server), "listed": listed});
        self.private("mcp_tools", json!({"servers": [said]}))
    }

    /// A response of one call of an MCP tool (our id is also the provider's).
    pub(crate) fn called_mcp(self, kind: &str, id: &str, server: &str, tool: &str) -> Self {
        let name = format!("mcp__{server}__{tool}");
        let body = json!({
            "message_id": "msg_1", "model": "m", "stop": {"reason": "tool_use"},
            "content": [{"type": "tool_use", "id": id, "name": name, "input": {}}],
            "calls": [{"event_id": event_id(id), "tool_use_id": id, "name": name, "kind": kind,
                "mcp": {"server": server, "tool": tool}}],
        });
        self.private("response", body)
            .event("end", "span.model_request_end", json!({}))
    }

    pub(crate) fn mcp_result(self, call: &str, text: &str) -> Self {
        let body =
            json!({"mcp_tool_use_id": event_id(call), "content": [{"type": "text", "text": text}]});
        self.event("result", "agent.mcp_tool_result", body)
    }

    pub(crate) fn result(self, call: &str, text: &str) -> Self {
        let body =
            json!({"tool_use_id": event_id(call), "content": [{"type": "text", "text": text}]});
        self.event("result", "agent.tool_result", body)
    }

    pub(crate) fn custom_result(self, call: &str, text: &str) -> Self {
        let body = json!({"custom_tool_use_id": event_id(call), "content": [{"type": "text", "text": text}]});
        self.event("result", "user.custom_tool_result", body)
    }

    pub(crate) fn fold(&self) -> Transcript {
        let mut transcript = Transcript::default();
        for entry in &self.0 {
            transcript.fold(entry).unwrap();
        }
        transcript
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.0
    }
}

pub(crate) fn event_id(short: &str) -> EventId {
    EventId::parse(&format!("sevt_{short}")).unwrap()
}

/// Where the servers of [`mcp_agent`] are.
pub(crate) fn mcp_url(server: &str) -> String {
    format!("https://{server}.example.com/mcp")
}

/// The [`agent`] with these MCP servers, whose tools are asked about.
pub(crate) fn mcp_agent(servers: &[&str]) -> Definition {
    let mut agent = agent();
    for name in servers {
        agent.mcp_servers.push(McpServer::Url {
            name: (*name).to_owned(),
            url: mcp_url(name),
        });
        agent.tools.push(Tool::McpToolset {
            mcp_server_name: (*name).to_owned(),
            configs: Vec::new(),
            default_config: ToolDefault {
                enabled: true,
                permission_policy: PermissionPolicy::AlwaysAsk {},
            },
        });
    }
    agent
}

/// An agent with the built-in tools but `grep`, and a custom one.
pub(crate) fn agent() -> Definition {
    let allow = PermissionPolicy::AlwaysAllow {};
    Definition {
        name: "helper".to_owned(),
        description: None,
        system: Some("You help.".to_owned()),
        model: ModelConfig {
            id: "m".to_owned(),
            effort: Effort {
                level: EffortLevel::High,
            },
            speed: Speed::Standard,
            inference_geo: None,
        },
        tools: vec![
            Tool::AgentToolset {
                configs: vec![ToolConfig {
                    name: "grep".to_owned(),
                    kind: "grep".to_owned(),
                    enabled: false,
                    permission_policy: allow,
                    web: Default::default(),
                }],
                default_config: ToolDefault {
                    enabled: true,
                    permission_policy: allow,
                },
            },
            Tool::Custom {
                name: "ask".to_owned(),
                description: "Asks.".to_owned(),
                input_schema: json!({"type": "object"}),
            },
        ],
        mcp_servers: Vec::new(),
        skills: Vec::new(),
        multiagent: None,
        execution_identity: ExecutionIdentity::default(),
    }
}
