//! Deltas of the model → previews on open streams, held back until the span start is durable (runtime ST-9 to ST-12).
//!
//! Consecutive text blocks are one `agent.message`, each thinking block is one `agent.thinking`; their ids are made
//! here and used again for the stored events (runtime ST-10). Blank text is no message: it is held until more comes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use manyhands_protocol::content::ContentBlock;
use manyhands_protocol::event::{Preview, PreviewDelta, PreviewKind, PreviewedEvent};
use manyhands_protocol::{EventId, SessionId};
use manyhands_store::Store;
use tokio::time::Instant;

use crate::activity::Activity;
use crate::models::{BlockKind, Delta, Sink, Usage};

/// Ids that previews announced, by the place of the first block of the event.
pub(crate) type Announced = BTreeMap<usize, EventId>;

/// Both ends of the previews of one model request. Clones share everything.
#[derive(Clone)]
pub(crate) struct Previews(Arc<Mutex<State>>);

struct State {
    store: Store,
    session: SessionId,
    activity: Arc<Activity>,
    /// Whether anybody may see what comes.
    shown: bool,
    /// `Some` until the span start is durable.
    held: Option<Vec<Preview>>,
    run: Option<Run>,
    announced: Announced,
    usage: Usage,
    asked: Instant,
    answered: bool,
}

/// Consecutive text blocks: one message in the making.
struct Run {
    first: usize,
    id: Option<EventId>,
    /// Blocks of the message so far.
    blocks: u32,
    /// Blank text of the current block, until other text follows; `None` once it did.
    blank: Option<String>,
}

impl Previews {
    /// Previews of a request that is being sent now; what comes counts as progress of the activity.
    pub(crate) fn new(store: Store, session: SessionId, activity: Arc<Activity>) -> Self {
        Self::of(store, session, activity, true)
    }

    /// As [`new`](Self::new), for a request whose answer is not for clients: nothing is shown.
    pub(crate) fn hidden(store: Store, session: SessionId, activity: Arc<Activity>) -> Self {
        Self::of(store, session, activity, false)
    }

    fn of(store: Store, session: SessionId, activity: Arc<Activity>, shown: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            store,
            session,
            activity,
            shown,
            held: Some(Vec::new()),
            run: None,
            announced: BTreeMap::new(),
            usage: Usage::default(),
            asked: Instant::now(),
            answered: false,
        })))
    }

    /// The span start is durable: shows what was held back, and all that follows at once.
    pub(crate) fn open(&self) {
        let mut state = self.lock();
        for preview in state.held.take().unwrap_or_default() {
            state.store.preview(&state.session, preview);
        }
    }

    /// The ids that were announced.
    pub(crate) fn announced(&self) -> Announced {
        self.lock().announced.clone()
    }

    /// How long ago the model was asked.
    pub(crate) fn elapsed(&self) -> Duration {
        self.lock().asked.elapsed()
    }

    /// What the request used so far.
    pub(crate) fn usage(&self) -> Usage {
        self.lock().usage
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Previews {
    fn delta(&mut self, delta: Delta<'_>) {
        let mut state = self.lock();
        state.activity.progress();
        state.delta(delta);
    }

    fn alive(&mut self) {
        self.lock().activity.progress();
    }
}

impl State {
    fn delta(&mut self, delta: Delta<'_>) {
        match delta {
            Delta::Usage(usage) => self.usage = usage,
            Delta::Start { index, kind } => {
                if !self.answered {
                    self.answered = true;
                    metrics::histogram!("manyhands_model_first_token_seconds")
                        .record(self.asked.elapsed().as_secs_f64());
                }
                if self.shown {
                    self.start(index, kind);
                }
            }
            Delta::Text { text, .. } => self.text(text),
        }
    }

    fn start(&mut self, index: usize, kind: BlockKind) {
        if kind != BlockKind::Text {
            self.run = None;
            if kind == BlockKind::Thinking {
                self.announce(index, PreviewKind::AgentThinking);
            }
            return;
        }
        let run = self.run.get_or_insert(Run {
            first: index,
            id: None,
            blocks: 0,
            blank: None,
        });
        run.blank = Some(String::new());
    }

    fn text(&mut self, text: &str) {
        let Some(mut run) = self.run.take() else {
            return;
        };
        let fragment = match run.blank.take() {
            None => text.to_owned(),
            Some(mut blank) => {
                blank.push_str(text);
                if blank.trim().is_empty() {
                    run.blank = Some(blank);
                    self.run = Some(run);
                    return;
                }
                run.blocks += 1;
                blank
            }
        };
        let id = match run.id.take() {
            Some(id) => id,
            None => self.announce(run.first, PreviewKind::AgentMessage),
        };
        self.show(Preview::EventDelta {
            event_id: id.clone(),
            delta: PreviewDelta::ContentDelta {
                index: run.blocks - 1,
                content: ContentBlock::text(fragment),
            },
        });
        run.id = Some(id);
        self.run = Some(run);
    }

    fn announce(&mut self, index: usize, kind: PreviewKind) -> EventId {
        let id = EventId::generate();
        self.announced.insert(index, id.clone());
        self.show(Preview::EventStart {
            event: PreviewedEvent {
                kind,
                id: id.clone(),
            },
        });
        id
    }

    fn show(&mut self, preview: Preview) {
        match &mut self.held {
            Some(held) => held.push(preview),
            None if self.store.has_listeners(&self.session) => {
                self.store.preview(&self.session, preview);
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use manyhands_protocol::time::{Clock as _, SystemClock};
    use manyhands_store::{Config, Database, TailItem};

    use super::*;

    fn text(index: usize, text: &str) -> Delta<'_> {
        Delta::Text { index, text }
    }

    fn start(index: usize, kind: BlockKind) -> Delta<'static> {
        Delta::Start { index, kind }
    }

    #[tokio::test]
    async fn sq_4_previews_wait_for_the_start_of_their_span_and_keep_their_order() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(Config {
            database: Database::Sqlite {
                directory: directory.path().to_owned(),
            },
            clock: Arc::new(SystemClock),
            replica: Default::default(),
        })
        .await
        .unwrap();
        let session = SessionId::generate();
        let mut tail = store.subscribe(&session);
        let activity = Arc::new(Activity::new(SystemClock.now()));
        let previews = Previews::new(store.clone(), session, activity);
        let mut sink = previews.clone();
        for delta in [
            start(0, BlockKind::Thinking),
            start(1, BlockKind::Text),
            text(1, " \n"),
            text(1, "One"),
            start(2, BlockKind::Text),
            text(2, "two"),
            start(3, BlockKind::ToolUse),
            start(4, BlockKind::Text),
            text(4, "\n"),
        ] {
            sink.delta(delta);
        }
        assert!(tail.recv().now_or_never().is_none(), "nothing is shown yet");
        previews.open();
        sink.delta(start(5, BlockKind::Text));
        sink.delta(text(5, "three"));
        let mut heard = Vec::new();
        while let Some(Some(TailItem::Preview(preview))) = tail.recv().now_or_never() {
            heard.push(match &*preview {
                Preview::EventStart { event } => format!("{:?}", event.kind),
                Preview::EventDelta { delta, .. } => {
                    let PreviewDelta::ContentDelta { index, content } = delta;
                    let ContentBlock::Text { text } = content else {
                        panic!("{content:?}")
                    };
                    format!("{index} {text:?}")
                }
            });
        }
        assert_eq!(
            heard,
            [
                "AgentThinking",
                "AgentMessage",
                "0 \" \\nOne\"",
                "1 \"two\"",
                "AgentMessage",
                "0 \"three\"",
            ]
        );
        let announced: Vec<usize> = previews.announced().into_keys().collect();
        assert_eq!(announced, [0, 1, 4], "by the first block of the event");
        store.close().await;
    }
}
