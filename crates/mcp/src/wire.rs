//! JSON-RPC 2.0 messages: what is sent, and what comes back from a server that is not trusted.

use manyhands_egress::outbound::Repeat;
use serde::Deserialize;
use serde_json::{Value, json};

/// How deep an answer may be nested.
const DEPTH: usize = 96;
/// How many values an answer may have: a megabyte of `[[],[],` would take a hundred in memory.
const VALUES: usize = 250_000;
/// How many messages one piece of an answer may carry.
const BATCH: usize = 1_000;

/// A request to the server.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Unique within its conversation.
    pub(crate) id: u64,
    pub(crate) method: &'static str,
    pub(crate) params: Value,
}

impl Request {
    /// Calls alone have effects (security TOOL-2).
    pub(crate) fn repeat(&self) -> Repeat {
        match self.method {
            "tools/call" => Repeat::Never,
            _ => Repeat::Harmless,
        }
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        let message =
            json!({"jsonrpc": "2.0", "id": self.id, "method": self.method, "params": self.params});
        message.to_string().into_bytes()
    }
}

/// A notification's bytes.
pub(crate) fn notification(method: &str, params: Option<Value>) -> Vec<u8> {
    let mut message = json!({"jsonrpc": "2.0", "method": method});
    if let Some(params) = params {
        message["params"] = params;
    }
    message.to_string().into_bytes()
}

/// The answer to what a server asks of us: a ping is answered, all else is not offered.
pub(crate) fn refusal(asked: &Asked) -> Vec<u8> {
    let mut message = json!({"jsonrpc": "2.0", "id": asked.id});
    if asked.method == "ping" {
        message["result"] = json!({});
    } else {
        let text = "this client does not offer that";
        message["error"] = json!({"code": -32601, "message": text});
    }
    message.to_string().into_bytes()
}

/// A message of the server.
#[derive(Debug, PartialEq)]
pub(crate) enum Incoming {
    /// The answer to the request of this number; without one where the server could not tell.
    Answer(Option<u64>, Result<Value, RpcError>),
    /// It wants something.
    Asked(Asked),
    /// It tells something.
    Told,
}

/// A request of the server.
#[derive(Debug, PartialEq)]
pub(crate) struct Asked {
    pub(crate) id: Value,
    pub(crate) method: String,
}

/// An error in the protocol's own form.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct RpcError {
    pub(crate) code: i64,
    #[serde(default)]
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) data: Value,
}

/// Why bytes are not messages.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotMessages {
    #[error("it is not JSON")]
    Syntax,
    #[error("it is nested too deeply or has too many values")]
    Excess,
    #[error("it is no JSON-RPC message")]
    Shape,
}

#[derive(Deserialize)]
struct Envelope {
    id: Option<Value>,
    method: Option<String>,
    result: Option<Value>,
    error: Option<RpcError>,
}

/// Reads one message, or several in an array.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Incoming>, NotMessages> {
    measure(bytes)?;
    let value: Value = serde_json::from_slice(bytes).map_err(|_| NotMessages::Syntax)?;
    match value {
        Value::Array(messages) if messages.len() > BATCH => Err(NotMessages::Excess),
        Value::Array(messages) => messages.into_iter().map(message).collect(),
        single => message(single).map(|message| vec![message]),
    }
}

fn message(value: Value) -> Result<Incoming, NotMessages> {
    if !value.is_object() {
        return Err(NotMessages::Shape);
    }
    // Before the envelope, which takes `"result": null` for none.
    let has_result = value.get("result").is_some();
    let envelope: Envelope = serde_json::from_value(value).map_err(|_| NotMessages::Shape)?;
    let answered = |outcome| Incoming::Answer(envelope.id.as_ref().and_then(number), outcome);
    match (envelope.method, envelope.error) {
        (Some(method), _) => Ok(match envelope.id {
            Some(id) => Incoming::Asked(Asked { id, method }),
            None => Incoming::Told,
        }),
        (None, Some(error)) => Ok(answered(Err(error))),
        (None, None) if has_result => Ok(answered(Ok(envelope.result.unwrap_or_default()))),
        (None, None) => Err(NotMessages::Shape),
    }
}

/// Some servers send our number back as text.
fn number(id: &Value) -> Option<u64> {
    id.as_u64().or_else(|| id.as_str()?.parse().ok())
}

/// Looks at the structure before anything is built of it (security INP-1).
fn measure(bytes: &[u8]) -> Result<(), NotMessages> {
    let (mut depth, mut values, mut in_text, mut escaped) = (0_usize, 0_usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'[' | b'{' => {
                depth += 1;
                values += 1;
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
        if depth > DEPTH || values > VALUES {
            return Err(NotMessages::Excess);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<Vec<Incoming>, NotMessages>) {
        assert_eq!(read(text.as_bytes()), expected, "{text}");
    }

    fn answer(
        id: Option<u64>,
        outcome: Result<Value, RpcError>,
    ) -> Result<Vec<Incoming>, NotMessages> {
        Ok(vec![Incoming::Answer(id, outcome)])
    }

    #[test]
    fn messages_are_told_apart() {
        check(
            r#"{"jsonrpc":"2.0","id":7,"result":{"a":1}}"#,
            answer(Some(7), Ok(json!({"a": 1}))),
        );
        check(
            r#"{"id":"7","result":null}"#,
            answer(Some(7), Ok(Value::Null)),
        );
        let error = RpcError {
            code: -32601,
            message: "no".to_owned(),
            data: Value::Null,
        };
        check(
            r#"{"id":null,"error":{"code":-32601,"message":"no"}}"#,
            answer(None, Err(error)),
        );
        let asked = Asked {
            id: json!("x"),
            method: "ping".to_owned(),
        };
        check(
            r#"{"id":"x","method":"ping"}"#,
            Ok(vec![Incoming::Asked(asked)]),
        );
        check(
            r#"{"method":"notifications/progress","params":{}}"#,
            Ok(vec![Incoming::Told]),
        );
        check(
            r#"[{"method":"a"},{"id":1,"result":2}]"#,
            Ok(vec![
                Incoming::Told,
                Incoming::Answer(Some(1), Ok(json!(2))),
            ]),
        );
        for text in ["", "{", "<html>", "{\"id\":1,\"result\":}"] {
            check(text, Err(NotMessages::Syntax));
        }
        for text in ["1", "{}", "[1]", r#"{"id":1}"#, r#"{"id":1,"error":"no"}"#] {
            check(text, Err(NotMessages::Shape));
        }
    }

    #[test]
    fn inp_1_structure_is_measured_before_it_is_built() {
        check(&"[".repeat(10_000), Err(NotMessages::Excess));
        check(
            &format!("[{}]", "0,".repeat(300_000)),
            Err(NotMessages::Excess),
        );
        check(
            &format!(
                "[{}{{\"method\":\"a\"}}]",
                "{\"method\":\"a\"},".repeat(1_000)
            ),
            Err(NotMessages::Excess),
        );
        // Text is not structure, also behind an escaped quote.
        let text = r#"\"[[[,,,"#.repeat(100_000);
        let long = format!(r#"{{"id":1,"result":"{text}"}}"#);
        assert!(matches!(
            read(long.as_bytes()).as_deref(),
            Ok([Incoming::Answer(Some(1), Ok(Value::String(_)))])
        ));
    }

    #[test]
    fn a_ping_is_answered_and_all_else_is_not_offered() {
        for (method, part) in [
            ("ping", r#""result":{}"#),
            ("sampling/createMessage", "-32601"),
        ] {
            let asked = Asked {
                id: json!(3),
                method: method.to_owned(),
            };
            let answer = String::from_utf8(refusal(&asked)).expect("text");
            assert!(
                answer.contains(part) && answer.contains(r#""id":3"#),
                "{answer}"
            );
        }
    }
}
