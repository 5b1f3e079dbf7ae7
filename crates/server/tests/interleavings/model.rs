//! The model and the tools, as the cases script them. Both know the session they work for by the case's number.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use manyhands_brain::models::{
    Block, BlockKind, Delta, Error, ErrorKind, Model, Request, Response, Sink, Stop, Usage, View,
};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::case::{Fault, Reply, Use, Verdict};

/// What an agent's system prompt begins with, before its case's number.
pub(crate) const SYSTEM: &str = "case ";

/// What the model and the tools of one case do, and what they were asked.
pub(crate) struct Script {
    replies: Mutex<VecDeque<Reply>>,
    /// The bodies of all requests.
    pub(crate) requests: Mutex<Vec<Bytes>>,
    /// How often each call was started.
    pub(crate) starts: Mutex<HashMap<String, usize>>,
    /// Counts up when silent models and hanging commands are to go on.
    let_go: watch::Sender<u64>,
    /// From now on the model says something short and commands end at once.
    calm: watch::Sender<bool>,
    /// Requests and commands in hand that do not end by themselves.
    pub(crate) stuck: watch::Sender<usize>,
    /// Requests in hand.
    pub(crate) asked: watch::Sender<usize>,
    /// The session, for tools that lose its sandbox: its first call may come before the client has been told its id.
    session: watch::Sender<Option<String>>,
}

impl Script {
    /// The script of a case.
    pub(crate) fn new(replies: Vec<Reply>) -> Arc<Self> {
        Arc::new(Self {
            replies: Mutex::new(replies.into()),
            requests: Mutex::default(),
            starts: Mutex::default(),
            let_go: watch::Sender::new(0),
            calm: watch::Sender::new(false),
            stuck: watch::Sender::new(0),
            asked: watch::Sender::new(0),
            session: watch::Sender::new(None),
        })
    }

    /// Says which session it is.
    pub(crate) fn belongs_to(&self, session: &str) {
        self.session.send_replace(Some(session.to_owned()));
    }

    /// The session, once it is known.
    pub(crate) async fn session(&self) -> String {
        let mut session = self.session.subscribe();
        // The sender lives in `self`.
        let known = session.wait_for(Option::is_some).await;
        known.expect("a sender").clone().unwrap_or_default()
    }

    /// Lets go of what is stuck now.
    pub(crate) fn let_go(&self) {
        self.let_go.send_modify(|count| *count += 1);
    }

    /// Nothing of what follows is scripted.
    pub(crate) fn calm(&self) {
        self.calm.send_replace(true);
    }

    /// Waits until the case lets go.
    pub(crate) async fn stick(&self) {
        let (mut let_go, mut calm) = (self.let_go.subscribe(), self.calm.subscribe());
        let _stuck = Counted::new(&self.stuck);
        // The senders live in `self`.
        tokio::select! {
            _ = let_go.changed() => {}
            _ = calm.wait_for(|calm| *calm) => {}
        }
    }

    fn next(&self) -> Option<Reply> {
        if *self.calm.borrow() {
            return None;
        }
        lock(&self.replies).pop_front()
    }
}

/// Counts something for as long as it lives.
struct Counted<'a>(&'a watch::Sender<usize>);

impl<'a> Counted<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// The scripts of all cases under way, by number.
#[derive(Clone, Default)]
pub(crate) struct Scripts(Arc<Mutex<HashMap<u64, Arc<Script>>>>);

impl Scripts {
    pub(crate) fn put(&self, number: u64, script: Arc<Script>) {
        lock(&self.0).insert(number, script);
    }

    pub(crate) fn remove(&self, number: u64) {
        lock(&self.0).remove(&number);
    }

    /// The script of a case.
    pub(crate) fn of(&self, number: u64) -> Option<Arc<Script>> {
        lock(&self.0).get(&number).cloned()
    }

    /// The script that a request belongs to.
    fn of_request(&self, request: &Request) -> Option<Arc<Script>> {
        let body: Value = serde_json::from_slice(&request.body).ok()?;
        let system = body["system"][0]["text"].as_str()?;
        self.of(system.strip_prefix(SYSTEM)?.parse().ok()?)
    }
}

#[async_trait]
impl Model for Scripts {
    async fn sample(&self, request: &Request, sink: &mut dyn Sink) -> Result<Response, Error> {
        let script = self.of_request(request);
        let script = script.ok_or_else(|| Error::new(ErrorKind::Refused, "no such case"))?;
        let _asked = Counted::new(&script.asked);
        let number = {
            let mut requests = lock(&script.requests);
            requests.push(request.body.clone());
            requests.len()
        };
        let mut speech = Speech::new(number, request.body.len() as u64 / 4, sink);
        let Some(reply) = script.next() else {
            speech.text("Fine.");
            return Ok(speech.end(Stop::EndTurn));
        };
        match reply {
            Reply::Answer {
                thinks,
                speaks,
                calls,
            } => {
                if thinks {
                    speech.thinking();
                }
                if speaks {
                    speech.text("Let me ");
                    tokio::task::yield_now().await;
                    speech.text("see.");
                }
                let stop = if calls.is_empty() {
                    Stop::EndTurn
                } else {
                    Stop::ToolUse
                };
                let case = case_of(request);
                for (index, call) in calls.into_iter().enumerate() {
                    speech.call(index, call, case);
                }
                Ok(speech.end(stop))
            }
            Reply::MaxTokens { speaks } => {
                if speaks {
                    speech.text("And then");
                }
                Ok(speech.end(Stop::MaxTokens))
            }
            Reply::Refusal => {
                speech.text("I would rather not.");
                Ok(speech.end(Stop::Refusal {
                    category: Some("cyber".to_owned()),
                    explanation: None,
                }))
            }
            Reply::Nothing => Ok(speech.end(Stop::EndTurn)),
            Reply::Blank => {
                speech.text(" \n");
                Ok(speech.end(Stop::EndTurn))
            }
            Reply::Fails(fault) => Err(failure(fault)),
            Reply::BreaksOff => {
                speech.text("I was about to");
                tokio::task::yield_now().await;
                Err(Error::new(ErrorKind::Failed, "the answer broke off"))
            }
            Reply::FallsSilent => {
                speech.text("Well");
                script.stick().await;
                Err(Error::new(ErrorKind::Failed, "the answer fell silent"))
            }
            Reply::Slow => {
                for _ in 0..200 {
                    tokio::task::yield_now().await;
                }
                speech.text("Slowly.");
                Ok(speech.end(Stop::EndTurn))
            }
        }
    }
}

fn case_of(request: &Request) -> u64 {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let system = body["system"][0]["text"].as_str().unwrap_or_default();
    let number = system.strip_prefix(SYSTEM).unwrap_or_default();
    number.parse().unwrap_or_default()
}

fn failure(fault: Fault) -> Error {
    let kind = match fault {
        Fault::Overloaded => ErrorKind::Overloaded,
        Fault::RateLimited => ErrorKind::RateLimited,
        Fault::Failed => ErrorKind::Failed,
        Fault::Overflow => ErrorKind::Overflow,
        Fault::Refused => ErrorKind::Refused,
        Fault::Auth => ErrorKind::Auth,
        Fault::Billing => ErrorKind::Billing,
    };
    let mut error = Error::new(kind, format!("the provider says {fault:?}"));
    error.after = (fault == Fault::RateLimited).then_some(Duration::from_millis(1));
    error
}

/// A message in the making.
struct Speech<'a> {
    number: usize,
    input_tokens: u64,
    sink: &'a mut dyn Sink,
    blocks: Vec<Block>,
    text: Option<String>,
}

impl<'a> Speech<'a> {
    fn new(number: usize, input_tokens: u64, sink: &'a mut dyn Sink) -> Self {
        sink.delta(Delta::Usage(usage(input_tokens, 0)));
        Self {
            number,
            input_tokens,
            sink,
            blocks: Vec::new(),
            text: None,
        }
    }

    fn text(&mut self, fragment: &str) {
        let index = self.blocks.len();
        if self.text.is_none() {
            let kind = BlockKind::Text;
            self.sink.delta(Delta::Start { index, kind });
        }
        self.text.get_or_insert_default().push_str(fragment);
        let text = fragment;
        self.sink.delta(Delta::Text { index, text });
    }

    fn thinking(&mut self) {
        let index = self.blocks.len();
        let kind = BlockKind::Thinking;
        self.sink.delta(Delta::Start { index, kind });
        let block = json!({"type": "thinking", "thinking": "Hm.", "signature": "c2ln"});
        self.blocks.push(Block {
            raw: raw(&block),
            view: View::Thinking,
        });
    }

    fn call(&mut self, place: usize, call: Use, case: u64) {
        self.end_text();
        let index = self.blocks.len();
        let kind = BlockKind::ToolUse;
        self.sink.delta(Delta::Start { index, kind });
        let (name, input) = spell(call, case);
        let id = format!("toolu_{}_{place}", self.number);
        let block = json!({"type": "tool_use", "id": id, "name": name, "input": input});
        self.blocks.push(Block {
            raw: raw(&block),
            view: View::ToolUse {
                id,
                name: name.to_owned(),
                input: raw(&input),
            },
        });
    }

    fn end_text(&mut self) {
        if let Some(text) = self.text.take() {
            self.blocks.push(Block::text(&text));
        }
    }

    fn end(mut self, stop: Stop) -> Response {
        self.end_text();
        let usage = usage(self.input_tokens, 5);
        self.sink.delta(Delta::Usage(usage));
        Response {
            id: format!("msg_{}", self.number),
            model: "m".to_owned(),
            stop,
            blocks: self.blocks,
            usage,
        }
    }
}

fn usage(input_tokens: u64, output_tokens: u64) -> Usage {
    Usage {
        input_tokens,
        output_tokens,
        cache_read_input_tokens: 3,
        ..Usage::default()
    }
}

fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).expect("JSON")
}

/// A use of a tool as the model writes it.
fn spell(call: Use, case: u64) -> (&'static str, Value) {
    let command = |what: &str| json!({"command": format!("{what} {case}")});
    let path = |what: &str| json!({"file_path": format!("{what} {case}")});
    match call {
        Use::Runs => ("bash", command("run")),
        Use::Fails => ("bash", command("fail")),
        Use::SaysNothing => ("bash", command("empty")),
        Use::Hangs => ("bash", command("hang")),
        Use::LosesSandbox => ("bash", command("lose")),
        Use::Reads => ("read", path("run")),
        Use::ReadsAndLosesSandbox => ("read", path("lose")),
        Use::Disabled => ("grep", json!({"pattern": "x"})),
        Use::Unknown => ("teleport", json!({})),
        Use::BadInput => ("read", json!({"view_range": "all"})),
        Use::NoObject => ("bash", json!(["ls"])),
        Use::Asks => (
            "write",
            json!({"file_path": format!("run {case}"), "content": "x"}),
        ),
        Use::Judged(verdict) => {
            let path = format!("{} {case}", spell_verdict(verdict));
            (
                "edit",
                json!({"file_path": path, "old_string": "x", "new_string": "y"}),
            )
        }
        Use::Custom => ("ask_client", json!({"question": "Well?"})),
    }
}

fn spell_verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allows => "allowed",
        Verdict::Denies => "denied",
        Verdict::CannotTell => "doubtful",
        Verdict::Fails => "faulty",
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
