//! What clients hear on a session's stream, and what they make of it.

use serde_json::Value;
use sse_stream::Sse;

/// The name of the mark of a new connection, which no server sends.
pub const RECONNECTED: &str = "(connected)";

/// One frame.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The position, absent for previews.
    pub position: Option<i64>,
    /// Its `event:` line.
    pub name: String,
    /// Its data, byte for byte.
    pub text: String,
    /// The same, parsed.
    pub data: Value,
}

impl Frame {
    /// The event's id.
    pub fn id(&self) -> &str {
        self.data["id"].as_str().unwrap_or_default()
    }
}

/// A call, as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The tool-use event.
    pub id: String,
    /// Who answers it.
    pub kind: Asks,
    /// Whether there is an answer or a result.
    pub answered: bool,
}

impl Call {
    /// Whether the client has to do something about it.
    pub fn waits(&self) -> bool {
        self.kind != Asks::Nothing && !self.answered
    }
}

/// What a call asks of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// A result.
    Result,
    /// A confirmation.
    Confirmation,
    /// Nothing.
    Nothing,
}

impl Frame {
    /// A frame that nobody sent.
    pub fn mark(name: &str) -> Self {
        Self {
            position: None,
            name: name.to_owned(),
            text: String::new(),
            data: Value::Null,
        }
    }

    /// A frame as it came; `None` for pings and for frames without data.
    pub fn read(frame: Sse) -> Option<Self> {
        let name = frame.event.unwrap_or_default();
        let text = frame.data.filter(|_| name != "ping")?;
        Some(Self {
            position: frame.id.and_then(|id| id.parse().ok()),
            data: serde_json::from_str(&text).unwrap_or_default(),
            name,
            text,
        })
    }
}

/// All calls so far, in order.
pub fn calls(frames: &[Frame]) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    for frame in frames {
        let data = &frame.data;
        let kind = match &*frame.name {
            "agent.custom_tool_use" => Asks::Result,
            "agent.tool_use" | "agent.mcp_tool_use" => {
                match data["evaluated_permission"] == "ask" {
                    true => Asks::Confirmation,
                    false => Asks::Nothing,
                }
            }
            _ => {
                let names = ["tool_use_id", "custom_tool_use_id", "mcp_tool_use_id"];
                let answers = names.iter().find_map(|name| data[*name].as_str());
                if let Some(call) = calls.iter_mut().find(|call| Some(&*call.id) == answers) {
                    call.answered = true;
                }
                continue;
            }
        };
        calls.push(Call {
            id: frame.id().to_owned(),
            kind,
            answered: false,
        });
    }
    calls
}
