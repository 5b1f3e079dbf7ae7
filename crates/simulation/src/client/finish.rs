//! The end of a story: what is open is brought to an end, and a last message is answered.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::http::text_of;
use super::{Fate, Life};
use crate::check::Problem;
use crate::frames::{Call, calls};
use crate::model::lock;
use crate::speech::{Request, rests};

/// Nothing befalls anybody any more, so that nothing may be given up.
const ALWAYS: usize = 1_000;

impl Life {
    /// Brings all that is open to an end, and has a last message answered: the way out (invariant I8).
    ///
    /// # Errors
    ///
    /// There is none.
    pub async fn finish(&mut self) -> Result<(), Problem> {
        self.script.calm();
        if self.fate == Fate::Deleted {
            return self.gone().await;
        }
        if self.budget.is_some() && self.fate == Fate::Alive {
            self.update(json!({"budget": null}), &[]).await?;
        }
        self.settle().await?;
        self.explained().await?;
        if self.fate == Fate::Archived {
            return Ok(());
        }
        let last = self.speaker.message();
        self.post(vec![Request::of(vec![last])], ALWAYS).await?;
        let id = self.accepted.last().map(|last| last.id.clone());
        self.settle().await?;
        let events = self.events().await?;
        let at = events
            .iter()
            .position(|event| event["id"].as_str() == id.as_deref());
        let after = at.and_then(|at| events.get(at..)).unwrap_or_default();
        let answered = after.iter().any(|event| event["type"] == "agent.message");
        let end = after.last().map(|event| &event["stop_reason"]["type"]);
        self.explained().await?;
        if !answered || end != Some(&json!("end_turn")) {
            return Err("the last message is not answered (I8)".to_owned());
        }
        Ok(())
    }

    /// A session at rest waits for a message, or for nothing any more.
    async fn explained(&self) -> Result<(), Problem> {
        let expected = match self.fate {
            Fate::Alive => "awaiting_message",
            Fate::Archived | Fate::Deleted => "ended",
        };
        let times = self.around.times();
        let begun = Instant::now();
        loop {
            let state = self.why().await?;
            if state == expected {
                return Ok(());
            }
            if begun.elapsed() > times.patience {
                return Err(format!("the session is at rest and said to be {state}"));
            }
            // A brain may just be finding out that there is nothing to do.
            tokio::time::sleep(times.look).await;
        }
    }

    /// Until the session is at rest with nothing open; what it asks for, it gets.
    async fn settle(&mut self) -> Result<(), Problem> {
        let mut count = self.heard.count.subscribe();
        let times = self.around.times();
        let mut quiet = Instant::now();
        loop {
            count.mark_unchanged();
            let status = self.status().await?;
            if status == "terminated" {
                if self.fate != Fate::Archived {
                    return Err("the session ended by itself".to_owned());
                }
                let told = |life: &Self| {
                    life.heard.status().as_deref() == Some("session.status_terminated")
                };
                return self.until(told, "the end is not told").await;
            }
            let listed = self.events().await?;
            // What is open is known from what was heard: not before all of it was.
            if status == "idle" && self.told(&listed) {
                let mut open = calls(&lock(&self.heard.frames));
                open.retain(Call::waits);
                if !open.is_empty() {
                    let request = self.speaker.answers(&open);
                    self.post(vec![request], ALWAYS).await?;
                    quiet = Instant::now();
                    continue;
                }
                if rests(&listed) {
                    return Ok(());
                }
            }
            if tokio::time::timeout(times.look, count.changed())
                .await
                .is_ok()
            {
                quiet = Instant::now();
            }
            if quiet.elapsed() > times.patience {
                return Err(format!("no way out: the session is {status} (I8)"));
            }
        }
    }

    async fn status(&self) -> Result<String, Problem> {
        let path = format!("/v1/sessions/{}", self.session);
        let (session, _) = self.ask(Method::GET, &path, &Value::Null).await;
        match session.status {
            StatusCode::OK => Ok(text_of(&session.body, "status")),
            _ => Err(format!("the session is answered with {session:?}")),
        }
    }

    /// Whether all that is listed was heard.
    fn told(&self, listed: &[Value]) -> bool {
        listed.iter().all(|event| {
            let id = event["id"].as_str().unwrap_or_default();
            self.heard.position_of(id).is_some()
        })
    }

    /// A deleted session is not found, and its stream said so last.
    async fn gone(&self) -> Result<(), Problem> {
        let path = format!("/v1/sessions/{}", self.session);
        let (answer, _) = self.ask(Method::GET, &path, &Value::Null).await;
        if answer.status != StatusCode::NOT_FOUND {
            return Err(format!("a deleted session is answered with {answer:?}"));
        }
        self.until(|_| false, "the deletion is not told").await
    }
}
