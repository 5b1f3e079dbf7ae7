//! The streaming Messages API, at any endpoint that speaks it.
//!
//! Sends no sampling parameters (runtime HT-7) and never follows a redirect with the key. There is no time limit on a
//! whole request, only on silence.

use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use manyhands_protocol::time::SharedClock;
use reqwest::{Client, Response as HttpResponse, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::assembly::Assembly;
use super::error::{Error, ErrorKind};
use super::sse::{Caps, chain, events};
use super::{Model, Request, Response, Sink, retry_after};

/// The version of the wire form that [`Assembly`] reads. A newer one changes nothing we use.
const VERSION: &str = "2023-06-01";

/// Most of an error answer's body that is read, in bytes.
const ERROR_BODY: usize = 64 << 10;

/// How long silence may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the request to the answer's headers: a long prompt is read before they come.
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

/// A Messages endpoint and the key for it.
pub struct Anthropic {
    client: Client,
    endpoint: Url,
    key: Option<SecretString>,
    timeouts: Timeouts,
    clock: SharedClock,
}

impl Anthropic {
    /// An endpoint below `base` (`…/v1/messages`). The client is handed in: it decides about proxies, TLS, redirects
    /// (none, so that the key stays here) and the connect timeout.
    pub fn new(
        client: Client,
        base: &Url,
        key: Option<SecretString>,
        timeouts: Timeouts,
        clock: SharedClock,
    ) -> Self {
        let mut endpoint = base.clone();
        endpoint.set_query(None);
        endpoint.set_fragment(None);
        let path = base.path().trim_end_matches('/');
        let path = path.strip_suffix("/v1").unwrap_or(path);
        endpoint.set_path(&format!("{path}/v1/messages"));
        Self {
            client,
            endpoint,
            key,
            timeouts,
            clock,
        }
    }

    async fn send(&self, request: &Request) -> Result<HttpResponse, Error> {
        let mut post = self
            .client
            .post(self.endpoint.clone())
            .header("anthropic-version", VERSION)
            .header("content-type", "application/json")
            .header("accept", "text/event-stream")
            .body(request.body.clone());
        if let Some(key) = &self.key {
            let mut value = reqwest::header::HeaderValue::from_str(key.expose_secret())
                .map_err(|_| self.error(ErrorKind::Auth, "The model key holds characters that no HTTP header can carry: set it again."))?;
            value.set_sensitive(true);
            post = post.header("x-api-key", value);
        }
        match tokio::time::timeout(self.timeouts.headers, post.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                let cause = chain(&error.without_url());
                Err(self.error(
                    ErrorKind::Failed,
                    &format!(
                        "The model endpoint {} could not be reached: {cause}.",
                        self.place()
                    ),
                ))
            }
            Err(_) => Err(self.error(
                ErrorKind::Failed,
                &format!(
                    "The model endpoint {} did not answer within {} s.",
                    self.place(),
                    self.timeouts.headers.as_secs_f64()
                ),
            )),
        }
    }

    /// Scheme and host of the endpoint: all of it that a message may show.
    fn place(&self) -> String {
        self.endpoint.origin().ascii_serialization()
    }

    /// An error without the key, should the other side have echoed it.
    fn error(&self, kind: ErrorKind, message: &str) -> Error {
        let key = self.key.as_ref().map(ExposeSecret::expose_secret);
        match key.filter(|key| !key.is_empty()) {
            Some(key) => Error::new(kind, message.replace(key, "[key]")),
            None => Error::new(kind, message),
        }
    }

    async fn refused(&self, response: HttpResponse) -> Error {
        let status = response.status();
        let after = retry_after::hint(response.headers(), self.clock.now());
        let body = self.error_body(response).await;
        let wire: WireBody = serde_json::from_slice(&body).unwrap_or_default();
        let said = wire.error.message;
        let place = self.place();
        let (kind, message) = match status.as_u16() {
            401 => (
                ErrorKind::Auth,
                format!(
                    "{place} does not accept the model key (401): {said} Set a valid key for this model and send a message."
                ),
            ),
            402 => (
                ErrorKind::Billing,
                format!(
                    "The account behind the model key cannot make calls (402): {said} Settle it with the provider, then send a message."
                ),
            ),
            403 => (
                ErrorKind::Auth,
                format!(
                    "The model key may not do this at {place} (403): {said} Use a key that may call this model."
                ),
            ),
            404 => (
                ErrorKind::NotFound,
                format!(
                    "{place} has no such model or path (404): {said} Check the model's id and the base URL."
                ),
            ),
            413 => (
                ErrorKind::Overflow,
                format!("The request is too large for {place} (413): {said}"),
            ),
            400 | 422 => (
                refusal_kind(&said),
                format!("{place} refuses the request ({}): {said}", status.as_u16()),
            ),
            429 => (
                ErrorKind::RateLimited,
                format!("{place} limits the rate of requests (429): {said}"),
            ),
            529 => (
                ErrorKind::Overloaded,
                format!("{place} is overloaded (529): {said}"),
            ),
            408 | 409 | 500.. => (
                ErrorKind::Failed,
                format!("{place} failed ({}): {said}", status.as_u16()),
            ),
            _ => (
                ErrorKind::NotFound,
                format!(
                    "{place} answered with {status}, which is no answer of a Messages endpoint: check the base URL."
                ),
            ),
        };
        let mut error = self.error(kind, message.trim_end_matches([' ', ':']));
        error.after = after;
        error
    }

    /// The start of an error answer's body; what cannot be read in time is left out.
    async fn error_body(&self, response: HttpResponse) -> Vec<u8> {
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

#[async_trait]
impl Model for Anthropic {
    async fn sample(&self, request: &Request, sink: &mut dyn Sink) -> Result<Response, Error> {
        let response = self.send(request).await?;
        if response.status() != StatusCode::OK {
            return Err(self.refused(response).await);
        }
        let mut events = std::pin::pin!(events(
            response.bytes_stream(),
            Caps::default(),
            self.timeouts.between
        ));
        let mut message = Assembly::default();
        while !message.is_finished() {
            match events.next().await {
                Some(Ok(data)) => message
                    .event(&data, sink)
                    .map_err(|error| self.error(error.kind, &error.message))?,
                Some(Err(error)) => {
                    return Err(self.error(
                        ErrorKind::Failed,
                        &format!("The model's answer broke off: {error}."),
                    ));
                }
                None => break,
            }
        }
        message.finish()
    }
}

/// Which kind of refusal a 400 is: the wire form has one type for all of them.
pub(super) fn refusal_kind(message: &str) -> ErrorKind {
    let lower = message.to_lowercase();
    let any = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    if any(&["credit balance", "billing"]) {
        ErrorKind::Billing
    } else if any(&[
        "prompt is too long",
        "exceed context limit",
        "context window",
        "maximum context length",
    ]) {
        ErrorKind::Overflow
    } else {
        ErrorKind::Refused
    }
}

#[derive(Default, Deserialize)]
struct WireBody {
    #[serde(default)]
    error: WireError,
}

#[derive(Default, Deserialize)]
struct WireError {
    #[serde(default)]
    message: String,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use manyhands_protocol::time::SystemClock;

    use super::*;

    #[test]
    fn a_base_url_may_have_a_path_a_slash_or_its_version() {
        #[track_caller]
        fn check(base: &str, expected: &str) {
            // Only the first test can install it.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            let client = Client::builder().no_proxy().build().unwrap();
            let timeouts = Timeouts::default();
            let base = base.parse().unwrap();
            let found = Anthropic::new(client, &base, None, timeouts, Arc::new(SystemClock));
            assert_eq!(found.endpoint.as_str(), expected);
        }
        check(
            "https://models.example",
            "https://models.example/v1/messages",
        );
        check(
            "https://models.example/",
            "https://models.example/v1/messages",
        );
        check(
            "https://models.example/v1/",
            "https://models.example/v1/messages",
        );
        check(
            "http://127.0.0.1:9/gateway?x=1#y",
            "http://127.0.0.1:9/gateway/v1/messages",
        );
    }

    #[test]
    fn model_3_refusals_are_told_apart_by_their_words() {
        #[track_caller]
        fn check(message: &str, expected: ErrorKind) {
            assert_eq!(refusal_kind(message), expected);
        }
        check(
            "prompt is too long: 210000 tokens > 200000 maximum",
            ErrorKind::Overflow,
        );
        check("Your credit balance is too low", ErrorKind::Billing);
        check("messages.0: bad", ErrorKind::Refused);
        check("", ErrorKind::Refused);
    }
}
