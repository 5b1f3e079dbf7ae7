//! The older transport (protocol 2024-11-05): one stream of events from the server, and POSTs to a place that its first
//! event names.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use manyhands_egress::outbound::Repeat;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use url::Url;

use crate::answer::{self, Kind};
use crate::door::Door;
use crate::events::{Broken, Events};
use crate::fault::Fault;
use crate::link::COURTESY;
use crate::wire::{self, Asked, Incoming, Request};

/// What a stream may say before it is opened anew, in bytes.
const TOTAL: usize = 1 << 30;
/// Events between two answers that are read.
const IDLE_EVENTS: usize = 100_000;

type Outcome = Result<Value, Fault>;

/// One conversation; it is as old as its stream.
pub(crate) struct TwoWay {
    door: Door,
    /// Where messages go.
    endpoint: Url,
    waiting: Mutex<Waiting>,
    reader: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Waiting {
    has_ended: bool,
    answers: HashMap<u64, oneshot::Sender<Outcome>>,
}

impl TwoWay {
    /// Opens the stream and learns where messages go. An event has at most `most` bytes.
    pub(crate) async fn open(door: Door, most: usize) -> Result<Arc<Self>, Fault> {
        let headers =
            HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("text/event-stream"))]);
        let response = door
            .send(Method::GET, headers, Vec::new(), Repeat::Harmless)
            .await?;
        if !response.status().is_success() {
            return Err(answer::refusal(response, 0, door.scrub()).await);
        }
        if answer::kind(&response) != Kind::Events {
            return Err(Fault::Lost(
                "the server does not speak the protocol".to_owned(),
            ));
        }
        let mut events = Events::new(response, most, TOTAL);
        let endpoint = loop {
            match events.next().await {
                Some(Ok(event)) if event.event.as_deref() == Some("endpoint") => break event.data,
                Some(Ok(event)) if event.data.is_none() => {}
                _ => break None,
            }
        };
        let endpoint = endpoint.and_then(|to| door.url().join(to.trim()).ok());
        let endpoint = endpoint
            .ok_or_else(|| Fault::Lost("the server does not say where messages go".to_owned()))?;
        let this = Arc::new(Self {
            door,
            endpoint,
            waiting: Mutex::default(),
            reader: Mutex::default(),
        });
        let reader = tokio::spawn(read(events, Arc::downgrade(&this)));
        *this.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(reader);
        Ok(this)
    }

    pub(crate) fn door(&self) -> &Door {
        &self.door
    }

    /// Sends a message.
    pub(crate) async fn post(
        &self,
        body: Vec<u8>,
        repeat: Repeat,
    ) -> Result<reqwest::Response, Fault> {
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        self.door
            .send_to(self.endpoint.clone(), Method::POST, headers, body, repeat)
            .await
    }

    /// The result of a request.
    pub(crate) async fn request(&self, request: &Request) -> Result<Value, Fault> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = self.waiting();
            if waiting.has_ended {
                return Err(Fault::Forgotten);
            }
            waiting.answers.insert(request.id, sender);
        }
        let _leaves = Leaves {
            conversation: self,
            id: request.id,
        };
        let response = self.post(request.body(), request.repeat()).await?;
        match response.status() {
            StatusCode::NOT_FOUND => return Err(Fault::Forgotten),
            status if !status.is_success() => {
                return Err(answer::refusal(response, request.id, self.door.scrub()).await);
            }
            _ => {}
        }
        receiver.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Ends the conversation with its stream.
    pub(crate) fn close(&self) {
        if let Some(reader) = self
            .reader
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            reader.abort();
        }
        self.end(ended());
    }

    fn end(&self, fault: Fault) {
        let mut waiting = self.waiting();
        waiting.has_ended = true;
        for (_, sender) in waiting.answers.drain() {
            // Who has stopped waiting does not mind.
            let _ = sender.send(Err(fault.clone()));
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn refuse(&self, asked: &Asked) {
        let refusal = self.post(wire::refusal(asked), Repeat::Harmless);
        let said = timeout(COURTESY, refusal).await;
        if !matches!(said, Ok(Ok(_))) {
            tracing::debug!("a request of an MCP server could not be refused");
        }
    }

    /// Whether the message was an answer that somebody waited for.
    async fn hear(&self, incoming: Incoming) -> bool {
        match incoming {
            Incoming::Answer(Some(id), outcome) => {
                let sender = self.waiting().answers.remove(&id);
                sender.is_some_and(|sender| sender.send(outcome.map_err(Fault::Rpc)).is_ok())
            }
            Incoming::Asked(asked) => {
                self.refuse(&asked).await;
                false
            }
            Incoming::Answer(None, _) | Incoming::Told => false,
        }
    }
}

impl Drop for TwoWay {
    fn drop(&mut self) {
        self.close();
    }
}

fn ended() -> Fault {
    Fault::Lost("the server's stream ended before the answer".to_owned())
}

/// A request that is no longer waited for leaves nothing behind.
struct Leaves<'a> {
    conversation: &'a TwoWay,
    id: u64,
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.conversation.waiting().answers.remove(&self.id);
    }
}

/// Hands answers to who waits for them, until the stream or the conversation ends.
async fn read(mut events: Events, conversation: Weak<TwoWay>) {
    let mut idle = 0;
    let fault = loop {
        let event = match events.next().await {
            Some(Ok(event)) => event,
            Some(Err(Broken::TooLarge(most))) => break Fault::TooLarge(most),
            Some(Err(_)) | None => break ended(),
        };
        let Some(this) = conversation.upgrade() else {
            return;
        };
        idle += 1;
        let Ok(messages) = wire::read(event.data.unwrap_or_default().as_bytes()) else {
            // Events of other kinds are not for us.
            continue;
        };
        for message in messages {
            if this.hear(message).await {
                idle = 0;
            }
        }
        if idle > IDLE_EVENTS {
            break Fault::Lost("the server's stream says too much".to_owned());
        }
    };
    if let Some(this) = conversation.upgrade() {
        this.end(fault);
    }
}
