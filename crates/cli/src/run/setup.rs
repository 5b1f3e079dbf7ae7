//! Where a run starts: a session of its own, or what is known of an old one.

use anyhow::bail;
use manyhands_protocol::agent::Agent;
use manyhands_protocol::environment::Environment;
use manyhands_protocol::event::{Event, EventBody, StopReason};
use manyhands_protocol::session::{Session, SessionStatus};
use manyhands_protocol::{EventId, SessionId};
use serde_json::{Value, json};

use super::args::Args;
use super::calls::Call;
use crate::client::{Client, Error};
use crate::render::Ending;

/// The agent and the environment that this command keeps, so that each run does not leave new ones.
const NAME: &str = "manyhands run";
const MARK: (&str, &str) = ("manyhands", "run");
const MODEL: &str = "claude-opus-4-8";
const SYSTEM: &str = "You are a careful engineer. Work in /workspace, put files that the user wants to keep into \
    /mnt/session/outputs, and check what you made before you say that it is done.";
const TITLE_CHARS: usize = 80;

/// A new session for a task, of the agent and in the environment that were asked for or that this command keeps.
pub(super) async fn create(client: &Client, args: &Args, task: &str) -> Result<Session, Error> {
    let environment = match &args.environment {
        Some(id) => id.to_string(),
        None => own_environment(client).await?.id.to_string(),
    };
    let agent = match &args.agent {
        Some(id) => id.to_string(),
        None => own_agent(client, args.model.as_deref())
            .await?
            .id
            .to_string(),
    };
    let title: String = task
        .lines()
        .next()
        .unwrap_or_default()
        .trim()
        .chars()
        .take(TITLE_CHARS)
        .collect();
    let mut params = json!({
        "agent": agent_param(&agent, args.model.as_deref(), args.system.as_deref()),
        "environment_id": environment,
        "title": title,
    });
    if let Some(budget) = &args.budget {
        params["budget"] = json!(budget);
    }
    client.create_session(&params).await
}

/// The agent by its id, or with what is different in this session (runtime LC-8, LC-9).
fn agent_param(id: &str, model: Option<&str>, system: Option<&str>) -> Value {
    if model.is_none() && system.is_none() {
        return json!(id);
    }
    let mut agent = json!({"type": "agent_with_overrides", "id": id});
    let overrides = [("model", model), ("system", system)];
    for (field, value) in overrides {
        if let Some(value) = value {
            agent[field] = json!(value);
        }
    }
    agent
}

/// The agent that this command keeps. A new one gets the model that is asked for: a server may know no other.
async fn own_agent(client: &Client, model: Option<&str>) -> Result<Agent, Error> {
    let (key, value) = MARK;
    let ours = |agent: &Agent| agent.metadata.get(key).is_some_and(|found| found == value);
    if let Some(agent) = client.find_agent(ours).await? {
        return Ok(agent);
    }
    let params = json!({
        "name": NAME,
        "model": model.unwrap_or(MODEL),
        "system": SYSTEM,
        "tools": [{"type": "agent_toolset_20260401"}],
        "metadata": {key: value},
    });
    client.create_agent(&params).await
}

async fn own_environment(client: &Client) -> Result<Environment, Error> {
    let (key, value) = MARK;
    let ours = |environment: &Environment| {
        let found = environment.metadata.get(key);
        found.is_some_and(|found| found == value)
    };
    if let Some(environment) = client.find_environment(ours).await? {
        return Ok(environment);
    }
    let params = json!({"name": NAME, "metadata": {key: value}});
    client.create_environment(&params).await
}

/// A session at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    /// The event that says so; `None` when the session has not worked yet.
    pub(super) id: Option<EventId>,
    /// Why it rests.
    pub(super) reason: StopReason,
    /// The calls that it waits for.
    pub(super) calls: Vec<Call>,
}

impl Rest {
    /// Whether the client has to answer first.
    pub(super) fn requires_action(&self) -> bool {
        matches!(self.reason, StopReason::RequiresAction { .. })
    }

    /// Whether answers that are about to be sent, or a message, bring the session to say something new. A message
    /// waits behind open calls (runtime SE-14), and answers to calls that are not open have no effect (SE-18).
    pub(super) fn is_moved_by(&self, answers: &[Value], message: bool) -> bool {
        if !self.requires_action() {
            return message;
        }
        let open = |answer: &Value| {
            let call = answer
                .get("tool_use_id")
                .or(answer.get("custom_tool_use_id"));
            self.calls.iter().any(|open| call == Some(&json!(open.id)))
        };
        answers.iter().any(open)
    }

    /// As the stream would have told it.
    pub(super) fn into_ending(self) -> Ending {
        Ending {
            reason: self.reason,
            error: None,
        }
    }
}

/// How a session rests; `None` when it is at work.
///
/// # Errors
/// When the server refuses, or the session has ended and nothing more will come of it.
pub(super) async fn rest(client: &Client, id: &SessionId) -> anyhow::Result<Option<Rest>> {
    match client.session(id).await?.status {
        SessionStatus::Idle => {}
        SessionStatus::Running | SessionStatus::Rescheduling => return Ok(None),
        SessionStatus::Terminated => bail!("session {id} has ended"),
    }
    let mut search = Search::default();
    let mut cursor = None;
    loop {
        let page = client.newest_events(id, cursor.as_deref()).await?;
        let over = page.data.iter().any(|event| search.take(event));
        cursor = page.next_page;
        if over || cursor.is_none() {
            return Ok(Some(search.rest()));
        }
    }
}

/// The newest event that the log counts as past.
pub(super) async fn newest_processed(
    client: &Client,
    id: &SessionId,
) -> Result<Option<EventId>, Error> {
    let mut cursor = None;
    loop {
        let page = client.newest_events(id, cursor.as_deref()).await?;
        let processed = |event: &&Value| !event["processed_at"].is_null();
        let found = page.data.iter().find(processed);
        if let Some(found) = found {
            return Ok(EventId::parse(found["id"].as_str().unwrap_or_default()).ok());
        }
        cursor = page.next_page;
        if cursor.is_none() {
            return Ok(None);
        }
    }
}

/// A walk back through the log, to the last rest and the calls that it names.
#[derive(Debug, Default)]
struct Search {
    found: Option<(EventId, StopReason)>,
    calls: Vec<Call>,
}

impl Search {
    /// Whether an event was the last one that is needed.
    fn take(&mut self, event: &Value) -> bool {
        // A type from tomorrow is neither a rest nor a call.
        let Ok(event) = serde_json::from_value::<Event>(event.clone()) else {
            return false;
        };
        match (&self.found, &event.body) {
            (None, EventBody::SessionStatusIdle { stop_reason, .. }) => {
                self.found = Some((event.id.clone(), stop_reason.clone()));
            }
            (Some(_), _) => self.calls.extend(
                Call::in_event(&event).filter(|call| self.named().any(|named| *named == call.id)),
            ),
            (None, _) => {}
        }
        self.found.is_some() && self.calls.len() == self.named().count()
    }

    fn named(&self) -> impl Iterator<Item = &EventId> {
        let ids = match &self.found {
            Some((_, StopReason::RequiresAction { event_ids })) => event_ids.as_slice(),
            _ => &[],
        };
        ids.iter()
    }

    fn rest(self) -> Rest {
        let (id, reason) = self
            .found
            .map_or((None, StopReason::EndTurn), |(id, reason)| {
                (Some(id), reason)
            });
        Rest {
            id,
            reason,
            calls: self.calls,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lc_8_overrides_are_sent_only_when_asked_for() {
        assert_eq!(agent_param("agent_1", None, None), json!("agent_1"));
        assert_eq!(
            agent_param("agent_1", Some("m"), None),
            json!({"type": "agent_with_overrides", "id": "agent_1", "model": "m"})
        );
        assert_eq!(
            agent_param("agent_1", None, Some("Be brief.")),
            json!({"type": "agent_with_overrides", "id": "agent_1", "system": "Be brief."})
        );
    }

    fn event(id: &str, body: Value) -> Value {
        let mut event = body;
        event["id"] = json!(id);
        event["processed_at"] = json!("2026-11-21T10:00:00Z");
        event
    }

    fn idle(id: &str, reason: Value) -> Value {
        let body =
            json!({"type": "session.status_idle", "stop_reason": reason, "stop_details": null});
        event(id, body)
    }

    fn custom(id: &str) -> Value {
        event(
            id,
            json!({"type": "agent.custom_tool_use", "name": "lookup", "input": {}}),
        )
    }

    #[test]
    fn the_last_rest_is_found_with_the_calls_it_names_and_no_others() {
        let reason = json!({"type": "requires_action", "event_ids": ["sevt_2", "sevt_3"]});
        let newest_first = [
            event("sevt_9", json!({"type": "from.tomorrow"})),
            idle("sevt_8", reason),
            custom("sevt_3"),
            custom("sevt_2"),
            custom("sevt_1"),
            idle("sevt_0", json!({"type": "end_turn"})),
        ];
        let mut search = Search::default();
        let taken = newest_first
            .iter()
            .take_while(|event| !search.take(event))
            .count();
        assert_eq!(taken, 3, "the walk ends at the last call that is named");
        let rest = search.rest();
        assert!(rest.requires_action());
        assert_eq!(rest.id.as_ref().map(EventId::as_str), Some("sevt_8"));
        let calls: Vec<&str> = rest.calls.iter().map(|call| call.id.as_str()).collect();
        assert_eq!(calls, ["sevt_3", "sevt_2"]);
    }

    #[test]
    fn se_14_se_18_only_an_answer_to_an_open_call_moves_a_session_that_waits() {
        let rest = |reason: Value| {
            let mut search = Search::default();
            for event in [idle("sevt_8", reason), custom("sevt_1")] {
                search.take(&event);
            }
            search.rest()
        };
        let answer =
            |id: &str| vec![json!({"type": "user.custom_tool_result", "custom_tool_use_id": id})];
        let waiting = rest(json!({"type": "requires_action", "event_ids": ["sevt_1"]}));
        let done = rest(json!({"type": "end_turn"}));
        for (rest, answers, message, moved) in [
            (&waiting, answer("sevt_1"), false, true),
            (&waiting, answer("sevt_2"), false, false),
            (&waiting, vec![], true, false),
            (&waiting, answer("sevt_2"), true, false),
            (&done, vec![], true, true),
            (&done, answer("sevt_1"), false, false),
        ] {
            assert_eq!(
                rest.is_moved_by(&answers, message),
                moved,
                "{answers:?} {message}"
            );
        }
    }

    #[test]
    fn a_session_that_never_worked_rests_without_an_event() {
        let rest = Search::default().rest();
        assert_eq!((rest.id.as_ref(), rest.requires_action()), (None, false));
    }
}
