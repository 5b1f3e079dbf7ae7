//! One request with events, what a refusal of it may say, and what is made of the echo of each event.

use serde_json::Value;

use crate::check::Problem;
use crate::check::life::{Accepted, shows};

/// The events of one request.
#[derive(Clone, Debug)]
pub struct Request {
    /// In their order.
    pub events: Vec<Value>,
    /// Whether one of them must be refused, and with it all (runtime HT-15).
    wrong: bool,
}

impl Request {
    /// One whose events are all right.
    pub fn of(events: Vec<Value>) -> Self {
        let wrong = false;
        Self { events, wrong }
    }

    pub(super) fn add(&mut self, event: Value, wrong: bool) {
        self.events.push(event);
        self.wrong |= wrong;
    }

    /// What a refusal may say, of a session with a budget or without.
    pub fn excuses(&self, budgeted: bool) -> Vec<&'static str> {
        let mut excuses = Vec::new();
        if self.wrong {
            excuses.push("events[");
        }
        if self.events.len() > 1 {
            excuses.push("answers this call differently");
        }
        if budgeted {
            excuses.push("has reached its budget");
        }
        let mut events = self.events.iter();
        if events.any(|event| event["type"] == "system.message") {
            excuses.push("system.message");
        }
        excuses
    }

    /// Each event with its echo, when the server took the request and answered with this body.
    pub fn echoed(self, body: &Value) -> Result<Vec<(Value, Value)>, Problem> {
        let events = self.events;
        if self.wrong {
            return Err(format!("{events:?} is taken: {body}"));
        }
        let echoes = body["data"].as_array().cloned().unwrap_or_default();
        if echoes.len() != events.len() {
            return Err(format!("{events:?} is answered with {body}"));
        }
        Ok(events.into_iter().zip(echoes).collect())
    }
}

/// What an echo says of an event that was sent: that it was taken now, or that its call was answered before, by one of
/// those `accepted` earlier or of the `doubtful` ones that were not answered themselves; then there is nothing new. A
/// `budgeted` session has interrupts that leave no trace (runtime IN-9).
pub fn take(
    sent: Value,
    echo: &Value,
    accepted: &[Accepted],
    doubtful: &[Value],
    budgeted: bool,
    count: &dyn Fn(String),
) -> Result<Option<Accepted>, Problem> {
    let id = echo["id"].as_str().unwrap_or_default();
    let call = answered_call(&sent);
    let mut earlier = accepted.iter();
    let earlier = earlier.find(|earlier| call.is_some() && answered_call(&earlier.sent) == call);
    let mut doubtful = doubtful.iter();
    let doubtful = doubtful
        .any(|earlier| call.is_some() && answered_call(earlier) == call && shows(echo, earlier));
    match earlier {
        Some(earlier) if earlier.id == id => count("send: answered before".to_owned()),
        Some(earlier) => {
            return Err(format!(
                "{sent} is answered with {echo} and not with the first answer {}",
                earlier.id
            ));
        }
        // A call that an interrupt answered is echoed as that answer.
        None if ["agent.tool_result", "agent.mcp_tool_result"]
            .map(Value::from)
            .contains(&echo["type"]) =>
        {
            count("send: answered by the server".to_owned());
        }
        // The one that was not answered had come through.
        None if !shows(echo, &sent) && doubtful => {
            count("send: answered before, it turns out".to_owned());
        }
        None if !shows(echo, &sent) => return Err(format!("{sent} is echoed as {echo}")),
        None => {
            let kind = sent["type"].as_str().unwrap_or_default();
            count(format!("taken: {kind}"));
            if doubtful {
                count("taken: perhaps at an earlier try".to_owned());
            }
            return Ok(Some(Accepted {
                id: id.to_owned(),
                traceless: kind == "user.interrupt" && budgeted,
                retold: doubtful,
                sent,
            }));
        }
    }
    Ok(None)
}

/// The call that an event answers.
fn answered_call(event: &Value) -> Option<&str> {
    let names = ["tool_use_id", "custom_tool_use_id"];
    names.iter().find_map(|name| event[*name].as_str())
}
