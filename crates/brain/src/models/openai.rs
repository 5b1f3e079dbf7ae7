//! Streaming chat completions, at any endpoint that speaks them: vLLM, Ollama, llama.cpp, gateways, the OpenAI API.
//!
//! The inside speaks Messages; a request is translated on its way out and the answer on its way in, so that a
//! conversation can go on with a model of either kind. Sends no sampling parameters (runtime HT-7).

mod assembly;
#[cfg(feature = "fuzzing")]
pub(super) mod fuzzing;
mod request;

use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use manyhands_protocol::time::SharedClock;
use reqwest::{Client, Url};
use secrecy::SecretString;

use super::endpoint::{Credential, Endpoint, Timeouts};
use super::error::Error;
use super::{Model, Request, Response, Sink};
use assembly::Assembly;

/// A chat completions endpoint, the key for it and its dialect.
pub struct OpenAi {
    endpoint: Endpoint,
    dialect: Dialect,
}

/// What endpoints differ in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dialect {
    /// How the most output tokens are named; absent: not sent, the endpoint decides.
    pub output_limit: Option<OutputLimit>,
    /// Whether `reasoning_effort` is sent.
    pub effort: bool,
}

/// The member that limits the output tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputLimit {
    /// `max_tokens`, which nearly all servers know.
    MaxTokens,
    /// `max_completion_tokens`, which the OpenAI API wants for models that reason.
    MaxCompletionTokens,
}

impl OpenAi {
    /// An endpoint below `base`, which usually ends in `/v1` (`…/chat/completions`); a base without a path gets it. The
    /// client is handed in: it decides about proxies, TLS, redirects (none, so that the key stays here) and the connect
    /// timeout.
    pub fn new(
        client: Client,
        base: &Url,
        key: Option<SecretString>,
        timeouts: Timeouts,
        dialect: Dialect,
        clock: SharedClock,
    ) -> Self {
        Self {
            endpoint: Endpoint {
                client,
                url: below(base, "chat/completions"),
                key,
                credential: Credential::Bearer,
                timeouts,
                clock,
            },
            dialect,
        }
    }

    /// The OpenAI API, which is meant when no other endpoint is named.
    pub fn default_base_url() -> Url {
        let base = "https://api.openai.com/v1";
        base.parse().expect("the constant is a URL")
    }

    /// Where an endpoint with this base lists its models.
    pub fn models_url(base: &Url) -> Url {
        below(base, "models")
    }
}

fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_query(None);
    url.set_fragment(None);
    let parent = match base.path().trim_end_matches('/') {
        "" => "/v1",
        parent => parent,
    };
    url.set_path(&format!("{parent}/{path}"));
    url
}

#[async_trait]
impl Model for OpenAi {
    async fn sample(&self, request: &Request, sink: &mut dyn Sink) -> Result<Response, Error> {
        let outgoing = request::translate(&request.body, self.dialect)?;
        let response = self.endpoint.post(outgoing.body.clone(), None).await?;
        let mut events = std::pin::pin!(self.endpoint.events(response));
        let mut message = Assembly::default();
        while !message.is_done() {
            let Some(data) = events.next().await else {
                break;
            };
            sink.alive();
            let taken = message.event(&data?, sink);
            taken.map_err(|error| self.endpoint.without_key(error))?;
        }
        message.finish(&outgoing, sink)
    }

    fn patience(&self) -> Duration {
        self.endpoint.timeouts.patience()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_names_the_folder_of_the_paths() {
        #[track_caller]
        fn check(base: &str, expected: &str) {
            let found = below(&base.parse().unwrap(), "chat/completions");
            assert_eq!(found.as_str(), expected);
        }
        check(
            "http://127.0.0.1:8000/v1",
            "http://127.0.0.1:8000/v1/chat/completions",
        );
        check(
            "http://127.0.0.1:11434",
            "http://127.0.0.1:11434/v1/chat/completions",
        );
        check(
            "https://gateway.example/api/v3/?x=1#y",
            "https://gateway.example/api/v3/chat/completions",
        );
        let models = OpenAi::models_url(&"http://127.0.0.1:1/v1/".parse().unwrap());
        assert_eq!(models.as_str(), "http://127.0.0.1:1/v1/models");
    }
}
