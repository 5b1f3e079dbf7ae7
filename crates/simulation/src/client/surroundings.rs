//! What is around a client: servers that it reaches, a store that can be looked at, time and chance.

use std::future::ready;
use std::ops::Deref;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{Method, StatusCode};
use manyhands_store::Store;
use serde_json::Value;
use sse_stream::{Sse, SseStream};

use super::Answer;
use crate::model::Scripts;

/// What one harness has and another has not.
#[async_trait]
pub trait Surroundings: Send + Sync {
    /// One request to a server; `None` when it cannot be known what became of it.
    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Option<Answer>;

    /// Opens a session's stream behind an event; `None` when it has to be tried again.
    async fn stream(&self, session: &str, after: i64) -> Option<Stream>;

    /// The store, for looking at what is there; it stays open while it is held.
    async fn store(&self) -> Box<dyn Deref<Target = Store> + Send + Sync + '_>;

    /// What models and tools do, by the numbers of sessions.
    fn scripts(&self) -> &Scripts;

    /// The environment of all sessions.
    fn environment(&self) -> String;

    /// How long clients wait.
    fn times(&self) -> Times;

    /// A number from 0 to before `below`, for what clients do by chance: how many milliseconds they pause between two
    /// tries, whether they give one up.
    fn random(&self, below: u64) -> u64;

    /// Whether two servers at a time may write to a session.
    fn has_several_servers(&self) -> bool;

    /// Counts a branch that was taken so many times.
    fn count_many(&self, branch: &str, times: u64);

    /// Takes note of something, where it is told what happened.
    fn note(&self, what: &str, text: &str);
}

/// How long clients wait.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// How long a session may make no progress: longer than all faults together.
    pub patience: Duration,
    /// How often to look at the store when nothing is heard: what a look finds may be nothing that streams tell.
    pub look: Duration,
}

/// A stream that was asked for.
pub enum Stream {
    /// Its frames, which end with their server.
    Open(BoxStream<'static, Sse>),
    /// There is no such session (any more).
    NoSession,
    /// It is refused, though nothing is wrong with it.
    Refused(StatusCode),
}

/// The frames of a body, until it ends or breaks off.
pub fn frames(body: Body) -> BoxStream<'static, Sse> {
    let frames = SseStream::new(body).scan((), |(), frame| ready(frame.ok()));
    frames.boxed()
}
