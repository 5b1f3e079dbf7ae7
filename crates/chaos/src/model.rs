//! The scripted model: it answers as the messages' plans say, and remembers what it was asked when.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::{ModelServer, Reply, Request, Usage};
use serde_json::Value;

use crate::plan::{self, Fault, Plan};

/// The time between two parts of an answer, so that a kill can fall between them.
const DRIP: Duration = Duration::from_millis(3);

/// The model of one world.
#[derive(Debug)]
pub(crate) struct Model {
    server: ModelServer,
    shared: Arc<Mutex<Book>>,
}

#[derive(Debug, Default)]
struct Book {
    plans: HashMap<u32, Plan>,
    /// When each step of each message was asked for.
    asked: HashMap<(u32, usize), Vec<Instant>>,
    /// Messages whose answers wait for the gate.
    held: HashMap<u32, Gate>,
}

impl Model {
    /// Starts it.
    pub(crate) async fn start() -> Self {
        let server = ModelServer::start().await;
        let shared = Arc::<Mutex<Book>>::default();
        let book = Arc::clone(&shared);
        server.respond_with(move |request| lock(&book).reply(request));
        Self { server, shared }
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// Learns what a message is to make it do, before the message is sent.
    pub(crate) fn learn(&self, message: u32, plan: Plan) {
        lock(&self.shared).plans.insert(message, plan);
    }

    /// Does not answer this message before the gate is open.
    pub(crate) fn hold(&self, message: u32, gate: &Gate) {
        lock(&self.shared).held.insert(message, gate.clone());
    }

    /// All plans.
    pub(crate) fn plans(&self) -> HashMap<u32, Plan> {
        lock(&self.shared).plans.clone()
    }

    /// When this step of this message was asked for.
    pub(crate) fn asked(&self, message: u32, step: usize) -> Vec<Instant> {
        let book = lock(&self.shared);
        book.asked
            .get(&(message, step))
            .cloned()
            .unwrap_or_default()
    }

    /// How many requests came in all.
    pub(crate) fn requests(&self) -> u64 {
        let book = lock(&self.shared);
        book.asked.values().map(|times| times.len() as u64).sum()
    }

    /// What was wrong with the requests.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.server.take_violations()
    }
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Book {
    fn reply(&mut self, request: &Request) -> Reply {
        let Some((message, step)) = place(request.messages()) else {
            return Reply::bad_request("no message of the campaign is in this conversation");
        };
        let asked = self.asked.entry((message, step)).or_default();
        asked.push(Instant::now());
        let first = asked.len() == 1;
        let text = plan::said(message, step);
        let planned = self.plans.get(&message);
        let Some(planned) = planned.and_then(|plan| plan.steps.get(step)) else {
            return Reply::text(text);
        };
        let mut reply = Reply::text(text).split_into(4).usage(Usage {
            output_tokens: plan::tokens(message, step),
            ..Usage::default()
        });
        for (index, call) in planned.calls.iter().enumerate() {
            let key = plan::key(message, step, index);
            let (name, input) = call.input(&key);
            reply = reply.then_tool_use(format!("toolu_{key}"), name, input);
        }
        reply = reply.delay_headers(planned.think).delay_chunks(DRIP);
        if let Some(gate) = self.held.get(&message) {
            reply = reply.hold_headers(gate);
        }
        match planned.fault.filter(|_| first) {
            Some(Fault::Overloaded) => Reply::overloaded(),
            Some(Fault::Cut) => reply.cut_at(400),
            None => reply,
        }
    }
}

/// The last message that the conversation has, and how many answers are behind it.
fn place(conversation: &[Value]) -> Option<(u32, usize)> {
    let mut place = None;
    for turn in conversation {
        if turn["role"] == "assistant" {
            if let Some((_, step)) = &mut place {
                *step += 1;
            }
            continue;
        }
        let blocks = turn["content"].as_array().into_iter().flatten();
        let texts = blocks
            .filter_map(|block| block["text"].as_str())
            .chain(turn["content"].as_str());
        for message in texts.filter_map(plan::message_of) {
            place = Some((message, 0));
        }
    }
    place
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_is_placed_by_its_last_message_and_the_answers_behind_it() {
        let user = |message| json!({"role": "user", "content": [{"type": "text", "text": plan::message_text(message)}]});
        let answer = || json!({"role": "assistant", "content": [{"type": "text", "text": "x"}]});
        let result =
            || json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a"}]});
        #[track_caller]
        fn check(conversation: &[Value], expected: Option<(u32, usize)>) {
            assert_eq!(place(conversation), expected);
        }
        check(&[], None);
        check(&[user(1)], Some((1, 0)));
        check(&[user(1), answer(), result()], Some((1, 1)));
        check(
            &[user(1), answer(), result(), user(2), answer()],
            Some((2, 1)),
        );
        let both =
            json!({"role": "user", "content": [user(3)["content"][0], user(4)["content"][0]]});
        check(&[user(1), answer(), both], Some((4, 0)));
        check(
            &[json!({"role": "user", "content": plan::message_text(5)})],
            Some((5, 0)),
        );
    }
}
