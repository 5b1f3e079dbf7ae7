//! What the suite stands on: a scripted endpoint, a provider that asks it, and what was heard.

use std::sync::Arc;
use std::time::Duration;

use manyhands_brain::models::{
    Advice, BlockKind, Delta, Error, Model, ModelSpec, ProviderSpec, Registry, Request, Response,
    Sink, Timeouts, View,
};
use manyhands_protocol::time::SystemClock;
use manyhands_testkit::model::{Format, ModelServer, Reply};
use serde_json::json;

/// The key of every provider; no error may tell it.
pub(super) const KEY: &str = "sk-very-secret";

/// A provider and the endpoint it asks.
pub(super) struct Stage {
    pub(super) server: ModelServer,
    pub(super) format: Format,
    pub(super) model: Arc<dyn Model>,
}

/// Runs a story with each provider.
pub(super) async fn each(timeouts: Timeouts, story: impl AsyncFn(Stage)) {
    for format in [Format::Messages, Format::Chat] {
        let server = ModelServer::start().await;
        let model = provider(format, &server.url(), timeouts);
        story(Stage {
            server,
            format,
            model,
        })
        .await;
    }
}

/// Runs a story that needs no short patience with each provider.
pub(super) async fn each_patient(story: impl AsyncFn(Stage)) {
    each(patient(), story).await;
}

pub(super) fn patient() -> Timeouts {
    Timeouts {
        headers: Duration::from_secs(20),
        between: Duration::from_secs(20),
    }
}

/// A provider of this form for an endpoint.
pub(super) fn provider(format: Format, url: &str, timeouts: Timeouts) -> Arc<dyn Model> {
    // Only the first of all tests can install it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let base_url = Some(url.parse().unwrap());
    let key = Some(KEY.into());
    let spec = match format {
        Format::Messages => ProviderSpec::Anthropic {
            base_url,
            key,
            timeouts,
        },
        Format::Chat => ProviderSpec::OpenAi {
            base_url,
            key,
            output_limit: None,
            timeouts,
        },
    };
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none());
    let client = client.build().unwrap();
    let specs = vec![ModelSpec {
        max_output: Some(1000),
        ..ModelSpec::new("m", spec)
    }];
    let registry = Registry::new(specs, &client, &(Arc::new(SystemClock) as _)).unwrap();
    registry.resolve("m").unwrap().model
}

impl Stage {
    /// Scripts one reply and asks for it with a small request.
    pub(super) async fn ask(&self, reply: Reply) -> (Result<Response, Error>, Heard) {
        self.server.push(reply);
        let hi = json!({"role": "user", "content": [{"type": "text", "text": "Hi"}]});
        self.send(body(&[hi.to_string()])).await
    }

    /// Sends a request whose reply is scripted already.
    pub(super) async fn send(&self, body: String) -> (Result<Response, Error>, Heard) {
        let request = Request { body: body.into() };
        let mut heard = Heard::default();
        let result = self.model.sample(&request, &mut heard).await;
        (result, heard)
    }

    /// Scripts a reply that must end in an error that is tried again.
    pub(super) async fn check_retried(&self, reply: Reply) -> (Error, Heard) {
        let (result, heard) = self.ask(reply.clone()).await;
        match result {
            Ok(response) => panic!("{reply:?} gave {response:?} in form {:?}", self.format),
            Err(error) => {
                assert_eq!(error.advice(), Advice::Retry, "{error} after {reply:?}");
                (error, heard)
            }
        }
    }
}

/// A Messages request with these turns, byte for byte.
pub(super) fn body(turns: &[String]) -> String {
    let tools = json!([{"name": "bash", "description": "Runs.",
        "input_schema": {"type": "object", "properties": {}},
        "cache_control": {"type": "ephemeral"}}]);
    let system = json!([{"type": "text", "text": "Be kind.",
        "cache_control": {"type": "ephemeral"}}]);
    format!(
        r#"{{"model":"m","max_tokens":1000,"stream":true,"tools":{tools},"system":{system},"messages":[{}]}}"#,
        turns.join(",")
    )
}

/// What a sink was told.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) kinds: Vec<BlockKind>,
    pub(super) text: String,
    pub(super) signs_of_life: usize,
}

impl Sink for Heard {
    fn delta(&mut self, delta: Delta<'_>) {
        match delta {
            Delta::Start { index, kind } => {
                assert_eq!(index, self.kinds.len(), "blocks begin in their order");
                self.kinds.push(kind);
            }
            Delta::Text { index, text } => {
                assert_eq!(self.kinds[index], BlockKind::Text);
                self.text.push_str(text);
            }
            Delta::Usage(_) => {}
        }
    }

    fn alive(&mut self) {
        self.signs_of_life += 1;
    }
}

/// The blocks of a response as short texts.
pub(super) fn shown(response: &Response) -> Vec<String> {
    let blocks = response.blocks.iter();
    blocks
        .map(|block| match &block.view {
            View::Text(text) => text.clone(),
            View::Thinking => "(thinking)".to_owned(),
            View::ToolUse { id, name, input } => format!("{id} {name} {input}"),
            View::Other => "(other)".to_owned(),
        })
        .collect()
}
