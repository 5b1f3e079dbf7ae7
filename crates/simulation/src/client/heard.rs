//! What a client hears of a session on one stream, which it takes up again where it ended, at whichever server.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures::StreamExt;
use sse_stream::SseStream;
use tokio::sync::{Notify, watch};

use crate::frames::{Frame, RECONNECTED};
use crate::model::lock;
use crate::world::{Stream, World};

/// All frames so far.
pub(crate) struct Heard {
    pub(crate) frames: Mutex<Vec<Frame>>,
    /// How many there are.
    pub(crate) count: watch::Sender<usize>,
    /// Whether the session's deletion was told, or found when the stream was to be taken up again.
    pub(crate) deleted: watch::Sender<bool>,
    /// Whether the stream ended before it could tell: the server did.
    pub(crate) missed: AtomicBool,
    /// What the stream was refused with, though nothing is wrong with it.
    pub(crate) refused: Mutex<Option<String>>,
    /// Told when the connection is to be broken off.
    cut: Notify,
}

impl Heard {
    /// Begins to listen to a session that has just been made. Ends with the session, or with its listener.
    pub(crate) fn listen(world: &Arc<World>, session: &str) -> Arc<Self> {
        let heard = Arc::new(Self {
            frames: Mutex::default(),
            count: watch::Sender::new(0),
            deleted: watch::Sender::new(false),
            missed: AtomicBool::new(false),
            refused: Mutex::default(),
            cut: Notify::new(),
        });
        let (world, session) = (Arc::clone(world), session.to_owned());
        let listener = Arc::downgrade(&heard);
        tokio::spawn(async move {
            while connect(&world, &session, &listener).await {
                tokio::time::sleep(Duration::from_millis(world.random(300))).await;
            }
        });
        heard
    }

    /// Breaks the connection off; it is taken up again.
    pub(crate) fn reconnect(&self) {
        self.cut.notify_waiters();
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
        let mut positions = frames.iter().rev().filter_map(|frame| frame.position);
        positions.next().unwrap_or(0)
    }

    /// The session's last status event; `None` before the first.
    pub(crate) fn status(&self) -> Option<String> {
        let frames = lock(&self.frames);
        let status = |frame: &&Frame| frame.name.starts_with("session.status_");
        let last = frames.iter().rev().find(status);
        last.map(|frame| frame.name.clone())
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
}

/// Listens on one connection. Returns whether to connect again.
async fn connect(world: &Arc<World>, session: &str, heard: &Weak<Heard>) -> bool {
    let Some(here) = heard.upgrade() else {
        return false;
    };
    let (body, fate) = match world.stream(session, here.position()).await {
        Some(Stream::Open(body, fate)) => (body, fate),
        Some(Stream::NoSession) => {
            here.missed.store(true, Ordering::SeqCst);
            here.deleted.send_replace(true);
            return false;
        }
        Some(Stream::Refused(status)) => {
            *lock(&here.refused) = Some(status.to_string());
            return false;
        }
        None => return true,
    };
    here.push(Frame::mark(RECONNECTED));
    drop(here);
    let mut frames = SseStream::new(body);
    loop {
        let Some(here) = heard.upgrade() else {
            return false;
        };
        let frame = tokio::select! {
            biased;
            () = fate.died() => None,
            () = here.cut.notified() => None,
            frame = frames.next() => frame,
        };
        let Some(Ok(frame)) = frame else { return true };
        let Some(frame) = Frame::read(frame) else {
            continue;
        };
        world.note(
            "hears",
            &format!("{session} {:?} {}", frame.position, frame.text),
        );
        if frame.name == "error" {
            return true;
        }
        here.push(frame);
        if *here.deleted.borrow() {
            return false;
        }
    }
}
