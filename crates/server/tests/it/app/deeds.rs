//! What tests do with a server: agents, sessions, what is sent to them and heard of them.

use manyhands_hands::Output;
use manyhands_testkit::events::{Event, EventStream};
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::Reply;
use serde_json::{Value, json};

use super::{TestApp, id, message};

impl TestApp {
    /// An agent with the built-in tools.
    pub(crate) async fn agent(&self) -> String {
        self.agent_with(json!([{"type": "agent_toolset_20260401"}]))
            .await
    }

    /// An agent with these tools.
    pub(crate) async fn agent_with(&self, tools: Value) -> String {
        self.agent_of("claude-opus-4-8", tools).await
    }

    /// An agent of this model with these tools.
    pub(crate) async fn agent_of(&self, model: &str, tools: Value) -> String {
        let body = json!({"name": "helper", "model": model, "tools": tools});
        self.client.make("/v1/agents", &body).await
    }

    pub(crate) async fn environment(&self) -> String {
        let body = json!({"name": "box"});
        self.client.make("/v1/environments", &body).await
    }

    /// A session of a fresh agent in a fresh environment.
    pub(crate) async fn session(&self) -> String {
        let agent = self.agent().await;
        self.session_of(&agent).await
    }

    pub(crate) async fn session_of(&self, agent: &str) -> String {
        self.client.session_of(agent).await
    }

    /// A session as clients see it.
    pub(crate) async fn retrieve(&self, session: &str) -> Value {
        self.client
            .get(&format!("/v1/sessions/{session}"))
            .await
            .ok()
    }

    /// Sends events that are refused; the message, once it is clear that nothing was stored.
    pub(crate) async fn refused(&self, session: &str, events: Value) -> String {
        let before = self.events(session).await;
        let path = format!("/v1/sessions/{session}/events");
        let answer = self.client.post(&path, &json!({"events": events})).await;
        let message = answer.error(400, "invalid_request_error");
        assert_eq!(self.events(session).await, before, "nothing is stored");
        message
    }

    /// Sends several events in one request and returns their echoes.
    pub(crate) async fn send_all(&self, session: &str, events: Value) -> Vec<Value> {
        let path = format!("/v1/sessions/{session}/events");
        let answer = self.client.post(&path, &json!({"events": events})).await;
        answer.ok()["data"].as_array().expect("a list").clone()
    }

    /// Sends one event and returns its echo.
    pub(crate) async fn send(&self, session: &str, event: Value) -> Value {
        let path = format!("/v1/sessions/{session}/events");
        let answer = self
            .client
            .post(&path, &json!({"events": [event]}))
            .await
            .ok();
        answer["data"][0].clone()
    }

    pub(crate) async fn stream(&self, session: &str, query: &str) -> EventStream {
        self.client
            .stream(&format!("/v1/sessions/{session}/events/stream{query}"))
            .await
    }

    /// All listed events of a session.
    pub(crate) async fn events(&self, session: &str) -> Vec<Value> {
        let page = self
            .client
            .get(&format!("/v1/sessions/{session}/events"))
            .await
            .ok();
        assert_eq!(page["next_page"], Value::Null);
        page["data"].as_array().expect("a list").clone()
    }

    /// Sends a message and waits until the session rests.
    pub(crate) async fn turn(&self, session: &str, text: &str) -> Vec<Event> {
        let mut stream = self.stream(session, "").await;
        self.send(session, message(text)).await;
        stream.until_idle().await
    }
    /// The id of a session's primary thread.
    pub(crate) async fn thread(&self, session: &str) -> String {
        let path = format!("/v1/sessions/{session}/threads");
        id(&self.client.get(&path).await.ok()["data"][0])
    }

    /// A fresh session whose model has been asked, what lets it say this text, and the session's stream.
    pub(crate) async fn working(&self, text: &str) -> (String, Gate, EventStream) {
        let gate = Gate::new();
        self.model.push(Reply::text(text).hold_first_token(&gate));
        let session = self.session().await;
        let stream = self.stream(&session, "").await;
        self.send(&session, message("hi")).await;
        gate.reached().await;
        (session, gate, stream)
    }

    /// From now on this tool's calls wait at the gate, and then give a text.
    pub(crate) fn hold_tool(&self, name: &str) -> Gate {
        let gate = Gate::new();
        let held = gate.clone();
        let run = move |_| {
            let held = held.clone();
            async move {
                held.pass().await;
                Output::text("text")
            }
        };
        // All clones have the tool.
        drop(self.hands.clone().with_tool(name, run));
        gate
    }
}
