//! One server on behalf of one caller.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::Rng as _;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use crate::door::Keys;
use crate::fault::Fault;
use crate::handshake::{self, Memory};
use crate::link::{Link, Manner};
use crate::mirror::Parameter;
use crate::{Connection, Failure, Output, Settings, Tool, content, listing};

/// How often a handshake or a page is asked for again, and the first wait, which doubles.
const RETRIES: u32 = 2;
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// What a list may have.
const PAGES: usize = 50;
const TOOLS: usize = 1_000;
/// Rounds in which a server may ask for more before it runs a call.
const ROUNDS: usize = 5;
/// The server wants headers that repeat parameters, and they are not those of its list.
const HEADER_MISMATCH: i64 = -32020;
const METHOD_NOT_FOUND: i64 = -32601;

/// A client of one server.
pub(crate) struct Client {
    keys: Keys,
    url: Url,
    settings: Settings,
    memory: Mutex<Memory>,
    /// Who has it and has not closed it.
    users: AtomicUsize,
    /// The open conversation. Held while one is opened, so that there is one.
    link: tokio::sync::Mutex<Option<Arc<Link>>>,
    /// The parameters that headers repeat, by tool.
    parameters: Mutex<HashMap<String, Vec<Parameter>>>,
}

impl Client {
    pub(crate) fn new(keys: Keys, url: Url, settings: Settings, memory: Memory) -> Self {
        Self {
            keys,
            url,
            settings,
            memory: Mutex::new(memory),
            users: AtomicUsize::new(0),
            link: tokio::sync::Mutex::default(),
            parameters: Mutex::default(),
        }
    }

    /// The open conversation, or a new one.
    pub(crate) async fn link(&self) -> Result<Arc<Link>, Fault> {
        let mut open = self.link.lock().await;
        if let Some(link) = &*open {
            return Ok(Arc::clone(link));
        }
        let limit = self.settings.connect;
        let bytes = (self.settings.page_bytes, self.settings.answer_bytes);
        let work = patiently(|| async {
            let memory = *self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            handshake::open(&self.keys, &self.url, memory, bytes, limit / 2).await
        });
        let opened = timeout(limit, work).await;
        let opened = opened
            .unwrap_or_else(|_| Err(Fault::Unsent(late("has not agreed how to speak", limit))));
        let known = match &opened {
            Ok(link) if link.manner == Manner::Greeted => Memory::Greets,
            _ => Memory::None,
        };
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = known;
        let link = Arc::new(opened?);
        *open = Some(Arc::clone(&link));
        Ok(link)
    }

    /// One more uses it.
    pub(crate) fn join(&self) {
        self.users.fetch_add(1, Ordering::AcqRel);
    }

    /// One uses it no more; whether nobody is left.
    pub(crate) fn leave(&self) -> bool {
        self.users.fetch_sub(1, Ordering::AcqRel) == 1
    }

    pub(crate) fn memory(&self) -> Memory {
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next one to ask opens a new conversation.
    async fn forget(&self, link: &Arc<Link>) {
        let mut open = self.link.lock().await;
        if open.as_ref().is_some_and(|open| Arc::ptr_eq(open, link)) {
            *open = None;
        }
    }

    async fn list(&self) -> Result<Vec<Tool>, Fault> {
        let (mut tools, mut names, mut parameters) = (Vec::new(), HashSet::new(), HashMap::new());
        let mut cursors: HashSet<String> = HashSet::new();
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES {
            let mut params = Map::new();
            if let Some(cursor) = &cursor {
                params.insert("cursor".to_owned(), Value::String(cursor.clone()));
            }
            let page = patiently(|| async {
                let link = self.link().await.map_err(Fault::settled)?;
                let asked = link
                    .ask(
                        "tools/list",
                        params.clone(),
                        None,
                        &[],
                        self.settings.page_bytes,
                    )
                    .await;
                if matches!(
                    asked,
                    Err(Fault::Forgotten | Fault::Refused { status: 400, .. })
                ) {
                    self.forget(&link).await;
                }
                // Some servers say 400 of a conversation that they have forgotten. A list may be asked for twice.
                match asked {
                    Err(Fault::Refused {
                        status: 400,
                        reason,
                    }) if link.manner == Manner::Greeted => Err(Fault::Lost(reason)),
                    asked => Ok((link.manner, asked?)),
                }
            });
            let (manner, result) = match page.await {
                // A server without tools.
                Err(Fault::Rpc(error)) if error.code == METHOD_NOT_FOUND && cursor.is_none() => {
                    break;
                }
                page => page?,
            };
            let page = listing::page(result, &mut names, manner == Manner::Stateless);
            let page = page.map_err(|reason| Fault::Barred(reason.to_owned()))?;
            for left_out in page.left_out {
                tracing::warn!(url = %shown(&self.url), tool = left_out, "a tool of an MCP server is not offered");
            }
            for (tool, marked) in page.tools {
                if tools.len() == TOOLS {
                    return Err(Fault::Barred(format!(
                        "the server lists more than {TOOLS} tools"
                    )));
                }
                if !marked.is_empty() {
                    parameters.insert(tool.name.clone(), marked);
                }
                tools.push(tool);
            }
            cursor = page.next;
            match &cursor {
                None => break,
                Some(cursor) if !cursors.insert(cursor.clone()) => {
                    return Err(Fault::Barred(
                        "the server's list of tools goes round in circles".to_owned(),
                    ));
                }
                Some(_) => {}
            }
        }
        if cursor.is_some() {
            return Err(Fault::Barred(format!(
                "the server's list of tools has more than {PAGES} pages"
            )));
        }
        *self
            .parameters
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = parameters;
        Ok(tools)
    }

    /// Makes the call once; again only where the server has said that it did nothing.
    async fn run(
        &self,
        name: &str,
        input: &Map<String, Value>,
        deadline: Instant,
    ) -> Result<Output, Failure> {
        let mut params = Map::new();
        params.insert("name".to_owned(), json!(name));
        params.insert("arguments".to_owned(), Value::Object(input.clone()));
        let (mut has_forgotten, mut has_listed) = (false, false);
        let mut rounds = 0;
        loop {
            // Until there is a conversation nothing has reached the server.
            let link = timeout_at(deadline, self.link()).await;
            let link = link.map_err(|_| Failure::Connection {
                reason: "the time of the call went by before it was sent".to_owned(),
            })?;
            let link = link.map_err(Fault::of_greeting)?;
            let parameters = self
                .parameters
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(name)
                .cloned();
            let parameters = parameters.unwrap_or_default();
            let asked = link.ask(
                "tools/call",
                params.clone(),
                Some(name),
                &parameters,
                self.settings.answer_bytes,
            );
            match asked.await {
                Err(Fault::Forgotten) if !has_forgotten => {
                    has_forgotten = true;
                    self.forget(&link).await;
                }
                Err(Fault::Rpc(error)) if error.code == HEADER_MISMATCH && !has_listed => {
                    has_listed = true;
                    let listed = timeout_at(deadline, self.list()).await;
                    listed
                        .unwrap_or(Ok(Vec::new()))
                        .map_err(Fault::of_greeting)?;
                }
                Err(Fault::Rpc(error)) => {
                    return Ok(content::error(format!(
                        "error {} of the MCP server: {}",
                        error.code, error.message
                    )));
                }
                Err(fault) => {
                    if matches!(fault, Fault::Refused { .. } | Fault::Lost(_)) {
                        self.forget(&link).await;
                    }
                    return Err(fault.of_calling());
                }
                Ok(result) => match more(&result, &mut params) {
                    More::Nothing => return Ok(content::output(result)),
                    More::Round if rounds < ROUNDS => rounds += 1,
                    More::Round | More::Refused => {
                        let text =
                            "the tool wants more than its input, and this client cannot give it";
                        return Ok(content::error(text.to_owned()));
                    }
                },
            }
        }
    }
}

#[async_trait]
impl Connection for Client {
    async fn tools(&self) -> Result<Vec<Tool>, Failure> {
        let limit = self.settings.list;
        let listed = timeout(limit, self.list()).await;
        let listed =
            listed.unwrap_or_else(|_| Err(Fault::Unsent(late("has not listed its tools", limit))));
        listed.map_err(Fault::of_asking)
    }

    async fn call(
        &self,
        name: &str,
        input: &Map<String, Value>,
        within: Duration,
    ) -> Result<Output, Failure> {
        let limit = within.min(self.settings.call);
        let deadline = Instant::now() + limit;
        // A deadline that passes before there is a conversation is seen inside first.
        let ran = timeout_at(deadline, self.run(name, input, deadline)).await;
        ran.unwrap_or_else(|_| {
            Err(Failure::Unknown {
                reason: late("has not answered", limit),
            })
        })
    }

    async fn close(&self) {
        let link = {
            let mut open = self.link.lock().await;
            // Whoever has come meanwhile has joined before asking for the conversation.
            if self.users.load(Ordering::Acquire) > 0 {
                return;
            }
            open.take()
        };
        if let Some(link) = link {
            link.close().await;
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Without a runtime the process ends, and the server forgets us in its own time.
        if let Some(link) = self.link.get_mut().take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { link.close().await });
        }
    }
}

/// What a server wants before it has an answer (protocol 2026-07-28).
enum More {
    Nothing,
    /// The same call again, with what is now in its parameters. It has not run.
    Round,
    Refused,
}

/// Questions to a human are declined; all else we have not offered.
fn more(result: &Value, params: &mut Map<String, Value>) -> More {
    match result.get("resultType").and_then(Value::as_str) {
        None | Some("complete") => return More::Nothing,
        Some("input_required") => {}
        Some(_) => return More::Refused,
    }
    params.remove("inputResponses");
    params.remove("requestState");
    let mut answers = Map::new();
    for (key, asked) in result
        .get("inputRequests")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if asked.get("method").and_then(Value::as_str) != Some("elicitation/create") {
            return More::Refused;
        }
        answers.insert(key.clone(), json!({"action": "decline"}));
    }
    if !answers.is_empty() {
        params.insert("inputResponses".to_owned(), Value::Object(answers));
    }
    if let Some(state) = result.get("requestState") {
        params.insert("requestState".to_owned(), state.clone());
    }
    More::Round
}

/// Asks again for what may be asked for twice, where that may help.
async fn patiently<T, F: Future<Output = Result<T, Fault>>>(
    mut ask: impl FnMut() -> F,
) -> Result<T, Fault> {
    let mut wait = FIRST_WAIT;
    for _ in 0..RETRIES {
        match ask().await {
            Err(fault) if fault.may_pass() => {
                let jitter = rand::rng().random_range(0.5..1.5);
                tokio::time::sleep(wait.mul_f64(jitter)).await;
                wait *= 2;
            }
            other => return other,
        }
    }
    ask().await
}

fn late(what: &str, limit: Duration) -> String {
    format!("the server {what} within {} s", limit.as_secs_f64())
}

/// Without what may be a credential.
fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}
