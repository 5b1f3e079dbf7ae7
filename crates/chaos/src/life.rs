//! One session and its client, which remembers every 2xx.

mod drive;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::sync::watch;

use crate::check::{self, Frame, Harm, Sent, Violation};
use crate::world::{World, lock};

pub(crate) use drive::live;

/// What the client of one session knows.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) session: String,
    /// The server that it asks when it is up.
    pub(crate) wish: usize,
    sent: Mutex<Vec<Sent>>,
    /// Which calls were agreed to: the first word counts, whether its answer came or not.
    agreed: Mutex<HashMap<String, bool>>,
    pub(crate) frames: Mutex<Vec<Frame>>,
    heard: watch::Sender<usize>,
    /// The last list.
    listed: Mutex<Vec<Value>>,
    harms: Mutex<Vec<Harm>>,
    /// Whether its deletion was asked for.
    ending: AtomicBool,
}

/// A call that waits for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    id: String,
    custom: bool,
}

impl Life {
    fn new(session: String, wish: usize) -> Self {
        Self {
            session,
            wish,
            sent: Mutex::default(),
            agreed: Mutex::default(),
            frames: Mutex::default(),
            heard: watch::Sender::new(0),
            listed: Mutex::default(),
            harms: Mutex::default(),
            ending: AtomicBool::new(false),
        }
    }

    /// Whether the session may be gone.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    /// Something of its sandbox is about to be killed.
    pub(crate) fn harm(&self, harm: Harm) {
        lock(&self.harms).push(harm);
    }

    /// The stream tells an event.
    pub(crate) fn hear(&self, frame: Frame) -> Result<(), Violation> {
        let mut frames = lock(&self.frames);
        if let Some(last) = frames.last()
            && last.position >= frame.position
        {
            return Err(format!(
                "I2: position {} was streamed behind {}: {}",
                frame.position, last.position, frame.data
            ));
        }
        frames.push(frame);
        self.heard.send_replace(frames.len());
        Ok(())
    }

    /// In which phase the session is, as far as its client knows.
    pub(crate) fn phase(&self) -> &'static str {
        let frames = lock(&self.frames);
        let mut kinds = frames.iter().rev().map(|frame| &frame.data);
        kinds.find_map(phase).unwrap_or("new")
    }

    /// What waits for the client, by what the stream has told.
    fn asked(&self) -> Vec<Asked> {
        let frames = lock(&self.frames);
        let mut asked: Vec<Asked> = vec![];
        for Frame { data, .. } in frames.iter() {
            let id = |member: &str| data[member].as_str().unwrap_or_default().to_owned();
            match data["type"].as_str().unwrap_or_default() {
                "agent.custom_tool_use" => asked.push(Asked {
                    id: id("id"),
                    custom: true,
                }),
                "agent.tool_use" if data["evaluated_permission"] == "ask" => asked.push(Asked {
                    id: id("id"),
                    custom: false,
                }),
                _ => {
                    let answered = [id("tool_use_id"), id("custom_tool_use_id")];
                    asked.retain(|asked| !answered.contains(&asked.id));
                }
            }
        }
        asked
    }

    /// Whether the stream's last word is that nothing happens before somebody acts.
    fn rests(&self) -> bool {
        let frames = lock(&self.frames);
        at_rest(frames.iter().rev().map(|frame| &frame.data))
    }

    /// After a recovery: what was acknowledged before it is there, and what was listed goes on.
    pub(crate) async fn look(&self, world: &World) -> Result<(), Violation> {
        let sent = lock(&self.sent).clone();
        let before = lock(&self.listed).clone();
        let Some(listed) = world.list(self.wish, &self.session).await? else {
            return match self.is_ending() {
                true => Ok(()),
                false => Err(format!("I1: the session {} is gone", self.session)),
            };
        };
        let looked = check::kept(&sent, &listed);
        let looked = looked.and_then(|()| check::goes_on(&before, &listed));
        if looked.is_err() && self.is_ending() {
            // Its log went while it was read.
            return Ok(());
        }
        looked?;
        let mut known = lock(&self.listed);
        // Somebody else may have looked later and been here before.
        if known.len() < listed.len() {
            *known = listed;
        }
        Ok(())
    }
}

/// Whether the last status, of events from the last to the first, is that nothing happens before somebody acts.
fn at_rest<'a>(mut events: impl Iterator<Item = &'a Value>) -> bool {
    let status = events.find(|event| {
        let kind = event["type"].as_str().unwrap_or_default();
        kind.starts_with("session.status_")
    });
    // A session to which nothing was said has no status yet.
    status.is_none_or(|event| {
        event["type"] == "session.status_idle" && event["stop_reason"]["type"] != "requires_action"
    })
}

/// What this event says about what comes next; `None` when it says nothing.
fn phase(event: &Value) -> Option<&'static str> {
    Some(match event["type"].as_str()? {
        "span.model_request_start" => "model",
        "agent.tool_use" => "tool",
        "agent.custom_tool_use" => "waiting",
        "agent.tool_result" | "user.custom_tool_result" => "result",
        "session.status_running" | "user.message" => "queued",
        "session.status_rescheduled" => "retrying",
        "user.interrupt" => "interrupt",
        "session.status_idle" if event["stop_reason"]["type"] == "requires_action" => "waiting",
        "session.status_idle" => "idle",
        _ => return None,
    })
}

/// Lets a world's sessions be looked at, all at once.
pub(crate) async fn look_at_all(world: &Arc<World>) -> Result<(), Violation> {
    let lives = lock(&world.lives).clone();
    let looks = lives.iter().map(|life| async move {
        let looked = life.look(world).await;
        looked.map_err(|violation| format!("{violation} (session {})", life.session))
    });
    futures::future::try_join_all(looks).await?;
    Ok(())
}
