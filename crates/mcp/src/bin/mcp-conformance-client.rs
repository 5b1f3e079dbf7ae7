//! The client that the MCP conformance suite starts for each of its scenarios: it lists the tools of the server at the URL
//! in its last argument, calls them as the scenario wants, and tells what came back.
//!
//! It may dial this machine only, and the one port of that URL.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use manyhands_egress::address::Allowed;
use manyhands_egress::dial::{Dialler, Resolve, Tcp, Timeouts};
use manyhands_egress::host::Host;
use manyhands_egress::outbound::Outbound;
use manyhands_mcp::{
    Authorization, Caller, Clients, Connector as _, Denied, Server, Settings, Token, Tool,
};
use manyhands_protocol::{SessionId, WorkspaceId};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;

/// One scenario asks a human something, who is not here; the others need less.
const CALL: Duration = Duration::from_secs(12);
/// Dozens of clients may run at once.
const CONNECT: Duration = Duration::from_secs(60);

type Error = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Error> {
    let url = std::env::args().next_back().ok_or("a URL is wanted")?;
    let port = Url::parse(&url)?
        .port_or_known_default()
        .ok_or("the URL has no port")?;
    let dialler = Dialler::new(
        Arc::new(Here),
        Arc::new(Tcp),
        Allowed::parse(["127.0.0.1/32"])?,
        Timeouts::default(),
    );
    let outbound = Outbound::new(dialler, &[port])?;
    let settings = Settings {
        connect: CONNECT,
        list: CONNECT,
        ..Settings::default()
    };
    let clients = Clients::new(outbound, Arc::new(NoCredentials), settings);
    let caller = Caller {
        workspace: WorkspaceId::generate(),
        session: SessionId::generate(),
        vaults: Vec::new(),
    };
    let name = "suite".to_owned();
    let connection = clients.connect(&caller, &Server { name, url }).await?;
    let tools = connection.tools().await?;
    println!("tools: {}", serde_json::to_string(&tools)?);
    for Call { name, arguments } in calls(&tools)? {
        let answer = connection.call(&name, &arguments, CALL).await;
        println!("{name}: {answer:?}");
    }
    connection.close().await;
    Ok(())
}

/// One call of a scenario.
#[derive(Deserialize)]
struct Call {
    name: String,
    arguments: Map<String, Value>,
}

/// What the suite tells some of its scenarios' clients.
#[derive(Deserialize, Default)]
struct Context {
    #[serde(default, rename = "toolCalls")]
    tool_calls: Vec<Call>,
}

/// The calls that the scenario names; else each tool that is listed, once.
fn calls(tools: &[Tool]) -> Result<Vec<Call>, Error> {
    let context = std::env::var("MCP_CONFORMANCE_CONTEXT").unwrap_or_default();
    let context = match context.as_str() {
        "" => Context::default(),
        text => serde_json::from_str(text)?,
    };
    if !context.tool_calls.is_empty() {
        return Ok(context.tool_calls);
    }
    let calls = tools.iter().map(|tool| Call {
        name: tool.name.clone(),
        arguments: arguments(tool, tools),
    });
    Ok(calls.collect())
}

/// Input that fits a tool's schema: something for whatever is required.
fn arguments(tool: &Tool, tools: &[Tool]) -> Map<String, Value> {
    let required: BTreeSet<&str> = match tool.input_schema.get("required") {
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => BTreeSet::new(),
    };
    let value = |name: &&str| {
        let kind = tool.input_schema["properties"][*name]["type"].as_str();
        match kind {
            Some("number" | "integer") => json!(2),
            Some("boolean") => json!(true),
            // A scenario wants a schema back as it came: that of the first tool.
            Some("object") => tools
                .first()
                .map_or(json!({}), |tool| json!(tool.input_schema)),
            Some("array") => json!([]),
            _ => json!("text"),
        }
    };
    required
        .iter()
        .map(|name| ((*name).to_owned(), value(name)))
        .collect()
}

/// Every name is this machine.
struct Here;

#[async_trait]
impl Resolve for Here {
    async fn resolve(&self, _: &Host) -> io::Result<Vec<IpAddr>> {
        Ok(vec![Ipv4Addr::LOCALHOST.into()])
    }
}

/// Credentials come from vaults; there are none here.
struct NoCredentials;

#[async_trait]
impl Authorization for NoCredentials {
    async fn token(&self, _: &Caller, _: &Url, _: Option<&Token>) -> Result<Option<Token>, Denied> {
        Ok(None)
    }
}
