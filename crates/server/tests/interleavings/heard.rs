//! What a client hears of a session on one stream, which it takes up again where it ended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use futures::StreamExt;
use serde_json::Value;
use sse_stream::SseStream;
use tokio::sync::watch;

use crate::model::lock;
use crate::world::World;

/// One frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// The position, absent for previews.
    pub(crate) position: Option<i64>,
    /// Its `event:` line.
    pub(crate) name: String,
    /// Its data, byte for byte.
    pub(crate) text: String,
    /// The same, parsed.
    pub(crate) data: Value,
}

impl Frame {
    /// The event's id.
    pub(crate) fn id(&self) -> &str {
        self.data["id"].as_str().unwrap_or_default()
    }
}

/// All frames so far.
pub(crate) struct Heard {
    pub(crate) frames: Mutex<Vec<Frame>>,
    /// How many there are.
    pub(crate) count: watch::Sender<usize>,
    /// Whether the session's deletion was told, or found when the stream was to be taken up again.
    pub(crate) deleted: watch::Sender<bool>,
    /// Whether the stream ended before it could tell: the server did.
    pub(crate) missed: AtomicBool,
}

/// A call, as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// The tool-use event.
    pub(crate) id: String,
    /// Who answers it.
    pub(crate) kind: Asks,
    /// Whether there is an answer or a result.
    pub(crate) answered: bool,
}

/// What a call asks of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    /// A result.
    Result,
    /// A confirmation.
    Confirmation,
    /// Nothing.
    Nothing,
}

impl Heard {
    /// Begins to listen to a session that has just been made. Ends with the session, or with the world.
    pub(crate) fn listen(world: &Arc<World>, session: &str) -> Arc<Self> {
        let heard = Arc::new(Self {
            frames: Mutex::default(),
            count: watch::Sender::new(0),
            deleted: watch::Sender::new(false),
            missed: AtomicBool::new(false),
        });
        let (world, session) = (Arc::downgrade(world), session.to_owned());
        let listener = Arc::downgrade(&heard);
        tokio::spawn(async move { while connect(&world, &session, &listener).await {} });
        heard
    }

    fn push(&self, frame: Frame) {
        let deleted = frame.name == "session.deleted";
        lock(&self.frames).push(frame);
        self.count.send_modify(|count| *count += 1);
        if deleted {
            self.deleted.send_replace(true);
        }
    }

    fn position(&self) -> i64 {
        let frames = lock(&self.frames);
        frames
            .iter()
            .rev()
            .find_map(|frame| frame.position)
            .unwrap_or(0)
    }

    /// The session's last status event; `None` before the first.
    pub(crate) fn status(&self) -> Option<String> {
        let frames = lock(&self.frames);
        let status = |frame: &&Frame| frame.name.starts_with("session.status_");
        frames
            .iter()
            .rev()
            .find(status)
            .map(|frame| frame.name.clone())
    }

    /// Whether nothing happens before somebody acts.
    pub(crate) fn rests(&self) -> bool {
        let status = self.status();
        matches!(
            status.as_deref(),
            None | Some("session.status_idle" | "session.status_terminated")
        )
    }

    /// Where this event was heard first.
    pub(crate) fn position_of(&self, id: &str) -> Option<i64> {
        let frames = lock(&self.frames);
        let first = frames.iter().find(|frame| frame.id() == id);
        first.and_then(|frame| frame.position)
    }

    /// Whether this event was heard.
    pub(crate) fn has(&self, id: &str) -> bool {
        lock(&self.frames).iter().any(|frame| frame.id() == id)
    }

    /// All calls so far, in order.
    pub(crate) fn calls(&self) -> Vec<Call> {
        let mut calls: Vec<Call> = Vec::new();
        for frame in &*lock(&self.frames) {
            let data = &frame.data;
            let kind = match &*frame.name {
                "agent.custom_tool_use" => Asks::Result,
                "agent.tool_use" if data["evaluated_permission"] == "ask" => Asks::Confirmation,
                "agent.tool_use" => Asks::Nothing,
                _ => {
                    let names = ["tool_use_id", "custom_tool_use_id"];
                    let answers = names.iter().find_map(|name| data[*name].as_str());
                    if let Some(call) = calls.iter_mut().find(|call| Some(&*call.id) == answers) {
                        call.answered = true;
                    }
                    continue;
                }
            };
            calls.push(Call {
                id: frame.id().to_owned(),
                kind,
                answered: false,
            });
        }
        calls
    }
}

/// Listens on one connection. Returns whether to connect again.
async fn connect(world: &Weak<World>, session: &str, heard: &Weak<Heard>) -> bool {
    let (Some(world), Some(here)) = (world.upgrade(), heard.upgrade()) else {
        return false;
    };
    let body = world.stream(session, here.position()).await;
    drop(world);
    let Some(body) = body else {
        here.missed.store(true, Ordering::SeqCst);
        here.deleted.send_replace(true);
        return false;
    };
    drop(here);
    let mut frames = SseStream::new(body);
    while let Some(Ok(frame)) = frames.next().await {
        let Some(heard) = heard.upgrade() else {
            return false;
        };
        let name = frame.event.unwrap_or_default();
        let Some(text) = frame.data.filter(|_| name != "ping") else {
            continue;
        };
        heard.push(Frame {
            position: frame.id.and_then(|id| id.parse().ok()),
            data: serde_json::from_str(&text).unwrap_or_default(),
            name,
            text,
        });
        if *heard.deleted.borrow() {
            return false;
        }
    }
    true
}
