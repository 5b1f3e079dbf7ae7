//! What all model endpoints have in common over HTTP: one key, one kind of request, bounded reading, errors without
//! the key. Redirects are never followed, and silence ends a request, never its length.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use manyhands_protocol::time::SharedClock;
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};

use super::error::{Error, ErrorKind};
use super::refusal::{self, Said};
use super::retry_after;
use super::sse::{Caps, chain, events};

/// Most of an error answer's body that is read, in bytes.
const ERROR_BODY: usize = 64 << 10;

/// How long silence may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the request to the answer's first byte: a long prompt is read before it comes.
    pub headers: Duration,
    /// Between two pieces of the answer; providers send pings far more often.
    pub between: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            headers: Duration::from_secs(300),
            between: Duration::from_secs(90),
        }
    }
}

impl Timeouts {
    /// The longest silence of a request: until the headers, and then until a refusal's body breaks off.
    pub(super) fn patience(self) -> Duration {
        self.headers.saturating_add(self.between)
    }
}

/// How a key is shown to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Credential {
    /// `x-api-key: KEY`.
    ApiKey,
    /// `Authorization: Bearer KEY`.
    Bearer,
}

/// One URL that requests are posted to, and the key for it.
pub(super) struct Endpoint {
    /// The client decides about proxies, TLS, redirects (none, so that the key stays here) and the connect timeout.
    pub(super) client: Client,
    pub(super) url: Url,
    pub(super) key: Option<SecretString>,
    pub(super) credential: Credential,
    pub(super) timeouts: Timeouts,
    pub(super) clock: SharedClock,
}

/// An answer whose body is not read yet.
pub(super) struct Answer {
    response: Response,
    /// When it was asked for.
    asked: Instant,
}

impl Endpoint {
    /// Posts JSON and returns the answer with status 200, its body unread; anything else is an error.
    pub(super) async fn post(
        &self,
        body: Bytes,
        extra: Option<(HeaderName, HeaderValue)>,
    ) -> Result<Answer, Error> {
        let asked = Instant::now();
        let mut post = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("accept", "text/event-stream")
            .body(body);
        if let Some((name, value)) = extra {
            post = post.header(name, value);
        }
        if let Some((name, value)) = self.authentication()? {
            post = post.header(name, value);
        }
        let response = match tokio::time::timeout(self.timeouts.headers, post.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let cause = chain(&error.without_url());
                let place = self.place();
                return Err(self.error(
                    ErrorKind::Failed,
                    &format!("The model endpoint {place} could not be reached: {cause}."),
                ));
            }
            Err(_) => {
                return Err(self.error(
                    ErrorKind::Failed,
                    &format!(
                        "The model endpoint {} did not answer within {} s.",
                        self.place(),
                        self.timeouts.headers.as_secs_f64()
                    ),
                ));
            }
        };
        if response.status() == StatusCode::OK {
            Ok(Answer { response, asked })
        } else {
            Err(self.refused(response).await)
        }
    }

    /// The data of each event of an answer, bounded in size and silence (security MODEL-4).
    ///
    /// Some servers send the headers before they read the prompt: the first bytes may come as late as headers may.
    pub(super) fn events(
        &self,
        answer: Answer,
    ) -> impl Stream<Item = Result<String, Error>> + Send {
        let rest = self.timeouts.headers.saturating_sub(answer.asked.elapsed());
        let events = events(
            answer.response.bytes_stream(),
            Caps::default(),
            rest.max(self.timeouts.between),
            self.timeouts.between,
        );
        events.map(|event| {
            event.map_err(|error| {
                let text = format!("The model's answer broke off: {error}.");
                self.error(ErrorKind::Failed, &text)
            })
        })
    }

    /// An error without the key, should the other side have echoed it.
    pub(super) fn error(&self, kind: ErrorKind, message: &str) -> Error {
        self.without_key(Error::new(kind, message))
    }

    /// The error without the key.
    pub(super) fn without_key(&self, error: Error) -> Error {
        let key = self.key.as_ref().map(ExposeSecret::expose_secret);
        match key.filter(|key| !key.is_empty()) {
            Some(key) => Error {
                message: error.message.replace(key, "[key]"),
                ..error
            },
            None => error,
        }
    }

    fn authentication(&self) -> Result<Option<(HeaderName, HeaderValue)>, Error> {
        let Some(key) = &self.key else {
            return Ok(None);
        };
        let (name, text) = match self.credential {
            Credential::ApiKey => (
                HeaderName::from_static("x-api-key"),
                key.expose_secret().to_owned(),
            ),
            Credential::Bearer => (
                reqwest::header::AUTHORIZATION,
                format!("Bearer {}", key.expose_secret()),
            ),
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| {
            let text =
                "The model key holds characters that no HTTP header can carry: set it again.";
            self.error(ErrorKind::Auth, text)
        })?;
        value.set_sensitive(true);
        Ok(Some((name, value)))
    }

    /// Scheme and host of the endpoint: all of it that a message may show.
    fn place(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    async fn refused(&self, response: Response) -> Error {
        let status = response.status();
        let after = retry_after::hint(response.headers(), self.clock.now());
        let said = Said::parse(&self.error_body(response).await);
        let mut error = self.without_key(refusal::of_status(status.as_u16(), &said, &self.place()));
        error.after = after;
        error
    }

    /// The start of an error answer's body; what cannot be read in time is left out.
    async fn error_body(&self, response: Response) -> Vec<u8> {
        let mut body = Vec::new();
        let mut pieces = response.bytes_stream();
        let read = async {
            while let Some(Ok(piece)) = pieces.next().await {
                let room = ERROR_BODY - body.len();
                body.extend_from_slice(&piece[..piece.len().min(room)]);
                if body.len() == ERROR_BODY {
                    break;
                }
            }
        };
        let in_time = tokio::time::timeout(self.timeouts.between, read).await;
        if in_time.is_err() {
            tracing::debug!("the body of a model's error answer did not end in time");
        }
        body
    }
}
