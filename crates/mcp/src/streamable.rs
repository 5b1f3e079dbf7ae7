//! The streamable HTTP transport: each message is a POST, answered in JSON or as a stream of events.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use manyhands_egress::outbound::Repeat;
use reqwest::Response;
use serde_json::Value;
use tokio::time::timeout;

use crate::answer::{self, Kind};
use crate::door::Door;
use crate::events::{Broken, Events};
use crate::fault::Fault;
use crate::link::COURTESY;
use crate::wire::{self, Asked, Incoming, Request};

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");

/// The longest session id or event id that is repeated, in bytes.
const LONGEST_ID: usize = 4 << 10;
/// What a server may ask of us during one request before it is no longer answered.
const ASKED: usize = 16;
/// Streams in a row that may end without an event before they are given up.
const BARREN: u32 = 3;
/// How many times the bytes of one event all events of one stream may have.
const TIMES: usize = 4;
/// The shortest and the longest wait before a stream is taken up again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// One conversation.
pub(crate) struct Streamable {
    door: Door,
    /// What the server calls the conversation, if it does.
    session: OnceLock<HeaderValue>,
    version: Mutex<HeaderValue>,
}

impl Streamable {
    /// A conversation that speaks this version until another is agreed.
    pub(crate) fn new(door: Door, version: &'static str) -> Self {
        Self {
            door,
            session: OnceLock::new(),
            version: Mutex::new(HeaderValue::from_static(version)),
        }
    }

    pub(crate) fn door(&self) -> &Door {
        &self.door
    }

    pub(crate) fn agree(&self, version: &'static str) {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) =
            HeaderValue::from_static(version);
    }

    fn headers(&self, accept: HeaderValue) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept);
        let version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        headers.insert(VERSION, version.clone());
        if let Some(session) = self.session.get() {
            headers.insert(SESSION, session.clone());
        }
        headers
    }

    /// Sends a message, with these headers beside those of all.
    pub(crate) async fn post(
        &self,
        extra: HeaderMap,
        body: Vec<u8>,
        repeat: Repeat,
    ) -> Result<Response, Fault> {
        let mut headers = self.headers(BOTH);
        headers.insert(CONTENT_TYPE, JSON);
        headers.extend(extra);
        self.door.send(Method::POST, headers, body, repeat).await
    }

    /// The result of a request. The answer, or one event of it, has at most `most` bytes.
    pub(crate) async fn request(
        &self,
        request: &Request,
        extra: HeaderMap,
        most: usize,
    ) -> Result<Value, Fault> {
        let response = self.post(extra, request.body(), request.repeat()).await?;
        let status = response.status();
        if status == StatusCode::NOT_FOUND && self.session.get().is_some() {
            return Err(Fault::Forgotten);
        }
        if !status.is_success() {
            return Err(answer::refusal(response, request.id, self.door.scrub()).await);
        }
        if request.method == "initialize"
            && let Some(session) = response.headers().get(SESSION)
        {
            if session.len() > LONGEST_ID || session.to_str().is_err() {
                return Err(Fault::Lost("the server's session id is not one".to_owned()));
            }
            // A second one is not possible: there is one handshake.
            let _ = self.session.set(session.clone());
        }
        match answer::kind(&response) {
            Kind::Json => answer::whole(response, request.id, most).await,
            Kind::Events => self.stream(response, request.id, most).await,
            Kind::Nothing => Err(Fault::Lost(
                "the server took the request and answered nothing".to_owned(),
            )),
            Kind::Other => Err(Fault::Lost(
                "the server's answer is neither JSON nor events".to_owned(),
            )),
        }
    }

    /// Reads events until the answer comes. A stream that ends before is taken up again where the server has numbered its
    /// events; the request itself is not made again.
    async fn stream(&self, response: Response, id: u64, most: usize) -> Result<Value, Fault> {
        let mut events = Events::new(response, most, TIMES * most);
        let (mut last, mut pause, mut barren, mut asked) = (None, PAUSE.0, 0, 0);
        loop {
            while let Some(event) = events.next().await {
                let event = match event {
                    Ok(event) => event,
                    Err(Broken::TooLarge(_) | Broken::Endless) => {
                        return Err(Fault::TooLarge(most));
                    }
                    Err(Broken::Cut) => break,
                    Err(other) => return Err(Fault::Lost(other.to_string())),
                };
                barren = 0;
                if let Some(millis) = event.retry {
                    pause = Duration::from_millis(millis).clamp(PAUSE.0, PAUSE.1);
                }
                if let Some(number) = event.id {
                    last = HeaderValue::try_from(number)
                        .ok()
                        .filter(|id| !id.is_empty() && id.len() <= LONGEST_ID);
                }
                let data = event.data.unwrap_or_default();
                // What is there for its number only, and what is of a kind that this protocol does not have.
                if data.is_empty() || event.event.is_some_and(|kind| kind != "message") {
                    continue;
                }
                for incoming in
                    wire::read(data.as_bytes()).map_err(|error| Fault::Lost(error.to_string()))?
                {
                    match incoming {
                        Incoming::Answer(of, outcome) if of == Some(id) => {
                            events.leave();
                            return outcome.map_err(Fault::Rpc);
                        }
                        Incoming::Asked(what) if asked < ASKED => {
                            asked += 1;
                            self.refuse(&what).await;
                        }
                        Incoming::Answer(..) | Incoming::Asked(_) | Incoming::Told => {}
                    }
                }
            }
            let Some(last) = last.clone() else {
                return Err(Fault::Lost("the stream ended before the answer".to_owned()));
            };
            barren += 1;
            if barren > BARREN {
                return Err(Fault::Lost(
                    "the stream ends again and again before the answer".to_owned(),
                ));
            }
            tokio::time::sleep(pause).await;
            let mut headers = self.headers(EVENTS);
            headers.insert(LAST_EVENT, last);
            // The request has been made; whatever goes wrong from here on, its outcome is not known.
            let resumed = self
                .door
                .send(Method::GET, headers, Vec::new(), Repeat::Harmless)
                .await;
            match resumed {
                Ok(resumed)
                    if resumed.status().is_success() && answer::kind(&resumed) == Kind::Events =>
                {
                    events = Events::new(resumed, most, TIMES * most);
                }
                _ => {
                    let reason = "the stream broke off, and the server does not take it up again";
                    return Err(Fault::Lost(reason.to_owned()));
                }
            }
        }
    }

    async fn refuse(&self, asked: &Asked) {
        let refusal = self.post(HeaderMap::new(), wire::refusal(asked), Repeat::Harmless);
        let said = timeout(COURTESY, refusal).await;
        if !matches!(said, Ok(Ok(_))) {
            tracing::debug!("a request of an MCP server could not be refused");
        }
    }

    /// Ends the conversation where it has a name.
    pub(crate) async fn close(&self) {
        if self.session.get().is_none() {
            return;
        }
        let ended = self.door.send(
            Method::DELETE,
            self.headers(BOTH),
            Vec::new(),
            Repeat::Harmless,
        );
        if !matches!(timeout(COURTESY, ended).await, Ok(Ok(_))) {
            tracing::debug!("an MCP server did not take the end of its conversation");
        }
    }
}
