//! A case is lived: its steps are taken, then whatever is open is brought to an end, and a last message is answered.

mod finish;
mod send;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use manyhands_simulation::check::life::Accepted;
use manyhands_simulation::frames::{Call, calls};
use manyhands_simulation::speech::{Speaker, Until, budget, tools};
use serde_json::{Value, json};

use crate::case::{Case, Step};
use crate::heard::Heard;
use crate::model::{SYSTEM, Script, lock};
use crate::world::{Answer, World};

/// How long a session may make no progress.
const PATIENCE: Duration = Duration::from_secs(20);

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
    speaker: Speaker,
}

/// What went wrong.
pub(crate) type Problem = String;

impl Life {
    /// Makes the session of a case. `number` is its own in this world.
    pub(crate) async fn begin(world: &Arc<World>, case: &Case, number: u64) -> Self {
        let script = Script::new(case.replies.clone());
        world.scripts.put(number, Arc::clone(&script));
        let agent = json!({
            "name": "helper", "model": "m", "system": format!("{SYSTEM}{number}"), "tools": tools(false, false),
        });
        let agent = world.post("/v1/agents", &agent).await.ok();
        let (speaker, initial) = Speaker::new(number, case.initial);
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
            speaker,
        }
    }

    /// Takes a step.
    pub(crate) async fn step(&mut self, step: &Step) -> Result<(), Problem> {
        self.world.count(format!("step: {}", name_of(step)));
        match step {
            Step::Send(inputs) => self.send(&[inputs]).await?,
            Step::SendBoth(some, others) => self.send(&[some, others]).await?,
            Step::Rename => {
                self.update(self.speaker.title(), &[]).await?;
            }
            Step::ChangeTools => {
                let tools = json!({"agent": {"tools": tools(!self.retooled, false)}});
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
    async fn wait(&self, until: Until) -> Result<(), Problem> {
        let so_far = *self.heard.count.borrow();
        let heard = &self.heard;
        let reached = |life: &Self| match until {
            Until::Events(more) => *heard.count.borrow() >= so_far + more,
            Until::OpenCall => calls(&lock(&heard.frames)).iter().any(Call::waits),
            Until::Asked => *life.script.asked.borrow() > 0,
            Until::Rest => false,
        };
        let over = |life: &Self| reached(life) || heard.rests() || *life.script.stuck.borrow() > 0;
        self.until(over, "nothing happens").await?;
        let met = if reached(self) { "reached" } else { "in vain" };
        self.world.count(format!("wait: {met}"));
        self.why().await.map(drop)
    }

    /// What the server says that the session waits for; empty when the session is gone.
    async fn why(&self) -> Result<String, Problem> {
        let path = format!("/v1/manyhands/sessions/{}/why", self.session);
        let answer = self.world.get(&path).await;
        if answer.status == StatusCode::NOT_FOUND && self.fate == Fate::Deleted {
            return Ok(String::new());
        }
        let state = answer.body["state"].as_str().unwrap_or_default();
        let sentence = answer.body["sentence"].as_str().unwrap_or_default();
        if answer.status != StatusCode::OK || state.is_empty() || sentence.is_empty() {
            return Err(format!(
                "what the session waits for is answered with {answer:?}"
            ));
        }
        self.world.count(format!("why: {state}"));
        Ok(state.to_owned())
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
