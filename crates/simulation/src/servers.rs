//! The MCP server that the sessions of a world may have: it sends letters, and keeps count of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use manyhands_mcp::{Caller, Connection, Connector, Failure, Output, Server, Tool};
use manyhands_protocol::content::ContentBlock;
use serde_json::{Map, Value, json};

use crate::fate::Fate;
use crate::model::{Script, Scripts, lock};
use crate::outside::alive;

/// Where the server of a case is: its number follows.
const BASE: &str = "https://out.example.com/";

/// Every so many times the server does not list its tools.
const OUT: usize = 5;

/// The MCP servers of an agent of this case.
pub(crate) fn servers(case: u64) -> Value {
    json!([{"type": "url", "name": "out", "url": format!("{BASE}{case}")}])
}

/// The toolset that names them.
pub(crate) fn toolset() -> Value {
    json!({
        "type": "mcp_toolset", "mcp_server_name": "out",
        "configs": [{"name": "send", "permission_policy": {"type": "always_allow"}}],
    })
}

/// The servers, as one instance reaches them.
pub(crate) struct Letters {
    pub(crate) scripts: Scripts,
    pub(crate) fate: Fate,
}

#[async_trait]
impl Connector for Letters {
    async fn connect(&self, _: &Caller, server: &Server) -> Result<Arc<dyn Connection>, Failure> {
        self.fate.pass().await;
        let case = server
            .url
            .strip_prefix(BASE)
            .and_then(|case| case.parse().ok());
        let script = case.and_then(|case| self.scripts.of(case));
        let script = script.ok_or_else(|| failed("nobody is there"))?;
        let fate = self.fate.clone();
        Ok(Arc::new(Open { script, fate }))
    }
}

struct Open {
    script: Arc<Script>,
    fate: Fate,
}

#[async_trait]
impl Connection for Open {
    async fn tools(&self) -> Result<Vec<Tool>, Failure> {
        let lists = self.script.lists.fetch_add(1, Ordering::SeqCst);
        self.fate.pass().await;
        if lists % OUT == OUT - 1 && !self.script.is_calm() {
            return Err(failed("it is out"));
        }
        let tool = |name: &str| Tool {
            name: name.to_owned(),
            description: format!("Does {name}."),
            input_schema: Map::new(),
        };
        Ok(["send", "post"].map(tool).into())
    }

    async fn call(
        &self,
        name: &str,
        input: &Map<String, Value>,
        _: Duration,
    ) -> Result<Output, Failure> {
        alive(&self.fate).await;
        let letter = input.get("letter").and_then(Value::as_str);
        let (what, id) = letter
            .and_then(|letter| letter.split_once(' '))
            .unwrap_or_default();
        let is_error = what == "fail";
        if !is_error {
            *lock(&self.script.letters).entry(id.to_owned()).or_default() += 1;
        }
        if what == "hang" {
            self.script.stick().await;
        }
        self.fate.pass().await;
        if what == "break" {
            let reason = "the connection broke off".to_owned();
            return Err(Failure::Unknown { reason });
        }
        let text = format!("{name}: {}", if is_error { "failed" } else { "sent" });
        Ok(Output {
            content: vec![ContentBlock::text(text)],
            is_error,
        })
    }

    async fn close(&self) {}
}

fn failed(reason: &str) -> Failure {
    let reason = reason.to_owned();
    Failure::Connection { reason }
}
