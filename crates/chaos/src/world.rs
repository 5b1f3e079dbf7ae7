//! One world: servers under fire, the model, the ledger, and the sessions that live in it.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hyper::Method;
use manyhands_protocol::time::{Clock, SystemClock, Timestamp};
use manyhands_testkit::http::Answer;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::check::Violation;
use crate::counts::Counts;
use crate::fleet::{self, Database, Fleet};
use crate::ledger::Ledger;
use crate::life::Life;
use crate::model::Model;
use crate::plan::CUSTOM_TOOL;

/// How long one request may take before it counts as a hanging server.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pause before a request to a server that was going away is made again.
const AGAIN: Duration = Duration::from_millis(10);

/// A world.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) fleet: Fleet,
    pub(crate) ledger: Ledger,
    pub(crate) model: Model,
    pub(crate) agents: Agents,
    /// The sessions that clients are at work with.
    pub(crate) lives: Mutex<Vec<Arc<Life>>>,
    /// What became of sessions that nobody works with any more.
    pub(crate) past: Mutex<Vec<Past>>,
    /// What was seen.
    pub(crate) counts: Mutex<Counts>,
    /// Whether clients are to come to an end.
    pub(crate) ending: watch::Sender<bool>,
    /// The first violation.
    broken: watch::Sender<Option<Violation>>,
    messages: AtomicU32,
}

/// What sessions are made of.
#[derive(Debug)]
pub(crate) struct Agents {
    /// Its `bash` runs at once.
    pub(crate) free: String,
    /// Its `bash` asks first.
    pub(crate) asking: String,
    pub(crate) environment: String,
}

/// A session that has had its last turn.
#[derive(Debug)]
pub(crate) enum Past {
    /// It is there and shows these events.
    Kept {
        session: String,
        archived: bool,
        listed: Vec<Value>,
    },
    /// Its deletion was acknowledged.
    Deleted { session: String },
}

/// Takes a lock that no panic can spoil: what it guards is only added to.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// Starts a world in this folder. `settings` are more lines of `manyhands.toml`; commands that have said their line
    /// are let go when the ledger is `open`.
    pub(crate) async fn start(
        program: &Path,
        database: Database,
        folder: &Path,
        settings: &str,
        open: bool,
    ) -> Result<Arc<Self>> {
        let ledger = Ledger::open(&folder.join("door"), open)?;
        let model = Model::start().await;
        let settings = format!("{settings}{}", ledger.setting());
        let fleet = Fleet::start(fleet::Plan {
            program,
            database,
            folder,
            model: &model.url(),
            settings: &settings,
        })
        .await?;
        let mut world = Self {
            fleet,
            ledger,
            model,
            agents: Agents {
                free: String::new(),
                asking: String::new(),
                environment: String::new(),
            },
            lives: Mutex::default(),
            past: Mutex::default(),
            counts: Mutex::default(),
            ending: watch::Sender::new(false),
            broken: watch::Sender::new(None),
            messages: AtomicU32::new(0),
        };
        world.agents = Agents {
            free: world.make("/v1/agents", &agent("always_allow")).await?,
            asking: world.make("/v1/agents", &agent("always_ask")).await?,
            environment: world
                .make("/v1/environments", &json!({"name": "chaos"}))
                .await?,
        };
        Ok(Arc::new(world))
    }

    async fn make(&self, path: &str, body: &Value) -> Result<String> {
        let answer = self.fleet.client(0).await.try_post(path, body).await?;
        ensure!(answer.status == 200, "{path}: {answer}");
        let made: Value = serde_json::from_slice(&answer.body)?;
        let id = made["id"].as_str().with_context(|| format!("{answer}"))?;
        Ok(id.to_owned())
    }

    /// The number of a new message.
    pub(crate) fn next_message(&self) -> u32 {
        self.messages.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The time by the machine's clock, which is the servers' as well.
    pub(crate) fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    /// Counts one of these.
    pub(crate) fn count(&self, name: &str) {
        lock(&self.counts).add(name, 1);
    }

    /// Something does not hold. The first such thing ends the world.
    pub(crate) fn violated(&self, violation: Violation) {
        self.broken.send_if_modified(|broken| {
            let first = broken.is_none();
            if first {
                *broken = Some(violation);
            }
            first
        });
    }

    /// The first violation, if there was one.
    pub(crate) fn violation(&self) -> Option<Violation> {
        self.broken.borrow().clone()
    }

    /// Returns when something does not hold.
    pub(crate) async fn breaks(&self) {
        // The sender lives in `self`.
        let _ = self.broken.subscribe().wait_for(Option::is_some).await;
    }

    /// Asks once, a server that is up. `None` when no whole answer came, or one that says that it was not the time:
    /// whether anything was done is then not known.
    pub(crate) async fn ask(
        &self,
        wish: usize,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Option<Answer>, Violation> {
        let client = self.fleet.client(wish).await;
        let body = body.map_or_else(String::new, Value::to_string);
        let answer = client.send(method.clone(), path, body);
        match tokio::time::timeout(PATIENCE, answer).await {
            Err(_) => Err(format!(
                "I8: {method} {path} had no answer within {PATIENCE:?}"
            )),
            Ok(Err(_)) => {
                tokio::time::sleep(AGAIN).await;
                Ok(None)
            }
            Ok(Ok(answer)) if matches!(answer.status, 503 | 529) => {
                tokio::time::sleep(AGAIN).await;
                Ok(None)
            }
            Ok(Ok(answer)) if answer.status >= 500 => {
                Err(format!("I9: {method} {path} was answered with {answer}"))
            }
            Ok(Ok(answer)) => Ok(Some(answer)),
        }
    }

    /// Asks until there is an answer.
    pub(crate) async fn insist(
        &self,
        wish: usize,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Violation> {
        loop {
            if let Some(answer) = self.ask(wish, method.clone(), path, body).await? {
                return Ok(answer);
            }
        }
    }

    /// All events of a session, or `None` when it is not there.
    pub(crate) async fn list(
        &self,
        wish: usize,
        session: &str,
    ) -> Result<Option<Vec<Value>>, Violation> {
        let mut events = vec![];
        let mut page = String::new();
        loop {
            let path = format!("/v1/sessions/{session}/events?limit=1000{page}");
            let answer = self.insist(wish, Method::GET, &path, None).await?;
            match answer.status {
                200 => {}
                404 => return Ok(None),
                _ => {
                    return Err(format!(
                        "I1: the list of {session} is answered with {answer}"
                    ));
                }
            }
            let mut body = answer.json();
            if let Some(data) = body["data"].as_array_mut() {
                events.append(data);
            }
            match body["next_page"].as_str() {
                Some(next) => page = format!("&page={next}"),
                None => return Ok(Some(events)),
            }
        }
    }
}

fn agent(bash: &str) -> Value {
    json!({
        "name": bash,
        "model": "claude-opus-4-8",
        "tools": [
            {
                "type": "agent_toolset_20260401",
                "configs": [{"name": "bash", "permission_policy": {"type": bash}}],
            },
            {
                "type": "custom",
                "name": CUSTOM_TOOL,
                "description": "Asks the client",
                "input_schema": {"type": "object", "properties": {"question": {"type": "string"}}},
            },
        ],
    })
}
