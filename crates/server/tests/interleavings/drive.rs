//! A case is lived: its steps are taken, then whatever is open is brought to an end, and a last message is answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use manyhands_protocol::EventId;
use serde_json::{Value, json};

use crate::case::{Case, Input, Step, Target, Until};
use crate::heard::{Asks, Heard};
use crate::model::{SYSTEM, Script};
use crate::world::{Answer, World};

/// How long a session may make no progress.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often to look at the store when nothing is heard: what a look finds may be nothing that streams tell.
const LOOK: Duration = Duration::from_millis(20);

/// An event that the server took.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    /// The id it was given.
    pub(crate) id: String,
    /// As it was sent.
    pub(crate) sent: Value,
    /// Whether it may be without a trace: an interrupt of a session that rests at its budget (runtime IN-9).
    pub(crate) traceless: bool,
}

/// What became of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Alive,
    Archived,
    Deleted,
}

/// A session and all that a client knows of it.
pub(crate) struct Life {
    pub(crate) world: Arc<World>,
    pub(crate) session: String,
    pub(crate) script: Arc<Script>,
    pub(crate) heard: Arc<Heard>,
    /// In the order in which they were taken.
    pub(crate) accepted: Vec<Accepted>,
    pub(crate) fate: Fate,
    /// Whether the tools were changed, so that requests begin differently.
    pub(crate) retooled: bool,
    /// The budget it was made with, in cents.
    pub(crate) budget: Option<u64>,
    number: u64,
    said: usize,
}

/// What went wrong.
pub(crate) type Problem = String;

impl Life {
    /// Makes the session of a case. `number` is its own in this world.
    pub(crate) async fn begin(world: &Arc<World>, case: &Case, number: u64) -> Self {
        let script = Script::new(case.replies.clone());
        world.scripts.put(number, Arc::clone(&script));
        let agent = json!({
            "name": "helper", "model": "m", "system": format!("{SYSTEM}{number}"), "tools": tools(false),
        });
        let agent = world.post("/v1/agents", &agent).await.ok();
        let initial: Vec<Value> = (0..case.initial)
            .map(|said| message(number, said))
            .collect();
        let mut session = json!({
            "agent": agent["id"], "environment_id": world.environment(), "initial_events": initial,
        });
        if let Some(cents) = case.budget {
            session["budget"] = budget(cents);
        }
        let session = world.post("/v1/sessions", &session).await.ok();
        let session = session["id"].as_str().expect("an id").to_owned();
        script.belongs_to(&session);
        Self {
            heard: Heard::listen(world, &session),
            world: Arc::clone(world),
            session,
            script,
            accepted: Vec::new(),
            fate: Fate::Alive,
            retooled: false,
            budget: case.budget,
            number,
            said: case.initial,
        }
    }

    /// Takes a step.
    pub(crate) async fn step(&mut self, step: &Step) -> Result<(), Problem> {
        self.world.count(format!("step: {}", name_of(step)));
        match step {
            Step::Send(inputs) => self.send(&[inputs]).await?,
            Step::SendBoth(some, others) => self.send(&[some, others]).await?,
            Step::Rename => {
                let title = json!({"title": format!("title {}", self.said)});
                self.update(title, &[]).await?;
            }
            Step::ChangeTools => {
                let tools = json!({"agent": {"tools": tools(!self.retooled)}});
                self.retooled |= self.update(tools, &["idle"]).await?;
            }
            Step::SetBudget(cents) => {
                let excuses = ["must be greater", "can only be set when"];
                self.update(json!({"budget": budget(*cents)}), &excuses)
                    .await?;
            }
            Step::RemoveBudget => {
                self.update(json!({"budget": null}), &[]).await?;
            }
            Step::Archive => {
                let path = format!("/v1/sessions/{}/archive", self.session);
                let answer = self.world.post(&path, &json!({})).await;
                if self.taken("archive", &answer, &["cannot be archived"], true)? {
                    self.fate = Fate::Archived;
                }
            }
            Step::Delete => {
                let path = format!("/v1/sessions/{}", self.session);
                let answer = self.world.delete(&path).await;
                if self.taken("delete", &answer, &["cannot be deleted"], true)? {
                    self.fate = Fate::Deleted;
                }
            }
            Step::Await(until) => self.wait(*until).await?,
            Step::Restart => self.world.restart(false).await,
            Step::Crash => self.world.restart(true).await,
            Step::CrashAt(point, nth) => self.world.crash_at(&self.session, point, *nth),
            Step::LoseSandbox => self.world.hands.lose(&self.session),
            Step::LetGo => self.script.let_go(),
        }
        Ok(())
    }

    async fn update(&self, body: Value, excuses: &[&str]) -> Result<bool, Problem> {
        let path = format!("/v1/sessions/{}", self.session);
        let answer = self.world.post(&path, &body).await;
        self.taken("update", &answer, excuses, false)
    }

    /// Whether a request was taken; a refusal must have one of these excuses, or be due to the session's end.
    fn taken(
        &self,
        what: &str,
        answer: &Answer,
        excuses: &[&str],
        repeatable: bool,
    ) -> Result<bool, Problem> {
        let outcome = answer.status.as_u16();
        self.world.count(format!("{what}: {outcome}"));
        match (answer.status, self.fate) {
            (StatusCode::NOT_FOUND, Fate::Deleted) => Ok(false),
            (StatusCode::OK, Fate::Alive) => Ok(true),
            (StatusCode::OK, Fate::Archived) if repeatable => Ok(true),
            (StatusCode::BAD_REQUEST, Fate::Archived) => Ok(false),
            (StatusCode::BAD_REQUEST, Fate::Alive | Fate::Deleted)
                if excuses
                    .iter()
                    .any(|excuse| answer.message().contains(excuse)) =>
            {
                Ok(false)
            }
            _ => Err(format!(
                "{what} of a session that is {:?} is answered with {answer:?}",
                self.fate
            )),
        }
    }

    /// Sends these requests at the same time.
    async fn send(&mut self, all: &[&Vec<Input>]) -> Result<(), Problem> {
        let mut requests = Vec::new();
        for inputs in all {
            let mut request = Request::of(Vec::new());
            for input in *inputs {
                if let Some(event) = self.spell(*input) {
                    request.wrong |=
                        matches!(input, Input::Answer(Target::NotAsked | Target::Unknown));
                    request.events.push(event);
                }
            }
            requests.push(request);
        }
        requests.retain(|request| !request.events.is_empty());
        if requests.is_empty() {
            self.world.count("send: nothing to answer");
            return Ok(());
        }
        self.post(requests).await
    }

    async fn post(&mut self, requests: Vec<Request>) -> Result<(), Problem> {
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
            let events = request.events;
            if request.wrong {
                return Err(format!("{events:?} is taken: {}", answer.body));
            }
            let echoes = answer.body["data"].as_array().cloned().unwrap_or_default();
            if echoes.len() != events.len() {
                return Err(format!("{events:?} is answered with {}", answer.body));
            }
            taken.extend(events.into_iter().zip(echoes));
        }
        // Of two answers to a call, the one that was the first is taken note of first.
        taken.sort_by_key(|(sent, echo)| !shows(echo, sent));
        let before = self.accepted.len();
        for (sent, echo) in taken {
            self.take(sent, &echo)?;
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

    fn take(&mut self, sent: Value, echo: &Value) -> Result<(), Problem> {
        let id = echo["id"].as_str().unwrap_or_default();
        let answered = answered_call(&sent);
        let mut earlier = self.accepted.iter();
        let earlier =
            earlier.find(|earlier| answered.is_some() && answered_call(&earlier.sent) == answered);
        match earlier {
            Some(earlier) if earlier.id == id => self.world.count("send: answered before"),
            Some(earlier) => {
                return Err(format!(
                    "{sent} is answered with {echo} and not with the first answer {}",
                    earlier.id
                ));
            }
            // A call that an interrupt answered is echoed as that answer.
            None if echo["type"] == "agent.tool_result" => {
                self.world.count("send: answered by the server");
            }
            None if !shows(echo, &sent) => return Err(format!("{sent} is echoed as {echo}")),
            None => {
                let kind = sent["type"].as_str().unwrap_or_default();
                self.world.count(format!("taken: {kind}"));
                self.accepted.push(Accepted {
                    id: id.to_owned(),
                    traceless: kind == "user.interrupt" && self.budget.is_some(),
                    sent,
                });
            }
        }
        Ok(())
    }

    /// An event as it is sent; `None` when there is nothing to answer.
    fn spell(&mut self, input: Input) -> Option<Value> {
        match input {
            Input::Message => {
                self.said += 1;
                Some(message(self.number, self.said))
            }
            Input::System => {
                self.said += 1;
                let mut event = message(self.number, self.said);
                event["type"] = json!("system.message");
                Some(event)
            }
            Input::Interrupt => Some(json!({"type": "user.interrupt"})),
            Input::Answer(target) => {
                let mut calls = self.heard.calls();
                match target {
                    Target::Open => {
                        calls.retain(|call| call.kind != Asks::Nothing && !call.answered);
                    }
                    Target::Answered => {
                        calls.retain(|call| call.kind != Asks::Nothing && call.answered);
                    }
                    Target::NotAsked => calls.retain(|call| call.kind == Asks::Nothing),
                    Target::Unknown => {
                        self.world.count("answer: Unknown");
                        return Some(result(EventId::generate().as_str()));
                    }
                }
                self.said += 1;
                let call = calls.get(self.said % calls.len().max(1))?;
                self.world.count(format!("answer: {target:?}"));
                Some(self.answer(&call.id, call.kind))
            }
        }
    }

    /// An answer to a call.
    fn answer(&self, call: &str, kind: Asks) -> Value {
        match kind {
            Asks::Confirmation if self.said.is_multiple_of(3) => json!({
                "type": "user.tool_confirmation", "tool_use_id": call, "result": "deny",
                "deny_message": "not now",
            }),
            Asks::Confirmation => {
                json!({"type": "user.tool_confirmation", "tool_use_id": call, "result": "allow"})
            }
            Asks::Result | Asks::Nothing => result(call),
        }
    }

    async fn wait(&self, until: Until) -> Result<(), Problem> {
        let so_far = *self.heard.count.borrow();
        let heard = &self.heard;
        let reached = |life: &Self| match until {
            Until::Events(more) => *heard.count.borrow() >= so_far + more,
            Until::OpenCall => {
                let mut calls = heard.calls().into_iter();
                calls.any(|call| call.kind != Asks::Nothing && !call.answered)
            }
            Until::Asked => *life.script.asked.borrow() > 0,
            Until::Rest => false,
        };
        let over = |life: &Self| reached(life) || heard.rests() || *life.script.stuck.borrow() > 0;
        self.until(over, "nothing happens").await?;
        let met = if reached(self) { "reached" } else { "in vain" };
        self.world.count(format!("wait: {met}"));
        Ok(())
    }

    /// Waits until something is so; at most as long as nothing is heard for [`PATIENCE`].
    async fn until(&self, so: impl Fn(&Self) -> bool, problem: &str) -> Result<(), Problem> {
        let mut count = self.heard.count.subscribe();
        let mut stuck = self.script.stuck.subscribe();
        let mut asked = self.script.asked.subscribe();
        let mut deleted = self.heard.deleted.subscribe();
        loop {
            if so(self) || *self.heard.deleted.borrow() {
                return Ok(());
            }
            let something = async {
                tokio::select! {
                    _ = count.changed() => {}
                    _ = stuck.changed() => {}
                    _ = asked.changed() => {}
                    _ = deleted.changed() => {}
                }
            };
            if tokio::time::timeout(PATIENCE, something).await.is_err() {
                return Err(problem.to_owned());
            }
        }
    }

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
        if self.fate == Fate::Archived {
            return Ok(());
        }
        self.said += 1;
        let last = message(self.number, self.said);
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
        if !answered || end != Some(&json!("end_turn")) {
            return Err("the last message is not answered".to_owned());
        }
        Ok(())
    }

    /// Until the session is at rest with nothing open; what it asks for, it gets.
    async fn settle(&mut self) -> Result<(), Problem> {
        let mut count = self.heard.count.subscribe();
        let mut quiet = Instant::now();
        loop {
            count.mark_unchanged();
            let status = self.status().await?;
            let calls = self.heard.calls().into_iter();
            let open: Vec<_> = calls
                .filter(|call| call.kind != Asks::Nothing && !call.answered)
                .collect();
            if status == "terminated" {
                if self.fate != Fate::Archived {
                    return Err("the session ended by itself".to_owned());
                }
                let told = |life: &Self| {
                    life.heard.status().as_deref() == Some("session.status_terminated")
                };
                return self.until(told, "the end is not told").await;
            }
            if status == "idle" && !open.is_empty() {
                self.said += 1;
                let answers = open.iter().map(|call| self.answer(&call.id, call.kind));
                self.post(vec![Request::of(answers.collect())]).await?;
                quiet = Instant::now();
                continue;
            }
            if status == "idle" && self.rests().await? {
                return Ok(());
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

    /// Whether nothing is queued, the log ends with an idle, and all of it was heard.
    async fn rests(&self) -> Result<bool, Problem> {
        let events = self.events().await?;
        let queued = events.iter().any(|event| event["processed_at"].is_null());
        let last = events.iter().rev();
        let last = last.map(|event| event["type"].as_str().unwrap_or_default());
        let last = last
            .filter(|kind| kind.starts_with("session.status_"))
            .find(|_| true);
        let told = events.iter().all(|event| {
            let id = event["id"].as_str().unwrap_or_default();
            self.heard.has(id)
        });
        Ok(!queued && told && last.is_none_or(|kind| kind == "session.status_idle"))
    }

    /// The session's event list, page by page.
    pub(crate) async fn events(&self) -> Result<Vec<Value>, Problem> {
        let mut events = Vec::new();
        let mut page = String::new();
        loop {
            let path = format!("/v1/sessions/{}/events?limit=37{page}", self.session);
            let answer = self.world.get(&path).await;
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

/// The events of one request.
struct Request {
    events: Vec<Value>,
    /// Whether one of them must be refused, and with it all (runtime HT-15).
    wrong: bool,
}

impl Request {
    fn of(events: Vec<Value>) -> Self {
        let wrong = false;
        Self { events, wrong }
    }

    /// What a refusal may say.
    fn excuses(&self, budgeted: bool) -> Vec<&'static str> {
        let mut excuses = Vec::new();
        if self.wrong {
            excuses.push("events[");
        }
        if self.events.len() > 1 {
            excuses.push("answers this call differently");
        }
        if budgeted {
            excuses.push("has reached its budget");
        }
        if self
            .events
            .iter()
            .any(|event| event["type"] == "system.message")
        {
            excuses.push("system.message");
        }
        excuses
    }
}

/// Whether an event has all members of another, as they are.
fn shows(event: &Value, sent: &Value) -> bool {
    let mut members = sent.as_object().into_iter().flatten();
    members.all(|(member, value)| event[member] == *value)
}

/// The call that an event answers.
fn answered_call(event: &Value) -> Option<&str> {
    let names = ["tool_use_id", "custom_tool_use_id"];
    names.iter().find_map(|name| event[*name].as_str())
}

fn name_of(step: &Step) -> &'static str {
    match step {
        Step::Send(_) => "send",
        Step::SendBoth(..) => "send both",
        Step::Rename => "rename",
        Step::ChangeTools => "change tools",
        Step::SetBudget(_) => "set the budget",
        Step::RemoveBudget => "remove the budget",
        Step::Archive => "archive",
        Step::Delete => "delete",
        Step::Await(Until::Events(_)) => "await events",
        Step::Await(Until::OpenCall) => "await an open call",
        Step::Await(Until::Asked) => "await a request",
        Step::Await(Until::Rest) => "await rest",
        Step::Restart => "restart",
        Step::Crash => "crash",
        Step::CrashAt(point, _) => point,
        Step::LoseSandbox => "lose the sandbox",
        Step::LetGo => "let go",
    }
}

/// A message that no other message of any case is equal to.
fn message(number: u64, said: usize) -> Value {
    let text = format!("message {said} of case {number}.");
    json!({"type": "user.message", "content": [{"type": "text", "text": text}]})
}

fn result(call: &str) -> Value {
    json!({
        "type": "user.custom_tool_result", "custom_tool_use_id": call,
        "content": [{"type": "text", "text": "so it is"}],
    })
}

fn budget(cents: u64) -> Value {
    json!({"type": "limit", "max_list_cost": {"amount": cents.to_string(), "currency": "USD"}})
}

/// The tools of the agents; or others, for a change.
fn tools(other: bool) -> Value {
    let client = json!({
        "type": "custom", "name": "ask_client", "description": if other { "Asks again." } else { "Asks." },
        "input_schema": {"type": "object", "properties": {"question": {"type": "string"}}},
    });
    let (asks, allows) = (
        json!({"type": "always_ask"}),
        json!({"type": "always_allow"}),
    );
    let (bash, write) = if other {
        (asks, allows)
    } else {
        (allows, asks)
    };
    let configs = json!([
        {"name": "grep", "enabled": false},
        {"name": "bash", "permission_policy": bash},
        {"name": "write", "permission_policy": write},
        {"name": "edit", "permission_policy": {"type": "auto"}},
    ]);
    json!([{"type": "agent_toolset_20260401", "configs": configs}, client])
}
