//! The API, as far as the commands need it: requests out, resources and events back.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use manyhands_protocol::agent::Agent;
use manyhands_protocol::environment::Environment;
use manyhands_protocol::error::ErrorBody;
use manyhands_protocol::event::{Event, Preview};
use manyhands_protocol::model::Model;
use manyhands_protocol::page::IdPage;
use manyhands_protocol::session::Session;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sse_stream::SseStream;
use url::Url;

const BETA: &str = "managed-agents-2026-04-01";
const CONNECT: Duration = Duration::from_secs(5);
/// The server sends a ping at least every 15 s, so silence of this length means that it is gone.
const SILENCE: Duration = Duration::from_secs(60);
/// The log's own cap on an event is far below.
const FRAME_BYTES: usize = 64 * 1024 * 1024;

/// Why a request did not give what it was sent for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The base URL cannot be used.
    #[error("{url} is not a base URL: {reason}")]
    BaseUrl { url: String, reason: String },
    /// No answer: wrong address, or the server is gone.
    #[error("no answer from {url}")]
    Unreachable {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    /// The server says no, and why.
    #[error("the server refused {what} ({status}): {message}{}", request_id.as_deref().map(|id| format!(" [{id}]")).unwrap_or_default())]
    Refused {
        what: &'static str,
        status: StatusCode,
        message: String,
        request_id: Option<String>,
    },
    /// The answer is not what the contract says.
    #[error("cannot read the server's answer to {what}")]
    Malformed {
        what: &'static str,
        #[source]
        source: serde_json::Error,
    },
    /// The event stream ended before the story did.
    #[error("the event stream broke: {reason}")]
    StreamBroke { reason: String },
}

/// One thing on the event stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    /// A logged event.
    Event(Box<Event>),
    /// A part of one that is being made.
    Preview(Preview),
    /// Of a type that this client does not know yet.
    Unknown,
}

/// A connection to one server with one key.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    key: SecretString,
}

impl Client {
    /// A client of the server at `base`, such as `http://127.0.0.1:8787`; a path prefix is kept.
    pub(crate) fn new(base: &str, key: SecretString) -> Result<Self, Error> {
        Ok(Self {
            http: http_client(base)?,
            base: base.trim_end_matches('/').to_owned(),
            key,
        })
    }

    /// The models that agents may name.
    pub(crate) async fn models(&self) -> Result<Vec<Model>, Error> {
        let page: IdPage<Model> = self
            .call(
                "the list of models",
                Method::GET,
                "/v1/models?limit=1000",
                None,
            )
            .await?;
        Ok(page.data)
    }

    /// Creates an agent (api §3.1).
    pub(crate) async fn create_agent(&self, params: &Value) -> Result<Agent, Error> {
        self.call("the agent", Method::POST, "/v1/agents", Some(params))
            .await
    }

    /// Creates an environment (api §5.1).
    pub(crate) async fn create_environment(&self, params: &Value) -> Result<Environment, Error> {
        self.call(
            "the environment",
            Method::POST,
            "/v1/environments",
            Some(params),
        )
        .await
    }

    /// Creates a session (api §7.1).
    pub(crate) async fn create_session(&self, params: &Value) -> Result<Session, Error> {
        self.call("the session", Method::POST, "/v1/sessions", Some(params))
            .await
    }

    /// Sends events to a session (api §9.1): all or none.
    pub(crate) async fn send_events(&self, session: &str, events: &Value) -> Result<(), Error> {
        let path = format!("/v1/sessions/{session}/events");
        let _: Value = self
            .call("the message", Method::POST, &path, Some(events))
            .await?;
        Ok(())
    }

    /// Opens a session's event stream with previews; `after` is the `id:` of the last frame seen, to go on from there.
    pub(crate) async fn stream(
        &self,
        session: &str,
        after: Option<&str>,
    ) -> Result<EventStream, Error> {
        let path = format!(
            "/v1/sessions/{session}/events/stream?event_deltas%5B%5D=agent.message&event_deltas%5B%5D=agent.thinking"
        );
        let mut request = self.request(Method::GET, &path);
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        let response = self.sent("the event stream", request).await?;
        Ok(EventStream::new(response.bytes_stream()))
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(self.key.expose_secret())
            .header("anthropic-version", "2023-06-01")
            .header("anthropic-beta", BETA)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        what: &'static str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, Error> {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = self.sent(what, request).await?;
        let body = response.bytes().await.map_err(|source| self.gone(source))?;
        serde_json::from_slice(&body).map_err(|source| Error::Malformed { what, source })
    }

    async fn sent(&self, what: &'static str, request: RequestBuilder) -> Result<Response, Error> {
        let response = request.send().await.map_err(|source| self.gone(source))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.unwrap_or_default();
        let (message, request_id) = match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(body) => (body.error.message, body.request_id),
            Err(_) => ("the answer carries no reason".to_owned(), None),
        };
        Err(Error::Refused {
            what,
            status,
            message,
            request_id,
        })
    }

    fn gone(&self, source: reqwest::Error) -> Error {
        Error::Unreachable {
            url: self.base.clone(),
            source: source.without_url(),
        }
    }
}

/// Whether a server of ours answers at `base`, within `limit`.
pub(crate) async fn answers(base: &str, limit: Duration) -> bool {
    let Ok(http) = http_client(base) else {
        return false;
    };
    let request = http
        .get(format!("{}/healthz", base.trim_end_matches('/')))
        .timeout(limit);
    matches!(request.send().await, Ok(response) if response.status().is_success())
}

fn http_client(base: &str) -> Result<reqwest::Client, Error> {
    let refused = |reason: String| Error::BaseUrl {
        url: base.to_owned(),
        reason,
    };
    let url = Url::parse(base).map_err(|error| refused(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused("it needs http:// or https://".to_owned()));
    }
    // Another part of the process may have chosen the provider already, and it is the same one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE);
    if is_loopback(&url) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| refused(error.to_string()))
}

/// Whether a URL leads to this machine itself.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(url::Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}

type Frames = Pin<Box<dyn Stream<Item = Result<sse_stream::Sse, sse_stream::Error>> + Send>>;

/// An open event stream.
pub(crate) struct EventStream {
    frames: Frames,
    unframed: Arc<AtomicUsize>,
    last_id: Option<String>,
}

impl EventStream {
    fn new<E: std::error::Error + Send + Sync + 'static>(
        body: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> Self {
        let unframed = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&unframed);
        let capped = body.map(move |chunk| {
            let chunk = chunk.map_err(std::io::Error::other)?;
            if count.fetch_add(chunk.len(), Relaxed) > FRAME_BYTES {
                return Err(std::io::Error::other("an event larger than 64 MiB"));
            }
            Ok(chunk)
        });
        Self {
            frames: Box::pin(SseStream::from_bytes_stream(capped)),
            unframed,
            last_id: None,
        }
    }

    /// The `id:` of the last frame that had one.
    pub(crate) fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// The next event or preview; pings are skipped.
    pub(crate) async fn next(&mut self) -> Result<Item, Error> {
        loop {
            let frame = match self.frames.next().await {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    return Err(Error::StreamBroke {
                        reason: innermost(&error),
                    });
                }
                None => {
                    return Err(Error::StreamBroke {
                        reason: "the server ended it".to_owned(),
                    });
                }
            };
            self.unframed.store(0, Relaxed);
            if let Some(id) = frame.id {
                self.last_id = Some(id);
            }
            let name = frame.event.unwrap_or_default();
            let Some(data) = frame.data.filter(|_| name != "ping") else {
                continue;
            };
            if name == "error" {
                let reason = serde_json::from_str::<ErrorBody>(&data)
                    .map_or(data, |body| body.error.message);
                return Err(Error::StreamBroke { reason });
            }
            return read_item(&data);
        }
    }
}

fn read_item(data: &str) -> Result<Item, Error> {
    let malformed = |source| Error::Malformed {
        what: "the event stream",
        source,
    };
    let value: Value = serde_json::from_str(data).map_err(malformed)?;
    let kind = value["type"].as_str().unwrap_or_default();
    if matches!(kind, "event_start" | "event_delta") {
        // Previews are a courtesy: one that cannot be read is left out, the whole event follows.
        return Ok(serde_json::from_value(value).map_or(Item::Unknown, Item::Preview));
    }
    let known =
        kind == "session.deleted" || manyhands_protocol::event::PERSISTED_TYPES.contains(&kind);
    if !known {
        return Ok(Item::Unknown);
    }
    serde_json::from_value(value)
        .map(|event| Item::Event(Box::new(event)))
        .map_err(malformed)
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests;
