//! A server whose model follows a script, and the command's words for it.

use std::process::Output;

use manyhands_testkit::daemon::Daemon;
use manyhands_testkit::model::{ModelServer, Reply};
use serde_json::{Value, json};

use crate::{PROGRAM, directory, run};

/// A server whose model follows a script.
pub(crate) struct Bed {
    pub(crate) server: Daemon,
    pub(crate) model: ModelServer,
}

impl Bed {
    /// Replies the model gives, one a request.
    pub(crate) async fn with(replies: impl IntoIterator<Item = Reply>) -> Self {
        let model = ModelServer::with(replies).await;
        let builder = Daemon::builder().binary(PROGRAM).model(&model.url());
        Self {
            server: builder.start().await,
            model,
        }
    }

    /// The command's words, with those that name the server.
    pub(crate) fn words<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let server = ["--url", self.server.url(), "--data-dir"];
        let mut words = vec!["run"];
        words.extend(args);
        words.extend(server);
        words.push(directory(self.server.data_dir()));
        words
    }

    /// Runs the command to its end.
    pub(crate) async fn run(&self, args: &[&str]) -> Output {
        run(&self.words(args), &[]).await
    }

    /// An agent with these tools.
    pub(crate) async fn agent(&self, tools: Value) -> String {
        self.agent_of("claude-opus-4-8", tools).await
    }

    /// As `agent`, of another model.
    pub(crate) async fn agent_of(&self, model: &str, tools: Value) -> String {
        let body = json!({"name": "a", "model": model, "tools": tools});
        let agent = self.server.client().post("/v1/agents", &body).await.ok();
        id(&agent)
    }

    /// A session as it is now.
    pub(crate) async fn session(&self, id: &str) -> Value {
        let path = format!("/v1/sessions/{id}");
        self.server.client().get(&path).await.ok()
    }

    /// The only session there is.
    pub(crate) async fn only_session(&self) -> String {
        let page = self.server.client().get("/v1/sessions").await.ok();
        assert_eq!(page["data"].as_array().map(Vec::len), Some(1), "{page}");
        id(&page["data"][0])
    }
}

pub(crate) fn id(resource: &Value) -> String {
    resource["id"].as_str().expect("an id").to_owned()
}

pub(crate) fn asking_bash() -> Value {
    json!([{
        "type": "agent_toolset_20260401",
        "configs": [{"name": "bash", "permission_policy": {"type": "always_ask"}}],
    }])
}

pub(crate) fn lookup() -> Value {
    json!([{
        "type": "custom", "name": "lookup", "description": "Looks a word up.",
        "input_schema": {"type": "object", "properties": {"word": {"type": "string"}}},
    }])
}

/// What follows a flag in the hint of a run that waits for answers.
pub(crate) fn flag(said: &str, name: &str) -> String {
    let (_, rest) = said
        .split_once(name)
        .unwrap_or_else(|| panic!("no {name} in:\n{said}"));
    let word = rest.split_whitespace().next().expect("a word");
    word.trim_end_matches("=TEXT").to_owned()
}

pub(crate) fn status(output: &Output) -> Option<i32> {
    output.status.code()
}
