//! The end of a case: what is open is brought to an end, and a last message is answered.

use std::time::{Duration, Instant};

use http::StatusCode;
use manyhands_simulation::frames::{Call, calls};
use manyhands_simulation::speech::{Request, rests};
use serde_json::{Value, json};

use super::{Fate, Life, PATIENCE, Problem};
use crate::model::lock;

/// How often to look at the store when nothing is heard: what a look finds may be nothing that streams tell.
const LOOK: Duration = Duration::from_millis(20);

impl Life {
    /// Brings all that is open to an end, and has a last message answered: the way out (invariant I8).
    pub(crate) async fn finish(&mut self) -> Result<(), Problem> {
        self.world.spare(&self.session);
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
        self.post(vec![Request::of(vec![last])]).await?;
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
            return Err("the last message is not answered".to_owned());
        }
        Ok(())
    }

    /// A session at rest waits for a message, or for nothing any more.
    async fn explained(&self) -> Result<(), Problem> {
        let expected = match self.fate {
            Fate::Alive => "awaiting_message",
            Fate::Archived | Fate::Deleted => "ended",
        };
        let mut count = self.heard.count.subscribe();
        let begun = Instant::now();
        loop {
            let state = self.why().await?;
            if state == expected {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("the session is at rest and said to be {state}"));
            }
            // A brain may just be finding out that there is nothing to do.
            let heard = tokio::time::timeout(LOOK, count.changed());
            drop(heard.await);
        }
    }

    /// Until the session is at rest with nothing open; what it asks for, it gets.
    async fn settle(&mut self) -> Result<(), Problem> {
        let mut count = self.heard.count.subscribe();
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
                    self.post(vec![request]).await?;
                    quiet = Instant::now();
                    continue;
                }
                if rests(&listed) {
                    return Ok(());
                }
            }
            let heard = tokio::time::timeout(LOOK, count.changed()).await;
            if heard.is_ok() {
                quiet = Instant::now();
            }
            if quiet.elapsed() > PATIENCE {
                return Err(format!("no way out: the session is {status}"));
            }
        }
    }

    async fn status(&self) -> Result<String, Problem> {
        let path = format!("/v1/sessions/{}", self.session);
        let session = self.world.get(&path).await;
        if session.status != StatusCode::OK {
            return Err(format!("the session is answered with {session:?}"));
        }
        Ok(session.body["status"]
            .as_str()
            .unwrap_or_default()
            .to_owned())
    }

    /// Whether all that is listed was heard.
    fn told(&self, listed: &[Value]) -> bool {
        listed.iter().all(|event| {
            let id = event["id"].as_str().unwrap_or_default();
            self.heard.has(id)
        })
    }

    /// A deleted session is not found, and its stream said so last.
    async fn gone(&self) -> Result<(), Problem> {
        let path = format!("/v1/sessions/{}", self.session);
        let status = self.world.get(&path).await.status;
        if status != StatusCode::NOT_FOUND {
            return Err(format!("a deleted session is answered with {status}"));
        }
        self.until(|_| false, "the deletion is not told").await
    }
}
