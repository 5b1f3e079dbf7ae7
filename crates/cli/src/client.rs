//! The API, as far as the commands need it: requests out, resources and events back.

use std::net::IpAddr;
use std::time::Duration;

use manyhands_protocol::agent::Agent;
use manyhands_protocol::environment::Environment;
use manyhands_protocol::error::ErrorBody;
use manyhands_protocol::model::Model;
use manyhands_protocol::page::{IdPage, Page};
use manyhands_protocol::session::Session;
use manyhands_protocol::{EventId, SessionId};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

mod stream;

pub(crate) use stream::{EventStream, Item};

const BETA: &str = "managed-agents-2026-04-01";
const CONNECT: Duration = Duration::from_secs(5);
/// The server sends a ping at least every 15 s, so silence of this length means that it is gone.
const SILENCE: Duration = Duration::from_secs(60);

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

impl Error {
    /// Whether asking again cannot help: the server understood, and says no.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.is_client_error())
    }
}

/// Whether a stream carries the parts of messages that are being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Previews {
    /// Text as it comes.
    On,
    /// Logged events only.
    Off,
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

    /// A session as it is now (api §7.2).
    pub(crate) async fn session(&self, session: &SessionId) -> Result<Session, Error> {
        let path = format!("/v1/sessions/{session}");
        self.call("the session", Method::GET, &path, None).await
    }

    /// The first agent, newest first, that `wanted` says yes to.
    pub(crate) async fn find_agent(
        &self,
        wanted: impl Fn(&Agent) -> bool,
    ) -> Result<Option<Agent>, Error> {
        self.find("the list of agents", "/v1/agents", wanted).await
    }

    /// The first environment that `wanted` says yes to.
    pub(crate) async fn find_environment(
        &self,
        wanted: impl Fn(&Environment) -> bool,
    ) -> Result<Option<Environment>, Error> {
        self.find("the list of environments", "/v1/environments", wanted)
            .await
    }

    /// A page of a session's events, the newest first; `page` is the cursor that the page before gave. The events are
    /// left as they came, since some may be of types that this client does not know.
    pub(crate) async fn newest_events(
        &self,
        session: &SessionId,
        page: Option<&str>,
    ) -> Result<Page<Value>, Error> {
        let path = paged(
            &format!("/v1/sessions/{session}/events?order=desc&limit=200"),
            page,
        );
        self.call("the list of events", Method::GET, &path, None)
            .await
    }

    /// What a session waits for, as the server tells it.
    pub(crate) async fn why(&self, session: &SessionId) -> Result<Value, Error> {
        let path = format!("/v1/manyhands/sessions/{session}/why");
        self.call("what the session waits for", Method::GET, &path, None)
            .await
    }

    /// Sends events to a session (api §9.1): all or none. Gives the ids they were stored under, in their order; an
    /// event without one was not stored (runtime IN-9).
    pub(crate) async fn send_events(
        &self,
        session: &SessionId,
        events: &[Value],
    ) -> Result<Vec<EventId>, Error> {
        let path = format!("/v1/sessions/{session}/events");
        let events = json!({ "events": events });
        let stored: Page<Value> = self
            .call("the message", Method::POST, &path, Some(&events))
            .await?;
        let ids = stored.data.iter();
        Ok(ids
            .filter_map(|event| EventId::parse(event["id"].as_str()?).ok())
            .collect())
    }

    /// Opens a session's event stream; `after` is the `id:` of the last frame seen, to go on from there.
    pub(crate) async fn stream(
        &self,
        session: &SessionId,
        after: Option<&str>,
        previews: Previews,
    ) -> Result<EventStream, Error> {
        let deltas = match previews {
            Previews::On => "?event_deltas%5B%5D=agent.message&event_deltas%5B%5D=agent.thinking",
            Previews::Off => "",
        };
        let path = format!("/v1/sessions/{session}/events/stream{deltas}");
        let mut request = self.request(Method::GET, &path);
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        let response = self.sent("the event stream", request).await?;
        Ok(EventStream::new(response.bytes_stream()))
    }

    async fn find<T: DeserializeOwned>(
        &self,
        what: &'static str,
        path: &str,
        wanted: impl Fn(&T) -> bool,
    ) -> Result<Option<T>, Error> {
        let mut cursor = None;
        loop {
            let path = paged(&format!("{path}?limit=100"), cursor.as_deref());
            let page: Page<T> = self.call(what, Method::GET, &path, None).await?;
            if let Some(found) = page.data.into_iter().find(&wanted) {
                return Ok(Some(found));
            }
            cursor = page.next_page;
            if cursor.is_none() {
                return Ok(None);
            }
        }
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

/// A list's path with the cursor of the page that is wanted.
fn paged(path: &str, cursor: Option<&str>) -> String {
    let Some(cursor) = cursor else {
        return path.to_owned();
    };
    let page = form_urlencoded::Serializer::new(String::new())
        .append_pair("page", cursor)
        .finish();
    format!("{path}&{page}")
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

#[cfg(test)]
mod tests;
