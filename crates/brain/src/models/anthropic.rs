//! The streaming Messages API, at any endpoint that speaks it.
//!
//! Sends no sampling parameters (runtime HT-7). There is no time limit on a whole request, only on silence.

use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use manyhands_protocol::time::SharedClock;
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Client, Url};
use secrecy::SecretString;

use super::assembly::Assembly;
use super::endpoint::{Credential, Endpoint, Timeouts};
use super::error::Error;
use super::{Model, Request, Response, Sink};

/// The version of the wire form that [`Assembly`] reads. A newer one changes nothing we use.
const VERSION: (HeaderName, HeaderValue) = (
    HeaderName::from_static("anthropic-version"),
    HeaderValue::from_static("2023-06-01"),
);

/// A Messages endpoint and the key for it.
pub struct Anthropic(Endpoint);

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
        let mut url = base.clone();
        url.set_query(None);
        url.set_fragment(None);
        let path = base.path().trim_end_matches('/');
        let path = path.strip_suffix("/v1").unwrap_or(path);
        url.set_path(&format!("{path}/v1/messages"));
        Self(Endpoint {
            client,
            url,
            key,
            credential: Credential::ApiKey,
            timeouts,
            clock,
        })
    }
}

#[async_trait]
impl Model for Anthropic {
    async fn sample(&self, request: &Request, sink: &mut dyn Sink) -> Result<Response, Error> {
        let response = self.0.post(request.body.clone(), Some(VERSION)).await?;
        let mut events = std::pin::pin!(self.0.events(response));
        let mut message = Assembly::default();
        while !message.is_finished() {
            let Some(data) = events.next().await else {
                break;
            };
            sink.alive();
            let taken = message.event(&data?, sink);
            taken.map_err(|error| self.0.without_key(error))?;
        }
        message.finish()
    }

    fn patience(&self) -> Duration {
        self.0.timeouts.patience()
    }
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
            assert_eq!(found.0.url.as_str(), expected);
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
}
