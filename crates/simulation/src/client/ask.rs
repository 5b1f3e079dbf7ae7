//! What a client asks of its session, again and again until it is answered.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::Value;

use super::http::text_of;
use super::{Answer, Fate, Life};
use crate::check::Problem;
use crate::model::lock;

impl Life {
    /// Asks until there is an answer; says whether an earlier try may have had its effect.
    pub(super) async fn ask(&self, method: Method, path: &str, body: &Value) -> (Answer, bool) {
        let mut doubtful = false;
        loop {
            let body = (method == Method::POST).then_some(body);
            match self.around.call(method.clone(), path, body).await {
                Some(answer) => return (answer, doubtful),
                None => doubtful = true,
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Whether a request was taken; a refusal must have one of these excuses, or be due to the session's end.
    pub(super) fn taken(
        &self,
        what: &str,
        answer: &Answer,
        excuses: &[&str],
        repeatable: bool,
    ) -> Result<bool, Problem> {
        let outcome = answer.status.as_u16();
        self.count(format!("{what}: {outcome}"));
        let excused = excuses
            .iter()
            .any(|excuse| answer.message().contains(excuse));
        match (answer.status, self.fate) {
            (StatusCode::NOT_FOUND, Fate::Deleted) => Ok(false),
            (StatusCode::OK, Fate::Alive) => Ok(true),
            (StatusCode::OK, Fate::Archived) if repeatable => Ok(true),
            (StatusCode::BAD_REQUEST, Fate::Archived) => Ok(false),
            (StatusCode::BAD_REQUEST, Fate::Alive | Fate::Deleted) if excused => Ok(false),
            _ => Err(format!(
                "{what} of a session that is {:?} is answered with {answer:?}",
                self.fate
            )),
        }
    }

    /// What a server says that the session waits for; empty when the session is gone.
    pub(super) async fn why(&self) -> Result<String, Problem> {
        let path = format!("/v1/manyhands/sessions/{}/why", self.session);
        let (answer, _) = self.ask(Method::GET, &path, &Value::Null).await;
        if answer.status == StatusCode::NOT_FOUND && self.fate == Fate::Deleted {
            return Ok(String::new());
        }
        let (state, sentence) = (
            text_of(&answer.body, "state"),
            text_of(&answer.body, "sentence"),
        );
        if answer.status != StatusCode::OK || state.is_empty() || sentence.is_empty() {
            return Err(format!(
                "what the session waits for is answered with {answer:?}"
            ));
        }
        self.count(format!("why: {state}"));
        Ok(state)
    }

    /// The session's event list, page by page.
    pub(super) async fn events(&self) -> Result<Vec<Value>, Problem> {
        let mut events = Vec::new();
        let mut page = String::new();
        loop {
            let path = format!("/v1/sessions/{}/events?limit=37{page}", self.session);
            let (answer, _) = self.ask(Method::GET, &path, &Value::Null).await;
            if answer.status == StatusCode::NOT_FOUND && self.fate == Fate::Deleted {
                return Ok(events);
            }
            if answer.status != StatusCode::OK {
                return Err(format!("the event list is answered with {answer:?}"));
            }
            events.extend(answer.body["data"].as_array().cloned().unwrap_or_default());
            match answer.body["next_page"].as_str() {
                Some(next) => page = format!("&page={next}"),
                None => return Ok(events),
            }
        }
    }

    /// A list that is read later has all that was heard before (runtime ST-2), each event once.
    pub(super) async fn compare_list(&self) -> Result<(), Problem> {
        let heard: Vec<String> = {
            let frames = lock(&self.heard.frames);
            let events = frames.iter().filter(|frame| frame.position.is_some());
            events.map(|frame| frame.id().to_owned()).collect()
        };
        let listed = self.events().await?;
        if self.fate == Fate::Deleted {
            return Ok(());
        }
        let mut ids: Vec<&str> = listed
            .iter()
            .filter_map(|event| event["id"].as_str())
            .collect();
        let length = ids.len();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() != length {
            return Err("an event is listed twice".to_owned());
        }
        match heard
            .iter()
            .find(|id| ids.binary_search(&id.as_str()).is_err())
        {
            Some(id) => Err(format!("{id} was heard and is not listed")),
            None => Ok(()),
        }
    }
}
