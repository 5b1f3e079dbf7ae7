//! Sending: events as they go out, and what the server says to them.

use std::sync::Arc;

use manyhands_protocol::EventId;
use manyhands_simulation::check::life::{Accepted, shows};
use manyhands_simulation::frames::{Asks, calls};
use serde_json::{Value, json};

use super::{Life, Problem};
use crate::case::{Input, Target};
use crate::model::lock;

impl Life {
    /// Sends these requests at the same time.
    pub(super) async fn send(&mut self, all: &[&Vec<Input>]) -> Result<(), Problem> {
        let mut requests = Vec::new();
        for inputs in all {
            let mut request = Request::of(Vec::new());
            for input in *inputs {
                if let Some(event) = self.spell(*input) {
                    request.wrong |=
                        matches!(input, Input::Answer(Target::NotAsked | Target::Unknown));
                    request.events.push(event);
                }
            }
            requests.push(request);
        }
        requests.retain(|request| !request.events.is_empty());
        if requests.is_empty() {
            self.world.count("send: nothing to answer");
            return Ok(());
        }
        self.post(requests).await
    }

    pub(super) async fn post(&mut self, requests: Vec<Request>) -> Result<(), Problem> {
        let path = format!("/v1/sessions/{}/events", self.session);
        let answers = requests.iter().map(|request| {
            let (world, path) = (&self.world, &path);
            async move { world.post(path, &json!({"events": request.events})).await }
        });
        let answers = futures::future::join_all(answers).await;
        let mut taken = Vec::new();
        for (request, answer) in requests.into_iter().zip(answers) {
            let excuses = request.excuses(self.budget.is_some());
            if !self.taken("send", &answer, &excuses, false)? {
                continue;
            }
            let events = request.events;
            if request.wrong {
                return Err(format!("{events:?} is taken: {}", answer.body));
            }
            let echoes = answer.body["data"].as_array().cloned().unwrap_or_default();
            if echoes.len() != events.len() {
                return Err(format!("{events:?} is answered with {}", answer.body));
            }
            taken.extend(events.into_iter().zip(echoes));
        }
        // Of two answers to a call, the one that was the first is taken note of first.
        taken.sort_by_key(|(sent, echo)| !shows(echo, sent));
        let before = self.accepted.len();
        for (sent, echo) in taken {
            self.take(sent, &echo)?;
        }
        for accepted in &self.accepted[before..] {
            let heard = || self.heard.position_of(&accepted.id).is_some();
            let problem = "an event that was taken is not heard";
            if !accepted.traceless {
                self.until(|_| heard(), problem).await?;
            }
        }
        let heard = Arc::clone(&self.heard);
        self.accepted[before..].sort_by_key(|accepted| heard.position_of(&accepted.id));
        Ok(())
    }

    fn take(&mut self, sent: Value, echo: &Value) -> Result<(), Problem> {
        let id = echo["id"].as_str().unwrap_or_default();
        let answered = answered_call(&sent);
        let mut earlier = self.accepted.iter();
        let earlier =
            earlier.find(|earlier| answered.is_some() && answered_call(&earlier.sent) == answered);
        match earlier {
            Some(earlier) if earlier.id == id => self.world.count("send: answered before"),
            Some(earlier) => {
                return Err(format!(
                    "{sent} is answered with {echo} and not with the first answer {}",
                    earlier.id
                ));
            }
            // A call that an interrupt answered is echoed as that answer.
            None if echo["type"] == "agent.tool_result" => {
                self.world.count("send: answered by the server");
            }
            None if !shows(echo, &sent) => return Err(format!("{sent} is echoed as {echo}")),
            None => {
                let kind = sent["type"].as_str().unwrap_or_default();
                self.world.count(format!("taken: {kind}"));
                self.accepted.push(Accepted {
                    id: id.to_owned(),
                    traceless: kind == "user.interrupt" && self.budget.is_some(),
                    sent,
                });
            }
        }
        Ok(())
    }

    /// An event as it is sent; `None` when there is nothing to answer.
    fn spell(&mut self, input: Input) -> Option<Value> {
        match input {
            Input::Message => {
                self.said += 1;
                Some(message(self.number, self.said))
            }
            Input::System => {
                self.said += 1;
                let mut event = message(self.number, self.said);
                event["type"] = json!("system.message");
                Some(event)
            }
            Input::Interrupt => Some(json!({"type": "user.interrupt"})),
            Input::Answer(target) => {
                let mut calls = calls(&lock(&self.heard.frames));
                match target {
                    Target::Open => {
                        calls.retain(|call| call.kind != Asks::Nothing && !call.answered);
                    }
                    Target::Answered => {
                        calls.retain(|call| call.kind != Asks::Nothing && call.answered);
                    }
                    Target::NotAsked => calls.retain(|call| call.kind == Asks::Nothing),
                    Target::Unknown => {
                        self.world.count("answer: Unknown");
                        return Some(result(EventId::generate().as_str()));
                    }
                }
                self.said += 1;
                let call = calls.get(self.said % calls.len().max(1))?;
                self.world.count(format!("answer: {target:?}"));
                Some(self.answer(&call.id, call.kind))
            }
        }
    }

    /// An answer to a call.
    pub(super) fn answer(&self, call: &str, kind: Asks) -> Value {
        match kind {
            Asks::Confirmation if self.said.is_multiple_of(3) => json!({
                "type": "user.tool_confirmation", "tool_use_id": call, "result": "deny",
                "deny_message": "not now",
            }),
            Asks::Confirmation => {
                json!({"type": "user.tool_confirmation", "tool_use_id": call, "result": "allow"})
            }
            Asks::Result | Asks::Nothing => result(call),
        }
    }
}

/// The events of one request.
pub(super) struct Request {
    events: Vec<Value>,
    /// Whether one of them must be refused, and with it all (runtime HT-15).
    wrong: bool,
}

impl Request {
    pub(super) fn of(events: Vec<Value>) -> Self {
        let wrong = false;
        Self { events, wrong }
    }

    /// What a refusal may say.
    fn excuses(&self, budgeted: bool) -> Vec<&'static str> {
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
        if self
            .events
            .iter()
            .any(|event| event["type"] == "system.message")
        {
            excuses.push("system.message");
        }
        excuses
    }
}

/// The call that an event answers.
fn answered_call(event: &Value) -> Option<&str> {
    let names = ["tool_use_id", "custom_tool_use_id"];
    names.iter().find_map(|name| event[*name].as_str())
}

/// A message that no other message of any case is equal to.
pub(super) fn message(number: u64, said: usize) -> Value {
    let text = format!("message {said} of case {number}.");
    json!({"type": "user.message", "content": [{"type": "text", "text": text}]})
}

fn result(call: &str) -> Value {
    json!({
        "type": "user.custom_tool_result", "custom_tool_use_id": call,
        "content": [{"type": "text", "text": "so it is"}],
    })
}
