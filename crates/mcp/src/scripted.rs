//! MCP servers that follow a script, for the tests of other rooms. No network.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use serde_json::{Map, Value};

use crate::{Caller, Connection, Connector, Failure, Output, Server, Tool};

/// Answers a call: the tool's name and its input.
pub type Answer = Arc<
    dyn Fn(String, Map<String, Value>) -> BoxFuture<'static, Result<Output, Failure>> + Send + Sync,
>;

/// A call that arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Who called.
    pub caller: Caller,
    /// The server's URL.
    pub url: String,
    /// The tool's bare name.
    pub name: String,
    /// Its input.
    pub input: Map<String, Value>,
}

/// A connector to scripted servers. Clones share everything. A server that was not added is unreachable.
#[derive(Clone, Default)]
pub struct Scripted(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    servers: HashMap<String, Script>,
    calls: Vec<Call>,
    connected: Vec<(Caller, Server)>,
    closed: usize,
}

#[derive(Clone)]
struct Script {
    failures: VecDeque<Failure>,
    tools: Result<Vec<Tool>, Failure>,
    answer: Answer,
}

impl Scripted {
    /// No servers yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A server at this URL with these tools. One that is already there is replaced.
    pub fn serve(
        &self,
        url: &str,
        tools: Vec<Tool>,
        answer: impl Fn(&str, &Map<String, Value>) -> Result<Output, Failure> + Send + Sync + 'static,
    ) {
        let answer: Answer = Arc::new(move |name, input| {
            let answered = answer(&name, &input);
            Box::pin(std::future::ready(answered))
        });
        self.serve_slowly(url, tools, answer);
    }

    /// As [`Self::serve`], with answers that take their time.
    pub fn serve_slowly(&self, url: &str, tools: Vec<Tool>, answer: Answer) {
        let script = Script {
            failures: VecDeque::new(),
            tools: Ok(tools),
            answer,
        };
        self.with(|state| state.servers.insert(url.to_owned(), script));
    }

    /// The next connection to this server fails like that; several add up.
    ///
    /// # Panics
    /// When there is no such server.
    pub fn fail_next(&self, url: &str, failure: Failure) {
        self.with(|state| {
            let script = state.servers.get_mut(url).expect("a server");
            script.failures.push_back(failure);
        });
    }

    /// From now on this server lists these tools, or fails to list any.
    ///
    /// # Panics
    /// When there is no such server.
    pub fn list(&self, url: &str, tools: Result<Vec<Tool>, Failure>) {
        self.with(|state| state.servers.get_mut(url).expect("a server").tools = tools);
    }

    /// All calls so far, in the order of their arrival.
    pub fn calls(&self) -> Vec<Call> {
        self.with(|state| state.calls.clone())
    }

    /// All attempts to connect so far.
    pub fn connected(&self) -> Vec<(Caller, Server)> {
        self.with(|state| state.connected.clone())
    }

    /// How many connections have been closed.
    pub fn closed(&self) -> usize {
        self.with(|state| state.closed)
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Connector for Scripted {
    async fn connect(
        &self,
        caller: &Caller,
        server: &Server,
    ) -> Result<Arc<dyn Connection>, Failure> {
        self.with(|state| {
            state.connected.push((caller.clone(), server.clone()));
            let script = state.servers.get_mut(&server.url);
            let script = script.ok_or_else(|| Failure::Connection {
                reason: "nobody answers".to_owned(),
            })?;
            script.failures.pop_front().map_or(Ok(()), Err)
        })?;
        Ok(Arc::new(Open {
            script: self.clone(),
            caller: caller.clone(),
            url: server.url.clone(),
        }))
    }
}

struct Open {
    script: Scripted,
    caller: Caller,
    url: String,
}

#[async_trait]
impl Connection for Open {
    async fn tools(&self) -> Result<Vec<Tool>, Failure> {
        self.script
            .with(|state| state.servers[&self.url].tools.clone())
    }

    async fn call(
        &self,
        name: &str,
        input: &Map<String, Value>,
        _within: Duration,
    ) -> Result<Output, Failure> {
        let answer = self.script.with(|state| {
            state.calls.push(Call {
                caller: self.caller.clone(),
                url: self.url.clone(),
                name: name.to_owned(),
                input: input.clone(),
            });
            Arc::clone(&state.servers[&self.url].answer)
        });
        // Outside the lock: an answer may look at what has been called.
        answer(name.to_owned(), input.clone()).await
    }

    async fn close(&self) {
        self.script.with(|state| state.closed += 1);
    }
}
