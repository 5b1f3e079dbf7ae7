//! SSE out: a session's log, read aloud from now on, or from `Last-Event-ID` (runtime §13, security STREAM-1, STREAM-2).
//!
//! The listener is attached before the answer's head goes out, so an event is on the stream, or in a list that is read
//! after the stream was opened, or both. A stream is pulled by its connection: what a slow reader leaves lying is
//! dropped here and read from the log when the reader comes back for it, except for previews, which then stop.

mod follow;

use std::collections::HashSet;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName};
use manyhands_protocol::event::PreviewKind;
use manyhands_protocol::time::SharedClock;
use manyhands_protocol::{SessionId, ThreadId, Timestamp};
use manyhands_store::{Store, Subscription, TailItem};
use tokio_util::sync::CancellationToken;

use crate::api::auth::Principal;
use crate::api::error::ApiError;
use crate::api::query::{Ids, Query};
use crate::api::sessions;
use crate::app::App;
use crate::listener::endless;
use follow::{Follow, Heard};

/// How long a stream may be silent. Clients give up after 600 s (api §1.7); proxies much earlier.
const SILENCE: Duration = Duration::from_secs(12);
const PING: &[u8] = b"event: ping\ndata: {\"type\":\"ping\"}\n\n";
/// How many entries are read from the log at once.
const PAGE: u32 = 100;

/// What a client wants from a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Events after this position of the log; absent means from now on.
    pub(crate) after: Option<i64>,
    /// Events to be previewed.
    pub(crate) previews: HashSet<PreviewKind>,
    /// Whether every frame is named `message`, for clients that drop names they do not know (runtime ST-4).
    pub(crate) legacy_names: bool,
}

impl Options {
    /// Reads `event_deltas[]` (runtime ST-8) and `Last-Event-ID`.
    pub(crate) fn read(
        query: &Query,
        headers: &HeaderMap,
        legacy_names: bool,
    ) -> Result<Self, ApiError> {
        const MOST: usize = 100;
        let mut previews = HashSet::new();
        for (index, value) in query.list("event_deltas").enumerate() {
            if index == MOST {
                return Err(ApiError::field(
                    "event_deltas",
                    format!("at most {MOST} values are allowed"),
                ));
            }
            previews.insert(match value {
                "agent.message" => PreviewKind::AgentMessage,
                "agent.thinking" => PreviewKind::AgentThinking,
                _ => {
                    return Err(ApiError::field(
                        "event_deltas",
                        "expected agent.message or agent.thinking",
                    ));
                }
            });
        }
        let after = match headers.get("last-event-id") {
            None => None,
            Some(value) => {
                let position = value
                    .to_str()
                    .ok()
                    .and_then(|text| text.parse::<i64>().ok())
                    .filter(|id| *id >= 0);
                let problem = "expected the id of a frame of this session's stream";
                Some(position.ok_or_else(|| ApiError::field("Last-Event-ID", problem))?)
            }
        };
        Ok(Self {
            after,
            previews,
            legacy_names,
        })
    }
}

/// `GET /v1/sessions/{session_id}/events/stream`
pub(crate) async fn stream_events(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    open(
        &app,
        &principal,
        &ids.session()?,
        None,
        Options::read(&query, &headers, app.legacy_event_names)?,
    )
    .await
}

/// `GET /v1/sessions/{session_id}/threads/{thread_id}/stream`: the primary thread's stream is the session's (ST-7).
pub(crate) async fn stream_thread(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let options = Options::read(&query, &headers, app.legacy_event_names)?;
    open(
        &app,
        &principal,
        &ids.session()?,
        Some(ids.thread()?),
        options,
    )
    .await
}

async fn open(
    app: &App,
    principal: &Principal,
    session: &SessionId,
    thread: Option<ThreadId>,
    options: Options,
) -> Result<Response, ApiError> {
    // Attached first: what happens between here and the answer, a deletion above all, is heard.
    let subscription = app.store.subscribe(session);
    let record = sessions::require(app, principal, session).await?;
    if thread.is_some_and(|thread| thread != record.thread_id) {
        return Err(ApiError::not_found("thread"));
    }
    let end = record.last_position;
    subscription.has_read(end);
    if options.after.is_some_and(|after| after > end) {
        return Err(ApiError::field(
            "Last-Event-ID",
            "is beyond the end of this session's log",
        ));
    }
    let stream = Stream {
        subscription,
        store: app.store.clone(),
        clock: app.clock.clone(),
        session: session.clone(),
        behind: options.after.is_some(),
        follow: Follow::new(
            options.after.unwrap_or(end),
            options.previews,
            options.legacy_names,
        ),
        silence: SILENCE,
        shutdown: app.shutdown.clone(),
        ended: false,
    };
    let chunks = futures::stream::unfold(stream, |mut stream| async move {
        let chunk = stream.next().await?;
        Some((chunk, stream))
    });
    let unbuffered = HeaderName::from_static("x-accel-buffering");
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-cache"),
        (unbuffered, "no"),
    ];
    Ok((headers, endless::answer(Box::pin(chunks))).into_response())
}

/// One client's stream.
struct Stream {
    subscription: Subscription,
    store: Store,
    clock: SharedClock,
    session: SessionId,
    follow: Follow,
    /// Whether there may be entries in the log that this stream has not heard.
    behind: bool,
    /// When to send a ping.
    silence: Duration,
    shutdown: CancellationToken,
    ended: bool,
}

impl Stream {
    /// The next frames, as soon as there are some; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.ended && !self.follow.is_over() {
            if self.behind {
                // Boxed, so that a stream that only listens stays small.
                match Box::pin(self.catch_up()).await {
                    Some(frames) => return Some(frames),
                    None => continue,
                }
            }
            let heard = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return None,
                heard = tokio::time::timeout(self.silence, self.subscription.recv()) => heard,
            };
            match heard {
                Err(_) => return Some(Bytes::from_static(PING)),
                Ok(None) => return None,
                Ok(Some(item)) => match self.follow.hear(&item) {
                    Heard::Frames(frames) if frames.is_empty() => {}
                    Heard::Frames(frames) => {
                        if let TailItem::Entries(entries) = &item
                            && let Some(last) = entries.last()
                        {
                            self.measure(last.created_at);
                        }
                        return Some(frames.into());
                    }
                    Heard::Gap => self.behind = true,
                    Heard::End(frames) => {
                        self.ended = true;
                        return Some(frames.into());
                    }
                },
            }
        }
        None
    }

    /// How long after it was made an entry is handed to the connection (security OPS-1). What is read from the log counts not:
    /// it may be as old as the reader likes.
    fn measure(&self, created_at: Timestamp) {
        let micros = self.clock.now().as_micros() - created_at.as_micros();
        metrics::histogram!("manyhands_stream_delay_seconds").record(micros.max(0) as f64 / 1e6);
    }

    /// Frames of a page of the log, if the page has any.
    async fn catch_up(&mut self) -> Option<Bytes> {
        let page = match self
            .store
            .read(&self.session, self.follow.position(), PAGE)
            .await
        {
            Ok(page) => page,
            Err(error) => {
                self.ended = true;
                return Some(error_frame(&ApiError::from(error)));
            }
        };
        self.behind = page.len() as u64 == u64::from(PAGE);
        let frames = self.follow.read(&page);
        (!frames.is_empty()).then(|| frames.into())
    }
}

/// A frame that makes the official clients raise an API error (api §9.4).
fn error_frame(error: &ApiError) -> Bytes {
    format!("event: error\ndata: {}\n\n", error.body(None)).into()
}

/// The frames of these entries, as a listener from the first one on gets them.
#[cfg(feature = "fuzzing")]
pub(crate) fn frames(entries: &[manyhands_store::Entry]) -> String {
    Follow::new(0, HashSet::new(), false).read(entries)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(query: &str, last_event_id: Option<&'static str>) -> Result<Options, ApiError> {
        let mut headers = HeaderMap::new();
        if let Some(id) = last_event_id {
            headers.insert("last-event-id", HeaderValue::from_static(id));
        }
        Options::read(&Query::from_text(query), &headers, false)
    }

    #[test]
    fn st_8_event_deltas_are_checked_by_name() {
        let both = HashSet::from([PreviewKind::AgentMessage, PreviewKind::AgentThinking]);
        for text in [
            "event_deltas%5B%5D=agent.message&event_deltas%5B%5D=agent.thinking",
            "event_deltas[]=agent.thinking&event_deltas[]=agent.message&event_deltas[]=agent.message",
        ] {
            assert_eq!(read(text, None).expect("accepted").previews, both);
        }
        assert_eq!(
            read("beta=true", None).expect("accepted"),
            Options::default()
        );
        for text in [
            "event_deltas[]=agent.tool_use".to_owned(),
            "event_deltas[]=agent.message&".repeat(101),
        ] {
            assert!(
                read(&text, None)
                    .expect_err("refused")
                    .message()
                    .starts_with("event_deltas: ")
            );
        }
    }

    /// runtime ST-3: official clients raise what such a frame holds as an error of the API.
    #[test]
    fn st_3_an_error_frame_holds_the_envelope() {
        let frame = error_frame(&ApiError::internal());
        let frame = std::str::from_utf8(&frame).expect("a text");
        let data = frame
            .strip_prefix("event: error\ndata: ")
            .expect("its name");
        let data = data.strip_suffix("\n\n").expect("its end");
        let body: serde_json::Value = serde_json::from_str(data).expect("one line of JSON");
        assert_eq!(
            (&body["type"], &body["error"]["type"]),
            (&"error".into(), &"api_error".into())
        );
    }

    /// runtime ST-5; security STREAM-1
    #[tokio::test]
    async fn stream_1_a_silent_stream_is_kept_alive() {
        const { assert!(SILENCE.as_secs() < 15) };
        let directory = tempfile::tempdir().expect("a directory");
        let config = manyhands_store::Config {
            database: manyhands_store::Database::Sqlite {
                directory: directory.path().to_owned(),
            },
            clock: std::sync::Arc::new(manyhands_protocol::time::SystemClock),
            replica: Default::default(),
        };
        let store = Store::open(config).await.expect("a store");
        let session = SessionId::generate();
        let mut stream = Stream {
            subscription: store.subscribe(&session),
            store: store.clone(),
            clock: std::sync::Arc::new(manyhands_protocol::time::SystemClock),
            session,
            follow: Follow::new(0, HashSet::new(), false),
            behind: false,
            silence: Duration::from_millis(1),
            shutdown: CancellationToken::new(),
            ended: false,
        };
        for _ in 0..3 {
            let frame = stream.next().await.expect("a frame");
            assert_eq!(frame, "event: ping\ndata: {\"type\":\"ping\"}\n\n");
        }
        stream.shutdown.cancel();
        assert_eq!(stream.next().await, None);
        store.close().await;
    }

    #[test]
    fn last_event_id_is_a_position() {
        assert_eq!(read("", Some("17")).expect("accepted").after, Some(17));
        for text in ["x", "-1", "1.5", "99999999999999999999"] {
            assert!(
                read("", Some(text))
                    .expect_err("refused")
                    .message()
                    .starts_with("Last-Event-ID: ")
            );
        }
    }
}
