//! The model and the tools, as the cases script them. Both know the session they work for by the case's number.

mod speech;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use manyhands_brain::models::{
    Error, ErrorKind, Model, Price, Prices, Request, Response, Sink, Stop,
};
use serde_json::Value;
use tokio::sync::{Notify, SetOnce, watch};

use crate::behaviour::Reply;
use speech::Speech;

/// What an agent's system prompt begins with, before its case's number.
pub const SYSTEM: &str = "case ";

/// What the model and the tools of one case do, and what they were asked.
pub struct Script {
    replies: Mutex<VecDeque<Reply>>,
    /// The bodies of all requests.
    pub requests: Mutex<Vec<Bytes>>,
    /// How often each call was started.
    pub starts: Mutex<HashMap<String, usize>>,
    /// How often each letter was sent by the MCP server, by the id that its call gave it.
    pub letters: Mutex<BTreeMap<String, usize>>,
    /// How often the MCP server was asked for its tools.
    pub lists: AtomicUsize,
    /// Told when silent models and hanging commands are to go on.
    let_go: Notify,
    /// From now on the model says something short and commands end at once.
    calm: AtomicBool,
    /// Requests and commands in hand that do not end by themselves.
    pub stuck: watch::Sender<usize>,
    /// Requests in hand.
    pub asked: watch::Sender<usize>,
    /// The session, for tools that lose its sandbox: its first call may come before the client has been told its id.
    session: SetOnce<String>,
}

impl Script {
    /// The script of a case.
    pub fn new(replies: Vec<Reply>) -> Arc<Self> {
        Arc::new(Self {
            replies: Mutex::new(replies.into()),
            requests: Mutex::default(),
            starts: Mutex::default(),
            letters: Mutex::default(),
            lists: AtomicUsize::new(0),
            let_go: Notify::new(),
            calm: AtomicBool::new(false),
            stuck: watch::Sender::new(0),
            asked: watch::Sender::new(0),
            session: SetOnce::new(),
        })
    }

    /// Says which session it is.
    pub fn belongs_to(&self, session: &str) {
        // A session has one id: a second word on it says the same.
        let _ = self.session.set(session.to_owned());
    }

    /// The session, once it is known.
    pub async fn session(&self) -> &str {
        self.session.wait().await
    }

    /// Lets go of what is stuck now.
    pub fn let_go(&self) {
        self.let_go.notify_waiters();
    }

    /// Nothing of what follows is scripted.
    pub fn calm(&self) {
        self.calm.store(true, Ordering::SeqCst);
        self.let_go.notify_waiters();
    }

    /// Waits until the case lets go.
    pub async fn stick(&self) {
        let mut let_go = std::pin::pin!(self.let_go.notified());
        let_go.as_mut().enable();
        if self.calm.load(Ordering::SeqCst) {
            return;
        }
        let _stuck = Counted::new(&self.stuck);
        let_go.await;
    }

    /// Whether nothing of what follows is scripted.
    pub fn is_calm(&self) -> bool {
        self.calm.load(Ordering::SeqCst)
    }

    fn next(&self) -> Option<Reply> {
        if self.calm.load(Ordering::SeqCst) {
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
pub struct Scripts(Arc<Mutex<HashMap<u64, Arc<Script>>>>);

impl Scripts {
    /// Takes in the script of a case.
    pub fn put(&self, number: u64, script: Arc<Script>) {
        lock(&self.0).insert(number, script);
    }

    /// A case is over.
    pub fn remove(&self, number: u64) {
        lock(&self.0).remove(&number);
    }

    /// The script of a case.
    pub fn of(&self, number: u64) -> Option<Arc<Script>> {
        lock(&self.0).get(&number).cloned()
    }

    /// A request that the endpoint does not answer, because it is down.
    pub(crate) fn missed(&self, request: &Request) -> Error {
        if let Some(script) = self.of_request(request) {
            lock(&script.requests).push(request.body.clone());
        }
        Error::new(ErrorKind::Failed, "the endpoint is down")
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
            Reply::Fails(kind) => Err(failure(kind)),
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

fn failure(kind: ErrorKind) -> Error {
    let mut error = Error::new(kind, format!("the provider says {kind:?}"));
    error.after = (kind == ErrorKind::RateLimited).then_some(Duration::from_millis(1));
    error
}

/// Locks, also what a panic left behind.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Dollars for a million tokens.
pub const DOLLARS: [(&str, f64); 3] = [
    ("input_tokens", 5.0),
    ("output_tokens", 400.0),
    ("cache_read_input_tokens", 50.0),
];

/// What the model costs: some requests a cent.
pub fn prices() -> Prices {
    let [input, output, cache_read] =
        DOLLARS.map(|(_, dollars)| Price::per_million(dollars).expect("a price"));
    Prices {
        input,
        output,
        cache_read,
        ..Prices::default()
    }
}
