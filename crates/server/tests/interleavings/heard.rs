//! What a client hears of a session on one stream, which it takes up again where it ended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use futures::StreamExt;
use manyhands_simulation::frames::Frame;
use sse_stream::SseStream;
use tokio::sync::watch;

use crate::model::lock;
use crate::world::World;

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
        let Some(frame) = Frame::read(frame) else {
            continue;
        };
        heard.push(frame);
        if *heard.deleted.borrow() {
            return false;
        }
    }
    true
}
