//! A small HTTP client for stories and load generators: plain HTTP/1.1 to a server on this machine.

use std::error::Error;
use std::fmt;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::events::EventStream;

/// The beta value that opens the managed-agents routes (runtime HT-1).
pub const BETA: &str = "managed-agents-2026-04-01";

/// A request that got no answer: refused, broken off, or not HTTP.
#[derive(Debug)]
pub struct Failure {
    what: String,
    source: Box<dyn Error + Send + Sync>,
}

impl Failure {
    fn new(what: &str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let (what, source) = (what.to_owned(), source.into());
        Self { what, source }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}: {}", self.what, self.source)
    }
}

impl Error for Failure {}

/// A complete answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in the answer {self}"))
    }

    /// The body of a successful answer as JSON.
    ///
    /// # Panics
    /// When the status is not 200.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert!(self.status == 200, "{self}");
        self.json()
    }

    /// The message of an error answer with this status and `error.type` (api §26.1).
    ///
    /// # Panics
    /// When the answer is another one, or its envelope is not complete.
    #[track_caller]
    pub fn error(&self, status: u16, kind: &str) -> String {
        assert!(self.status == status, "expected {status}: {self}");
        let body = self.json();
        assert_eq!(body["type"], "error", "{self}");
        assert_eq!(body["error"]["type"], kind, "{self}");
        let id = self.header("request-id").unwrap_or_default();
        assert!(id.starts_with("req_"), "no request-id: {self}");
        assert_eq!(body["request_id"], id, "{self}");
        let message = body["error"]["message"].as_str().unwrap_or_default();
        assert!(!message.is_empty(), "no message: {self}");
        message.to_owned()
    }

    /// Sees to it that the request is refused as wrong (400, `invalid_request_error`), and what is said of it first.
    ///
    /// # Panics
    /// When the answer is another one, or says something else first.
    #[track_caller]
    pub fn refused(&self, problem: &str) {
        let message = self.error(400, "invalid_request_error");
        assert!(message.starts_with(problem), "{message}");
    }

    /// A header's text, if it was sent and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        write!(formatter, "{} {body}", self.status)
    }
}

/// Who asks, and whom. Cloning is cheap; each request has a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    address: String,
    headers: HeaderMap,
}

impl Client {
    /// A client without credentials and without the beta header.
    ///
    /// `base_url` is `http://HOST:PORT`, as a server prints it.
    pub fn new(base_url: &str) -> Self {
        let address = base_url.trim_start_matches("http://").trim_end_matches('/');
        Self {
            address: address.to_owned(),
            headers: HeaderMap::new(),
        }
    }

    /// A client as the official ones are: bearer key, beta header, version.
    pub fn with_key(base_url: &str, key: &str) -> Self {
        Self::new(base_url)
            .header("authorization", &format!("Bearer {key}"))
            .header("anthropic-beta", BETA)
            .header("anthropic-version", "2026-10-21")
    }

    /// Sends this header with each request, in place of an older one of the name.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::try_from(name).expect("a legal header name");
        let mut value = HeaderValue::try_from(value).expect("a legal header value");
        value.set_sensitive(name == "authorization" || name == "x-api-key");
        self.headers.insert(name, value);
        self
    }

    /// No longer sends this header.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    /// `GET path`. Panics when there is no answer.
    pub async fn get(&self, path: &str) -> Answer {
        expect(self.send(Method::GET, path, Bytes::new()).await)
    }

    /// `POST path` with a JSON body. Panics when there is no answer.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        expect(self.try_post(path, body).await)
    }

    /// Makes something with `POST path`; its id. Panics when it is refused.
    pub async fn make(&self, path: &str, body: &Value) -> String {
        let made = self.post(path, body).await.ok();
        made["id"].as_str().expect("an id").to_owned()
    }

    /// A session of this agent in an environment of its own; its id. Panics when it is refused.
    pub async fn session_of(&self, agent: &str) -> String {
        let environment = json!({"name": "box"});
        let environment = self.make("/v1/environments", &environment).await;
        let session = json!({"agent": agent, "environment_id": environment});
        self.make("/v1/sessions", &session).await
    }

    /// `POST path` without a body. Panics when there is no answer.
    pub async fn post_empty(&self, path: &str) -> Answer {
        expect(self.send(Method::POST, path, Bytes::new()).await)
    }

    /// `DELETE path`. Panics when there is no answer.
    pub async fn delete(&self, path: &str) -> Answer {
        expect(self.send(Method::DELETE, path, Bytes::new()).await)
    }

    /// `POST path` with a JSON body, for servers that may be gone.
    ///
    /// # Errors
    /// When no complete answer came.
    pub async fn try_post(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        self.send(Method::POST, path, body.to_string()).await
    }

    /// Any request with any body.
    ///
    /// # Errors
    /// When no complete answer came.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, Failure> {
        let mut connection = self.connect().await?;
        connection.send(method, path, body).await
    }

    /// Opens an event stream with `GET path`.
    ///
    /// # Panics
    /// When the answer is not 200 `text/event-stream`.
    pub async fn stream(&self, path: &str) -> EventStream {
        let mut connection = expect(self.connect().await);
        let answer = expect(connection.begin(Method::GET, path, Bytes::new()).await);
        let kind = answer.headers().get("content-type");
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if answer.status() != 200 || !kind.starts_with("text/event-stream") {
            panic!(
                "GET {path} is not a stream: {}",
                expect(finish(answer).await)
            );
        }
        EventStream::new(answer.into_body())
    }

    /// Opens a connection to be used for many requests, one after the other.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn connect(&self) -> Result<Connection, Failure> {
        let failed = |error| Failure::new(&format!("connecting to {}", self.address), error);
        let stream = TcpStream::connect(&self.address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let (sender, driver) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Failure::new("opening an HTTP connection", error))?;
        // Its errors reach whoever waits for an answer on the connection.
        tokio::spawn(async move { drop(driver.await) });
        Ok(Connection {
            client: self.clone(),
            sender,
        })
    }
}

/// One kept-alive connection.
#[derive(Debug)]
pub struct Connection {
    client: Client,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When no complete answer came; the connection is then of no further use.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, Failure> {
        finish(self.begin(method, path, body).await?).await
    }

    /// Sends a request and reads the head of the answer; the body is still to be read.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn begin(
        &mut self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Response<Incoming>, Failure> {
        let what = format!("{method} {path}");
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.client.address)
            .header("content-type", "application/json")
            .body(Full::new(body.into()))
            .map_err(|error| Failure::new(&what, error))?;
        request.headers_mut().extend(self.client.headers.clone());
        let failed = |error| Failure::new(&what, error);
        self.sender.ready().await.map_err(failed)?;
        self.sender.send_request(request).await.map_err(failed)
    }
}

async fn finish(answer: Response<Incoming>) -> Result<Answer, Failure> {
    let (head, body) = answer.into_parts();
    let body = body.collect().await;
    let body = body.map_err(|error| Failure::new("reading the answer", error))?;
    Ok(Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: body.to_bytes(),
    })
}

#[track_caller]
fn expect<T>(result: Result<T, Failure>) -> T {
    result.unwrap_or_else(|failure| panic!("{failure}"))
}
