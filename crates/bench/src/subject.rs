//! The measured server: the release binary, its model stub, an agent and an environment.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use futures::stream;
use hyper::Method;
use manyhands_testkit::daemon::Daemon;
use manyhands_testkit::http::{Answer, Connection};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stub::Stub;
use crate::tail::{Name, Tail};

/// The model the agents ask for; with a key set it goes to the stub.
pub(crate) const MODEL: &str = "claude-haiku-4-5";

/// How long one turn may take before the row counts as failed.
const TURN_LIMIT: Duration = Duration::from_secs(60);

/// Where the programs are and where data goes.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// The server's program.
    pub(crate) server: PathBuf,
    /// The stub's program.
    pub(crate) stub: PathBuf,
    /// A folder on the disk to be measured.
    pub(crate) folder: PathBuf,
}

/// A running server and what is needed to have turns with it.
pub(crate) struct Subject {
    /// The server.
    pub(crate) daemon: Daemon,
    /// Its model.
    pub(crate) stub: Stub,
    agent: String,
    environment: String,
    _folder: TempDir,
}

impl Subject {
    /// Starts a stub in this mode (`text`, `bash`, `silent`) and a server on a fresh data directory.
    pub(crate) async fn start(setup: &Setup, stub_mode: &str) -> Result<Self> {
        Self::start_with(setup, &["--mode", stub_mode]).await
    }

    /// The same with these flags for the stub.
    pub(crate) async fn start_with(setup: &Setup, stub_flags: &[&str]) -> Result<Self> {
        Self::start_as(setup, stub_flags, "", json!({"name": "bench"})).await
    }

    /// The same with these settings of the server and this environment.
    pub(crate) async fn start_as(
        setup: &Setup,
        stub_flags: &[&str],
        settings: &str,
        environment: Value,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("manyhands-bench-")
            .tempdir_in(&setup.folder)?;
        let stub = Stub::start(&setup.stub, stub_flags).await?;
        let file = folder.path().join("manyhands.toml");
        std::fs::write(&file, settings)?;
        let daemon = Daemon::builder()
            .arg("--config")
            .arg(file.to_str().context("a path that is text")?)
            .binary(&setup.server)
            .data_dir(folder.path().join("data"))
            .model(stub.url())
            .try_start()
            .await
            .map_err(|failed| anyhow::anyhow!("{failed}"))?;
        let client = daemon.client();
        let agent = json!({
            "name": "bench",
            "model": MODEL,
            "system": "You are a helpful agent.",
            "tools": [{"type": "agent_toolset_20260401"}],
        });
        let agent = id_of(&client.try_post("/v1/agents", &agent).await?)?;
        let environment = id_of(&client.try_post("/v1/environments", &environment).await?)?;
        Ok(Self {
            daemon,
            stub,
            agent,
            environment,
            _folder: folder,
        })
    }

    /// A kept-alive connection with the server's key.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        Ok(self.daemon.client().connect().await?)
    }

    /// Creates one session over this connection; returns its id.
    pub(crate) async fn create_session(&self, connection: &mut Connection) -> Result<String> {
        self.create_session_with(connection, &json!([])).await
    }

    async fn create_session_with(
        &self,
        connection: &mut Connection,
        resources: &Value,
    ) -> Result<String> {
        let body = json!({
            "agent": self.agent,
            "environment_id": self.environment,
            "resources": resources,
        });
        let body = body.to_string();
        id_of(&connection.send(Method::POST, "/v1/sessions", body).await?)
    }

    /// Creates many sessions over a few connections at once.
    pub(crate) async fn create_sessions(&self, count: usize) -> Result<Vec<String>> {
        const CONNECTIONS: usize = 16;
        let shares = (0..CONNECTIONS).map(|index| async move {
            let mut connection = self.connect().await?;
            let mut ids = vec![];
            for _ in (index..count).step_by(CONNECTIONS) {
                ids.push(self.create_session(&mut connection).await?);
            }
            Ok::<_, anyhow::Error>(ids)
        });
        Ok(futures::future::try_join_all(shares).await?.concat())
    }

    /// Opens a new session for turns.
    pub(crate) async fn open_chat(&self) -> Result<Chat> {
        self.open_chat_with(&json!([])).await
    }

    /// The same for a session with these resources.
    pub(crate) async fn open_chat_with(&self, resources: &Value) -> Result<Chat> {
        let mut connection = self.connect().await?;
        let session = self.create_session_with(&mut connection, resources).await?;
        let tail = self.open_stream(&session).await?;
        Ok(Chat {
            events: format!("/v1/sessions/{session}/events"),
            session,
            connection,
            tail,
        })
    }

    /// Opens `count` chats, a few at once.
    pub(crate) async fn open_chats(&self, count: usize) -> Result<Vec<Chat>> {
        let opening = stream::iter((0..count).map(|_| self.open_chat())).buffer_unordered(16);
        let chats: Vec<Result<Chat>> = opening.collect().await;
        chats.into_iter().collect()
    }

    /// Opens the stream of a session, with deltas of messages.
    pub(crate) async fn open_stream(&self, session: &str) -> Result<Tail> {
        let path = format!("/v1/sessions/{session}/events/stream?event_deltas[]=agent.message");
        let mut connection = self.connect().await?;
        let answer = connection.begin(Method::GET, &path, "").await?;
        ensure!(answer.status() == 200, "{path}: {}", answer.status());
        Ok(Tail::new(answer.into_body()))
    }

    /// Deletes a session, with its sandbox.
    pub(crate) async fn delete(&self, chat: &Chat) -> Result<()> {
        let path = format!("/v1/sessions/{}", chat.session);
        let answer = self.daemon.client().send(Method::DELETE, &path, "").await?;
        ensure!(answer.status == 200, "{path}: {answer}");
        Ok(())
    }

    /// All events of a session.
    pub(crate) async fn events(&self, chat: &Chat) -> Result<Vec<Value>> {
        let answer = self
            .daemon
            .client()
            .send(Method::GET, &chat.events, "")
            .await?;
        let mut body: Value = serde_json::from_slice(&answer.body)?;
        let events = body["data"].as_array_mut().map(std::mem::take);
        events.with_context(|| format!("{}: {answer}", chat.events))
    }
}

/// A session with its stream open.
pub(crate) struct Chat {
    session: String,
    events: String,
    connection: Connection,
    tail: Tail,
}

/// How long a turn took from before the send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// To the first token of a message.
    pub(crate) first_token: Duration,
    /// To `session.status_idle`.
    pub(crate) whole: Duration,
}

impl Chat {
    /// The session's id.
    pub(crate) fn session(&self) -> &str {
        &self.session
    }

    /// Sends a message and follows the stream until the session rests.
    pub(crate) async fn turn(&mut self, text: &str) -> Result<Turn> {
        let body = json!({"events": [user_message(text)]}).to_string();
        self.turn_of(body.into()).await
    }

    async fn run_turn(&mut self, body: bytes::Bytes) -> Result<Turn> {
        let started = Instant::now();
        let send = send(&mut self.connection, &self.events, body);
        let follow = async {
            self.tail.until(Name::Delta).await?;
            let first_token = started.elapsed();
            self.tail.until(Name::Idle).await?;
            let whole = started.elapsed();
            Ok(Turn { first_token, whole })
        };
        let ((), turn) = tokio::try_join!(send, follow)?;
        Ok(turn)
    }

    /// The same for a turn that may take so long.
    pub(crate) async fn turn_within(&mut self, limit: Duration, text: &str) -> Result<Turn> {
        let body = json!({"events": [user_message(text)]}).to_string();
        let turn = tokio::time::timeout(limit, self.run_turn(body.into())).await;
        turn.context("a turn did not end")?
    }

    /// Sends events and follows the stream until the session rests.
    pub(crate) async fn turn_of(&mut self, body: bytes::Bytes) -> Result<Turn> {
        let turn = tokio::time::timeout(TURN_LIMIT, self.run_turn(body)).await;
        turn.context("a turn did not end")?
    }

    /// Opens the session's stream anew, such as after a restart.
    pub(crate) async fn reopen(&mut self, subject: &Subject) -> Result<()> {
        self.connection = subject.connect().await?;
        self.tail = subject.open_stream(&self.session).await?;
        Ok(())
    }

    /// A page of the session's events, and how to ask for the next.
    pub(crate) async fn page(&mut self, query: &str) -> Result<Page> {
        let path = format!("{}?{query}", self.events);
        let answer = self.connection.send(Method::GET, &path, "").await?;
        ensure!(answer.status == 200, "{answer}");
        Ok(serde_json::from_slice(&answer.body)?)
    }

    /// Sends events without waiting for what comes of them.
    pub(crate) async fn append(&mut self, body: bytes::Bytes) -> Result<()> {
        send(&mut self.connection, &self.events, body).await
    }
}

async fn send(connection: &mut Connection, events: &str, body: bytes::Bytes) -> Result<()> {
    let sent = connection.send(Method::POST, events, body).await?;
    ensure!(sent.status == 200, "{sent}");
    Ok(())
}

/// A page of a list of events.
#[derive(serde::Deserialize)]
pub(crate) struct Page {
    /// The events.
    pub(crate) data: Vec<Listed>,
    /// The cursor of the page behind it.
    pub(crate) next_page: Option<String>,
}

/// What is read of an event.
#[derive(serde::Deserialize)]
pub(crate) struct Listed {
    /// Its type.
    #[serde(rename = "type")]
    pub(crate) kind: String,
}

/// A `user.message` of one text block.
pub(crate) fn user_message(text: &str) -> Value {
    json!({"type": "user.message", "content": [{"type": "text", "text": text}]})
}

/// The id in an answer.
pub(crate) fn id_of(answer: &Answer) -> Result<String> {
    ensure!(answer.status == 200, "{answer}");
    let body: Value = serde_json::from_slice(&answer.body)?;
    let id = body["id"].as_str();
    Ok(id.with_context(|| format!("no id: {answer}"))?.to_owned())
}
