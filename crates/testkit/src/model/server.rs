//! The scripted model's HTTP side: one listener, one queue of replies, everything recorded.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::check::check;
use super::check_chat::check_chat;
use super::format::{Format, request_id};
use super::pace::{Hold, Step};
use super::prefix::Prefixes;
use super::reply::{Block, Body, Reply};
use super::request::Request;
use super::script;
use crate::gate::PATIENCE;

/// How the answer to a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All bytes were handed over.
    Sent,
    /// The script broke the connection.
    Cut,
    /// The caller went away before the end.
    ClientGone,
}

/// A model that follows a script, in either form.
///
/// It listens on an ephemeral port of 127.0.0.1 until dropped. Dropping it panics when a request
/// was not well-formed, unless the test is failing already.
#[derive(Debug)]
pub struct ModelServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: JoinHandle<()>,
}

type Script = Box<dyn FnMut(&Request) -> Reply + Send>;

struct Shared {
    state: Mutex<State>,
    arrived: watch::Sender<usize>,
    ended: watch::Sender<usize>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.write_str("Shared")
    }
}

#[derive(Default)]
struct State {
    queue: VecDeque<Reply>,
    script: Option<Script>,
    requests: Vec<Arc<Request>>,
    outcomes: HashMap<usize, Outcome>,
    violations: Vec<String>,
    prefixes: Option<Prefixes>,
    /// Thinking by signature, as issued: it must come back unchanged.
    issued: HashMap<String, String>,
}

impl ModelServer {
    /// Starts a server with an empty script on the current runtime.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.expect("a free port on 127.0.0.1");
        let address = listener.local_addr().expect("the port just bound");
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            arrived: watch::Sender::new(0),
            ended: watch::Sender::new(0),
        });
        let listener = tokio::spawn(accept(listener, shared.clone()));
        Self {
            address,
            shared,
            listener,
        }
    }

    /// Starts a server that answers with these replies, one a request.
    pub async fn with(replies: impl IntoIterator<Item = Reply>) -> Self {
        let server = Self::start().await;
        for reply in replies {
            server.push(reply);
        }
        server
    }

    /// The base URL, without a trailing slash: what the product's setting is given.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds one reply to the end of the queue.
    pub fn push(&self, reply: Reply) {
        self.shared.state().queue.push_back(reply);
    }

    /// Answers whatever the queue does not, by a function of the request.
    pub fn respond_with(&self, script: impl FnMut(&Request) -> Reply + Send + 'static) {
        self.shared.state().script = Some(Box::new(script));
    }

    /// From now on holds every request against security I6 (see [`Prefixes`]).
    pub fn check_prefixes(&self) {
        self.shared.state().prefixes = Some(Prefixes::default());
    }

    /// How many requests for a message arrived so far, good and bad.
    pub fn hits(&self) -> usize {
        self.shared.state().requests.len()
    }

    /// How many queued replies nobody has asked for yet.
    pub fn remaining(&self) -> usize {
        self.shared.state().queue.len()
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Arc<Request>> {
        self.shared.state().requests.clone()
    }

    /// Waits for request number `number` (the first is 1) and returns it.
    ///
    /// # Panics
    /// When it does not arrive within [`PATIENCE`].
    pub async fn request(&self, number: usize) -> Arc<Request> {
        let mut arrived = self.shared.arrived.subscribe();
        let wait = arrived.wait_for(|count| *count >= number);
        let here = tokio::time::timeout(PATIENCE, wait).await.is_ok();
        assert!(
            here,
            "model request {number} did not arrive within {PATIENCE:?}; {} did",
            self.hits()
        );
        self.shared.state().requests[number - 1].clone()
    }

    /// Waits until the answer to request `number` is over and says how it ended.
    ///
    /// # Panics
    /// When it is not over within [`PATIENCE`].
    pub async fn outcome(&self, number: usize) -> Outcome {
        let mut ended = self.shared.ended.subscribe();
        let over = |_: &usize| self.shared.state().outcomes.contains_key(&number);
        let here = tokio::time::timeout(PATIENCE, ended.wait_for(over)).await;
        assert!(
            here.is_ok(),
            "the answer to model request {number} was not over within {PATIENCE:?}"
        );
        self.shared.state().outcomes[&number]
    }

    /// What was wrong with the requests so far.
    pub fn violations(&self) -> Vec<String> {
        self.shared.state().violations.clone()
    }

    /// Takes the violations, for a test that provokes one: the server is clean afterwards.
    pub fn take_violations(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.state().violations)
    }

    /// # Panics
    /// When a request was not well-formed or had no reply in the script.
    pub fn assert_clean(&self) {
        let violations = self.violations();
        assert!(
            violations.is_empty(),
            "the model got bad requests:\n{}",
            violations.join("\n")
        );
    }

    /// # Panics
    /// When replies are left in the queue, or [`ModelServer::assert_clean`] does.
    pub fn assert_done(&self) {
        self.assert_clean();
        let remaining = self.remaining();
        assert!(
            remaining == 0,
            "{remaining} scripted replies were not asked for"
        );
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.listener.abort();
        if !std::thread::panicking() {
            self.assert_clean();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in a test's own script function must not hide behind a poisoned lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks and records a request, and picks its reply.
    fn receive(
        &self,
        format: Format,
        headers: hyper::HeaderMap,
        raw: Bytes,
    ) -> (Arc<Request>, Reply) {
        let body: Value = serde_json::from_slice(&raw).unwrap_or_default();
        let mut violations = match format {
            Format::Messages => check(&headers, &body),
            Format::Chat => check_chat(&headers, &body),
        };
        let mut guard = self.state();
        let state = &mut *guard;
        violations.extend(changed_thinking(&body, &state.issued));
        if let Some(prefixes) = &mut state.prefixes {
            violations.extend(prefixes.extend(&raw).err());
        }
        let request = Arc::new(Request {
            number: state.requests.len() + 1,
            format,
            headers,
            raw,
            body,
            violations,
        });
        state.requests.push(request.clone());
        let reply = state.reply_to(&request);
        drop(guard);
        self.arrived.send_replace(request.number);
        (request, reply)
    }

    fn finish(&self, number: usize, outcome: Outcome) {
        self.state().outcomes.insert(number, outcome);
        self.ended.send_modify(|count| *count += 1);
    }
}

impl State {
    fn reply_to(&mut self, request: &Request) -> Reply {
        let number = request.number;
        if !request.violations.is_empty() {
            let numbered = request.violations.iter();
            let numbered = numbered.map(|violation| format!("request {number}: {violation}"));
            self.violations.extend(numbered);
            let all = request.violations.join("; ");
            return match all.starts_with("authentication") {
                true => Reply::error(401, "authentication_error", &all),
                false => Reply::bad_request(&all),
            };
        }
        let reply = match (self.queue.pop_front(), &mut self.script) {
            (Some(reply), _) => reply,
            (None, Some(script)) => script(request),
            (None, None) => {
                let problem = format!("request {number}: the script has no reply left");
                self.violations.push(problem.clone());
                return Reply::error(400, "invalid_request_error", &problem);
            }
        };
        if let Body::Message(message) = &reply.body {
            for block in &message.blocks {
                if let Block::Thinking {
                    thinking,
                    signature,
                } = block
                {
                    self.issued.insert(signature.clone(), thinking.clone());
                }
            }
        }
        reply
    }
}

/// Thinking that came back other than it was issued (security MODEL-4).
fn changed_thinking(body: &Value, issued: &HashMap<String, String>) -> Vec<String> {
    let messages = body["messages"].as_array().into_iter().flatten();
    let blocks = messages.flat_map(|message| message["content"].as_array().into_iter().flatten());
    let thinking = blocks.filter(|block| block["type"] == "thinking");
    thinking
        .filter(|block| {
            let signature = block["signature"].as_str().unwrap_or_default();
            issued.get(signature).map(String::as_str) != block["thinking"].as_str()
        })
        .map(|block| format!("thinking: a block was not replayed as it was issued: {block}"))
        .collect()
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and every open connection with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let shared = shared.clone();
        connections.spawn(async move {
            let service = service_fn(|request| respond(shared.clone(), request));
            let http = hyper::server::conn::http1::Builder::new();
            // An error here is a connection that one side broke, which is what faults are for.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// The connection is to be broken without an answer.
#[derive(Debug)]
struct HungUp;

impl std::fmt::Display for HungUp {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.write_str("the script hung up")
    }
}

impl std::error::Error for HungUp {}

type Answer = Response<UnsyncBoxBody<Bytes, HungUp>>;

async fn respond(shared: Arc<Shared>, request: hyper::Request<Incoming>) -> Result<Answer, HungUp> {
    let (head, body) = request.into_parts();
    let format = [Format::Messages, Format::Chat]
        .into_iter()
        .find(|format| format.path() == head.uri.path());
    match (&head.method, head.uri.path(), format) {
        (&Method::POST, _, Some(format)) => {
            let raw = body.collect().await.map_err(|_| HungUp)?.to_bytes();
            let (request, reply) = shared.receive(format, head.headers, raw);
            let watch = Ending {
                shared: shared.clone(),
                number: request.number,
                outcome: Outcome::ClientGone,
            };
            send(watch, &request, reply).await
        }
        (&Method::GET, "/v1/models", _) => Ok(whole(200, script::models())),
        (method, path, _) => {
            let problem = format!("{method} {path}: not a route of a model");
            shared.state().violations.push(problem.clone());
            let body =
                json!({"type": "error", "error": {"type": "not_found_error", "message": problem}});
            Ok(whole(404, body))
        }
    }
}

async fn send(mut watch: Ending, request: &Request, reply: Reply) -> Result<Answer, HungUp> {
    for hold in reply.before_headers() {
        match hold {
            Hold::Delay(delay) => tokio::time::sleep(*delay).await,
            Hold::Gate(gate) => gate.pass().await,
        }
    }
    if matches!(reply.body, Body::HangUp) {
        watch.outcome = Outcome::Cut;
        return Err(HungUp);
    }
    let steps = match reply.plan(request.format, request.number, request.model()) {
        Ok(steps) => steps,
        Err(mistake) => {
            let problem = format!("request {}: {mistake}", request.number);
            watch.shared.state().violations.push(problem);
            return Err(HungUp);
        }
    };
    let kind = match reply.body {
        Body::Message(_) => Some("text/event-stream; charset=utf-8"),
        Body::Error { .. } => Some("application/json"),
        Body::Raw(_) | Body::HangUp => None,
    };
    let mut answer = Response::builder()
        .status(reply.status)
        .header("request-id", request_id(request.number))
        .header("cache-control", "no-cache");
    if let Some(kind) = kind {
        answer = answer.header("content-type", kind);
    }
    for (name, value) in &reply.headers {
        answer = answer.header(name, value);
    }
    let body = StreamBody::new(stream::unfold((steps.into_iter(), watch), next_chunk));
    Ok(answer
        .body(body.boxed_unsync())
        .expect("a legal header in the script"))
}

async fn next_chunk(
    (mut steps, mut watch): (std::vec::IntoIter<Step>, Ending),
) -> Option<(
    Result<Frame<Bytes>, HungUp>,
    (std::vec::IntoIter<Step>, Ending),
)> {
    loop {
        // Lets the connection flush what it has, so that chunks and cuts fall where they should.
        tokio::task::yield_now().await;
        match steps.next() {
            Some(Step::Send(bytes)) => return Some((Ok(Frame::data(bytes)), (steps, watch))),
            Some(Step::Delay(delay)) => tokio::time::sleep(delay).await,
            Some(Step::Gate(gate)) => gate.pass().await,
            Some(Step::Cut) => {
                watch.outcome = Outcome::Cut;
                return Some((Err(HungUp), (steps, watch)));
            }
            None => {
                watch.outcome = Outcome::Sent;
                return None;
            }
        }
    }
}

/// Reports how an answer ended, whichever way its body is dropped.
struct Ending {
    shared: Arc<Shared>,
    number: usize,
    outcome: Outcome,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.shared.finish(self.number, self.outcome);
    }
}

fn whole(status: u16, body: Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string())).map_err(|never: Infallible| match never {});
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(body.boxed_unsync())
        .expect("a constant header")
}
