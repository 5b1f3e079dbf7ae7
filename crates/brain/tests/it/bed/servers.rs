//! MCP servers for the stories.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use manyhands_brain::Mcp;
use manyhands_mcp::scripted::Scripted;
use manyhands_mcp::{Caller, Connection, Connector, Failure, Output, Server, Settings, Tool};
use manyhands_protocol::agent::{PermissionPolicy, ToolDefault};
use manyhands_protocol::content::ContentBlock;
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::Reply;
use serde_json::{Map, Value, json};

use super::Bed;
use super::parts::server_url;

/// Toolsets whose tools are all on, under this policy.
pub(crate) fn all_under(permission_policy: PermissionPolicy) -> ToolDefault {
    ToolDefault {
        enabled: true,
        permission_policy,
    }
}

/// Tools that take a query.
pub(crate) fn offered(names: &[&str]) -> Vec<Tool> {
    let schema = json!({"type": "object", "properties": {"query": {"type": "string"}}});
    let tool = |name: &&str| Tool {
        name: (*name).to_owned(),
        description: format!("Does {name}."),
        input_schema: schema.as_object().expect("an object").clone(),
    };
    names.iter().map(tool).collect()
}

/// A result of one text.
pub(crate) fn said(text: impl Into<String>) -> Result<Output, Failure> {
    Ok(Output {
        content: vec![ContentBlock::text(text)],
        is_error: false,
    })
}

/// What is wrong with a server that is not there.
pub(crate) fn down() -> Failure {
    Failure::Connection {
        reason: "nobody is there".to_owned(),
    }
}

/// The servers `docs` and `mail`, whose tools say what they were called with.
pub(crate) fn docs_and_mail() -> Scripted {
    let servers = Scripted::new();
    for (server, tools) in [("docs", ["search", "read"]), ("mail", ["send", "list"])] {
        servers.serve(&server_url(server), offered(&tools), |name, input| {
            said(format!("{name}: {}", Value::Object(input.clone())))
        });
    }
    servers
}

impl Bed {
    /// A session with the servers `docs` and `mail` under this policy; no brain yet.
    pub(crate) async fn asleep_at(
        servers: &Scripted,
        policy: PermissionPolicy,
        replies: impl IntoIterator<Item = Reply>,
    ) -> Self {
        let mut bed = Self::asleep(replies).await;
        bed.set_servers(&[("docs", all_under(policy)), ("mail", all_under(policy))])
            .await;
        bed.config.mcp = talking_to(servers.clone());
        bed
    }
}

/// As a brain's setting.
pub(crate) fn talking_to(connector: impl Connector + 'static) -> Option<Mcp> {
    Some(Mcp::new(Arc::new(connector), Settings::default()))
}

/// Servers that are slow: lists, or calls, wait at a gate.
#[derive(Clone)]
pub(crate) struct Slow {
    pub(crate) servers: Scripted,
    pub(crate) lists: Option<Gate>,
    pub(crate) calls: Option<Gate>,
}

#[async_trait]
impl Connector for Slow {
    async fn connect(
        &self,
        caller: &Caller,
        server: &Server,
    ) -> Result<Arc<dyn Connection>, Failure> {
        Ok(Arc::new(SlowConnection {
            slow: self.clone(),
            connection: self.servers.connect(caller, server).await?,
        }))
    }
}

struct SlowConnection {
    slow: Slow,
    connection: Arc<dyn Connection>,
}

#[async_trait]
impl Connection for SlowConnection {
    async fn tools(&self) -> Result<Vec<Tool>, Failure> {
        if let Some(gate) = &self.slow.lists {
            gate.pass().await;
        }
        self.connection.tools().await
    }

    async fn call(
        &self,
        name: &str,
        input: &Map<String, Value>,
        within: Duration,
    ) -> Result<Output, Failure> {
        let answer = self.connection.call(name, input, within).await;
        if let Some(gate) = &self.slow.calls {
            gate.pass().await;
        }
        answer
    }

    async fn close(&self) {
        self.connection.close().await;
    }
}
