//! Sending, and sending again when no answer comes.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::json;

use super::{Answer, Fate, Life};
use crate::check::Problem;
use crate::check::life::shows;
use crate::frames::calls;
use crate::model::lock;
use crate::speech::{Input, Request, take};

/// How often the same request is sent at most, when the session's end is not at stake.
const TRIES: usize = 3;

impl Life {
    /// Sends these requests at the same time.
    pub(super) async fn send(&mut self, all: &[&Vec<Input>]) -> Result<(), Problem> {
        let calls = calls(&lock(&self.heard.frames));
        let around = Arc::clone(&self.around);
        let count = |branch: String| around.count_many(&branch, 1);
        let requests = all.iter();
        let requests = requests.map(|inputs| self.speaker.request(inputs, &calls, &count));
        let mut requests: Vec<Request> = requests.collect();
        requests.retain(|request| !request.events.is_empty());
        if requests.is_empty() {
            self.count("send: nothing to answer");
            return Ok(());
        }
        self.post(requests, TRIES).await
    }

    /// Posts these requests at the same time, each so often at most.
    pub(super) async fn post(
        &mut self,
        requests: Vec<Request>,
        tries: usize,
    ) -> Result<(), Problem> {
        let sent = requests.iter().map(|request| self.try_post(request, tries));
        let answers = futures::future::join_all(sent).await;
        let mut taken = Vec::new();
        for (request, (answer, unanswered)) in requests.into_iter().zip(answers) {
            for _ in 0..unanswered {
                self.doubtful.extend(request.events.iter().cloned());
            }
            let Some(answer) = answer else {
                self.count("send: given up");
                continue;
            };
            if unanswered > 0 {
                self.count("send: answered at another try");
            }
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
            let (accepted, doubtful) = (&self.accepted, &self.doubtful);
            let budgeted = self.budget.is_some();
            let count = |branch: String| self.count(branch);
            let new = take(sent, &echo, accepted, doubtful, budgeted, &count)?;
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

    /// Sends one request until it is answered or given up; says how often it was not answered.
    async fn try_post(&self, request: &Request, tries: usize) -> (Option<Answer>, usize) {
        let path = format!("/v1/sessions/{}/events", self.session);
        let body = json!({"events": request.events});
        for unanswered in 0..tries {
            let answer = self.around.call(Method::POST, &path, Some(&body)).await;
            if let Some(answer) = answer {
                return (Some(answer), unanswered);
            }
            let last = self.fate == Fate::Alive && self.around.random(4) == 0;
            if last && tries == TRIES {
                return (None, unanswered + 1);
            }
            let pause = Duration::from_millis(self.around.random(2_000));
            tokio::time::sleep(pause).await;
        }
        (None, tries)
    }
}
