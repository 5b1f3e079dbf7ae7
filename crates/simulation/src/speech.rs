//! What clients say to a session, and what they make of its answers: events as they go out, and the echoes that come
//! back.

mod request;

use manyhands_protocol::EventId;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::frames::{Asks, Call};
use crate::servers::toolset;

pub use request::{Request, take};

/// One event that a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A message of the user.
    Message,
    /// A message of the operator, for the model alone.
    System,
    /// An interrupt.
    Interrupt,
    /// An answer to a call.
    Answer(Target),
}

/// Which call an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// One of those that wait for the client.
    Open,
    /// One that was answered before.
    Answered,
    /// One that nobody has to answer.
    NotAsked,
    /// None there is.
    Unknown,
}

/// What is waited for. A wait also ends when nothing more can happen by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// So many more events.
    Events(usize),
    /// A call that waits for the client, be the session idle already or not.
    OpenCall,
    /// The model has a request in hand.
    Asked,
    /// The session is at rest.
    Rest,
}

/// What goes in one request: a message of the operator stands last (runtime SE-8).
pub fn random_inputs(rng: &mut StdRng) -> Vec<Input> {
    let inputs = (0..rng.random_range(1..4)).map(|_| random_input(rng));
    let mut inputs: Vec<Input> = inputs.collect();
    if rng.random_ratio(1, 6) {
        if rng.random_ratio(1, 3) {
            inputs.clear();
        }
        inputs.push(Input::System);
    }
    inputs
}

fn random_input(rng: &mut StdRng) -> Input {
    match rng.random_range(0..20) {
        0..7 => Input::Message,
        7..9 => Input::Interrupt,
        9..16 => Input::Answer(Target::Open),
        16..18 => Input::Answer(Target::Answered),
        18 => Input::Answer(Target::NotAsked),
        _ => Input::Answer(Target::Unknown),
    }
}

/// What to wait for.
pub fn random_until(rng: &mut StdRng) -> Until {
    match rng.random_range(0..8) {
        0..3 => Until::Events(rng.random_range(1..9)),
        3..5 => Until::OpenCall,
        5 => Until::Asked,
        _ => Until::Rest,
    }
}

/// A client's voice: it says nothing twice.
#[derive(Clone, Debug)]
pub struct Speaker {
    number: u64,
    said: usize,
}

impl Speaker {
    /// The voice with this number, which no other has, and the first messages that it says.
    pub fn new(number: u64, messages: usize) -> (Self, Vec<Value>) {
        let said = messages;
        let messages = (0..messages).map(|place| message(number, place)).collect();
        (Self { number, said }, messages)
    }

    /// The number of what comes next.
    fn next(&mut self) -> usize {
        self.said += 1;
        self.said
    }

    /// A message that is equal to no other of anybody.
    pub fn message(&mut self) -> Value {
        message(self.number, self.next())
    }

    /// A change of the title.
    pub fn title(&self) -> Value {
        json!({"title": format!("title {}", self.said)})
    }

    /// The events of one request, after these calls; those are left out for which there is nothing to answer.
    pub fn request(&mut self, inputs: &[Input], calls: &[Call], count: &dyn Fn(String)) -> Request {
        let mut request = Request::of(Vec::new());
        for input in inputs {
            if let Some(event) = self.event(*input, calls, count) {
                let wrong = Input::Answer(Target::NotAsked) == *input
                    || Input::Answer(Target::Unknown) == *input;
                request.add(event, wrong);
            }
        }
        request
    }

    fn event(&mut self, input: Input, calls: &[Call], count: &dyn Fn(String)) -> Option<Value> {
        let target = match input {
            Input::Message => return Some(self.message()),
            Input::System => {
                let mut event = self.message();
                event["type"] = json!("system.message");
                return Some(event);
            }
            Input::Interrupt => return Some(json!({"type": "user.interrupt"})),
            Input::Answer(target) => target,
        };
        let meant = |call: &&Call| match target {
            Target::Open => call.waits(),
            Target::Answered => call.kind != Asks::Nothing && call.answered,
            Target::NotAsked => call.kind == Asks::Nothing,
            Target::Unknown => false,
        };
        let event = if target == Target::Unknown {
            result(EventId::generate().as_str())
        } else {
            let place = self.next();
            let calls: Vec<&Call> = calls.iter().filter(meant).collect();
            let call = calls.get(place % calls.len().max(1))?;
            self.answer(call)
        };
        count(format!("answer: {target:?}"));
        Some(event)
    }

    /// Answers to all these calls, in one request.
    pub fn answers(&mut self, calls: &[Call]) -> Request {
        self.next();
        Request::of(calls.iter().map(|call| self.answer(call)).collect())
    }

    fn answer(&self, call: &Call) -> Value {
        match call.kind {
            Asks::Confirmation if self.said.is_multiple_of(3) => json!({
                "type": "user.tool_confirmation", "tool_use_id": call.id, "result": "deny",
                "deny_message": "not now",
            }),
            Asks::Confirmation => json!({
                "type": "user.tool_confirmation", "tool_use_id": call.id, "result": "allow",
            }),
            Asks::Result | Asks::Nothing => result(&call.id),
        }
    }
}

fn message(number: u64, place: usize) -> Value {
    let text = format!("message {place} of case {number}.");
    json!({"type": "user.message", "content": [{"type": "text", "text": text}]})
}

fn result(call: &str) -> Value {
    json!({
        "type": "user.custom_tool_result", "custom_tool_use_id": call,
        "content": [{"type": "text", "text": "so it is"}],
    })
}

/// A budget of so many cents.
pub fn budget(cents: u64) -> Value {
    json!({"type": "limit", "max_list_cost": {"amount": cents.to_string(), "currency": "USD"}})
}

/// The tools of the agents, or others, for a change; and those of its MCP server, where it has one.
pub fn tools(other: bool, letters: bool) -> Value {
    let client = json!({
        "type": "custom", "name": "ask_client", "description": if other { "Asks again." } else { "Asks." },
        "input_schema": {"type": "object", "properties": {"question": {"type": "string"}}},
    });
    let (asks, allows) = (
        json!({"type": "always_ask"}),
        json!({"type": "always_allow"}),
    );
    let (bash, write) = if other {
        (asks, allows)
    } else {
        (allows, asks)
    };
    let configs = json!([
        {"name": "grep", "enabled": false},
        {"name": "bash", "permission_policy": bash},
        {"name": "write", "permission_policy": write},
        {"name": "edit", "permission_policy": {"type": "auto"}},
    ]);
    let mut tools = vec![
        json!({"type": "agent_toolset_20260401", "configs": configs}),
        client,
    ];
    tools.extend(letters.then(toolset));
    tools.into()
}

/// Whether nothing is queued in a list of events, and the last word on the session's status is that it is idle.
pub fn rests(listed: &[Value]) -> bool {
    let queued = listed.iter().any(|event| event["processed_at"].is_null());
    let kinds = listed
        .iter()
        .rev()
        .filter_map(|event| event["type"].as_str());
    let mut statuses = kinds.filter(|kind| kind.starts_with("session.status_"));
    !queued
        && statuses
            .next()
            .is_none_or(|kind| kind == "session.status_idle")
}
