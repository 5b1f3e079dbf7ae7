//! Sending: events as they go out, and what the server says to them.

use std::sync::Arc;

use manyhands_simulation::check::life::shows;
use manyhands_simulation::frames::calls;
use manyhands_simulation::speech::{Input, Request, take};
use serde_json::json;

use super::{Life, Problem};
use crate::model::lock;

impl Life {
    /// Sends these requests at the same time.
    pub(super) async fn send(&mut self, all: &[&Vec<Input>]) -> Result<(), Problem> {
        let calls = calls(&lock(&self.heard.frames));
        let world = Arc::clone(&self.world);
        let count = |branch| world.count(branch);
        let requests = all.iter();
        let requests = requests.map(|inputs| self.speaker.request(inputs, &calls, &count));
        let mut requests: Vec<Request> = requests.collect();
        requests.retain(|request| !request.events.is_empty());
        if requests.is_empty() {
            self.world.count("send: nothing to answer");
            return Ok(());
        }
        self.post(requests).await
    }

    pub(super) async fn post(&mut self, requests: Vec<Request>) -> Result<(), Problem> {
        let path = format!("/v1/sessions/{}/events", self.session);
        let answers = requests.iter().map(|request| {
            let (world, path) = (&self.world, &path);
            async move { world.post(path, &json!({"events": request.events})).await }
        });
        let answers = futures::future::join_all(answers).await;
        let mut taken = Vec::new();
        for (request, answer) in requests.into_iter().zip(answers) {
            let excuses = request.excuses(self.budget.is_some());
            if !self.taken("send", &answer, &excuses, false)? {
                continue;
            }
            taken.extend(request.echoed(&answer.body)?);
        }
        // Of two answers to a call, the one that was the first is taken note of first.
        taken.sort_by_key(|(sent, echo)| !shows(echo, sent));
        let before = self.accepted.len();
        for (sent, echo) in taken {
            let (accepted, budgeted) = (&self.accepted, self.budget.is_some());
            let count = |branch| self.world.count(branch);
            let new = take(sent, &echo, accepted, &[], budgeted, &count)?;
            self.accepted.extend(new);
        }
        for accepted in &self.accepted[before..] {
            let heard = || self.heard.position_of(&accepted.id).is_some();
            let problem = "an event that was taken is not heard";
            if !accepted.traceless {
                self.until(|_| heard(), problem).await?;
            }
        }
        let heard = Arc::clone(&self.heard);
        self.accepted[before..].sort_by_key(|accepted| heard.position_of(&accepted.id));
        Ok(())
    }
}
