//! What a client hears of a session on one stream, which it takes up again where it ended, at whichever server.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::{Notify, watch};

use super::{Stream, Surroundings};
use crate::frames::{Frame, RECONNECTED};
use crate::model::lock;

/// All frames so far.
pub(super) struct Heard {
    pub(super) frames: Mutex<Vec<Frame>>,
    /// How many there are.
    pub(super) count: watch::Sender<usize>,
    /// Whether the session's deletion was told, or found when the stream was to be taken up again.
    pub(super) deleted: watch::Sender<bool>,
    /// Whether the stream ended before it could tell: the server did.
    pub(super) missed: AtomicBool,
    /// What the stream was refused with, though nothing is wrong with it.
    pub(super) refused: Mutex<Option<String>>,
    /// Told when the connection is to be broken off.
    cut: Notify,
}

impl Heard {
    /// Begins to listen to a session that has just been made. Ends with the session, its listener or their surroundings.
    pub(super) fn listen(around: &Arc<dyn Surroundings>, session: &str) -> Arc<Self> {
        let heard = Arc::new(Self {
            frames: Mutex::default(),
            count: watch::Sender::new(0),
            deleted: watch::Sender::new(false),
            missed: AtomicBool::new(false),
            refused: Mutex::default(),
            cut: Notify::new(),
        });
        let (around, session) = (Arc::downgrade(around), session.to_owned());
        let listener = Arc::downgrade(&heard);
        tokio::spawn(async move {
            while connect(&around, &session, &listener).await {
                let pause = around.upgrade().map_or(0, |around| around.random(300));
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        });
        heard
    }

    /// Breaks the connection off; it is taken up again.
    pub(super) fn reconnect(&self) {
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
    pub(super) fn status(&self) -> Option<String> {
        let frames = lock(&self.frames);
        let status = |frame: &&Frame| frame.name.starts_with("session.status_");
        let last = frames.iter().rev().find(status);
        last.map(|frame| frame.name.clone())
    }

    /// Whether nothing happens before somebody acts.
    pub(super) fn rests(&self) -> bool {
        let status = self.status();
        matches!(
            status.as_deref(),
            None | Some("session.status_idle" | "session.status_terminated")
        )
    }

    /// Where this event was heard first.
    pub(super) fn position_of(&self, id: &str) -> Option<i64> {
        let frames = lock(&self.frames);
        let first = frames.iter().find(|frame| frame.id() == id);
        first.and_then(|frame| frame.position)
    }
}

/// Listens on one connection. Returns whether to connect again.
async fn connect(around: &Weak<dyn Surroundings>, session: &str, heard: &Weak<Heard>) -> bool {
    let (Some(there), Some(here)) = (around.upgrade(), heard.upgrade()) else {
        return false;
    };
    let mut frames = match there.stream(session, here.position()).await {
        Some(Stream::Open(frames)) => frames,
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
    drop((there, here));
    loop {
        let Some(here) = heard.upgrade() else {
            return false;
        };
        let frame = tokio::select! {
            biased;
            () = here.cut.notified() => None,
            frame = frames.next() => frame,
        };
        let Some(frame) = frame else { return true };
        let Some(frame) = Frame::read(frame) else {
            continue;
        };
        if let Some(around) = around.upgrade() {
            around.note(
                "hears",
                &format!("{session} {:?} {}", frame.position, frame.text),
            );
        }
        if frame.name == "error" {
            return true;
        }
        here.push(frame);
        if *here.deleted.borrow() {
            return false;
        }
    }
}
