//! Requests as they go out, and answers as they come back.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use super::Surroundings;
use crate::check::Problem;

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body; null when that is no JSON.
    pub body: Value,
}

impl Answer {
    /// What an error says.
    pub fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or_default()
    }
}

/// A member of an answer as text.
pub(crate) fn text_of(answer: &Value, member: &str) -> String {
    answer[member].as_str().unwrap_or_default().to_owned()
}

/// A `POST` until it is answered, whatever earlier tries have done. Gives the body.
///
/// # Errors
///
/// It is refused.
pub async fn insist(around: &dyn Surroundings, path: &str, body: &Value) -> Result<Value, Problem> {
    loop {
        match around.call(Method::POST, path, Some(body)).await {
            Some(answer) if answer.status == StatusCode::OK => return Ok(answer.body),
            Some(answer) => return Err(format!("{path} is answered with {answer:?}")),
            // A store that fails now and then, or a server that died: there will be another.
            None => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// The path of a session's stream, with previews.
pub fn stream_path(session: &str) -> String {
    format!(
        "/v1/sessions/{session}/events/stream?event_deltas[]=agent.message&event_deltas[]=agent.thinking"
    )
}

/// A request with this key; of a stream, behind an event.
pub fn request(
    key: &str,
    method: Method,
    path: &str,
    body: Body,
    after: Option<i64>,
) -> Request<Body> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("x-api-key", key)
        .header("anthropic-beta", manyhands_testkit::http::BETA)
        .header("content-type", "application/json");
    if let Some(after) = after {
        request = request.header("last-event-id", after);
    }
    request.body(body).expect("a request")
}

/// The whole answer to a request.
pub async fn whole(router: Router, request: Request<Body>) -> Answer {
    let response = match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let status = response.status();
    let body = response.into_body().collect().await;
    let text = body.map(|body| body.to_bytes()).unwrap_or_default();
    let body = serde_json::from_slice(&text).unwrap_or_default();
    Answer { status, body }
}
