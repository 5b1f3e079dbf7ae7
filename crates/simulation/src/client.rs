//! A client and its session: its steps are taken, then whatever is open is brought to an end, and a last message is
//! answered. An answer that does not come leaves open what became of a request: like the official clients, it asks again.

mod finish;
pub(crate) mod heard;
mod send;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::check::Problem;
use crate::check::life::Accepted;
use crate::frames::{Call, calls};
use crate::model::{SYSTEM, Script, lock};
use crate::plan::{Step, Story};
use crate::servers::servers;
use crate::speech::{Speaker, Until, budget, tools};
use crate::witness::Witness;
use crate::world::{Answer, World, text_of};
use heard::Heard;

/// How long a session may make no progress: longer than all faults together.
const PATIENCE: Duration = Duration::from_secs(400);

/// More than there are stories in a world: what lies between the numbers of sessions of the same story.
const TWINS: u64 = 100;

/// What became of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Alive,
    Archived,
    Deleted,
}

/// A session and all that its client knows of it.
pub(crate) struct Life {
    pub(crate) session: String,
    pub(crate) fate: Fate,
    world: Arc<World>,
    story: Story,
    script: Arc<Script>,
    heard: Arc<Heard>,
    witness: Witness,
    /// In the order in which they were taken.
    accepted: Vec<Accepted>,
    /// Events that were sent and may be there or not, once for each time.
    doubtful: Vec<Value>,
    /// Whether the tools were changed, so that requests begin differently.
    retooled: bool,
    number: u64,
    speaker: Speaker,
}

impl Life {
    /// Makes the session of a story. `number` is its own in this world.
    pub(crate) async fn begin(
        world: &Arc<World>,
        story: Story,
        number: u64,
    ) -> Result<Self, Problem> {
        let mut voice = number;
        let (session, script, speaker) = loop {
            let script = Script::new(story.replies.clone());
            world.scripts.put(voice, Arc::clone(&script));
            let mut agent = json!({
                "name": "helper", "model": "m", "system": format!("{SYSTEM}{voice}"),
                "tools": tools(false, story.letters),
            });
            if story.letters {
                agent["mcp_servers"] = servers(voice);
            }
            let agent = world.insist("/v1/agents", &agent).await;
            let (speaker, initial) = Speaker::new(voice, story.initial);
            let mut session = json!({
                "agent": agent["id"], "environment_id": world.environment(), "initial_events": initial,
            });
            if let Some(cents) = story.budget {
                session["budget"] = budget(cents);
            }
            match world
                .call(Method::POST, "/v1/sessions", Some(&session))
                .await
            {
                Some(answer) if answer.status == StatusCode::OK => {
                    let session = text_of(&answer.body, "id");
                    script.belongs_to(&session);
                    break (session, script, speaker);
                }
                // It may have been made nevertheless: what its model and its tools do is not to be mixed up.
                _ => {
                    world.count("creation: asked for again");
                    script.calm();
                    voice += TWINS;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        Ok(Self {
            heard: Heard::listen(world, &session),
            witness: Witness::new(&session)?,
            world: Arc::clone(world),
            speaker,
            fate: Fate::Alive,
            accepted: Vec::new(),
            doubtful: Vec::new(),
            retooled: false,
            session,
            story,
            script,
            number,
        })
    }

    /// Takes all steps; after each one the log is looked at.
    pub(crate) async fn live(&mut self) -> Result<(), Problem> {
        for step in self.story.steps.clone() {
            self.world.count(format!("step: {}", step.name()));
            self.world
                .note("step", &format!("{} {step:?}", self.number));
            self.step(&step).await?;
            self.look().await?;
        }
        Ok(())
    }

    async fn step(&mut self, step: &Step) -> Result<(), Problem> {
        match step {
            Step::Send(inputs) => self.send(&[inputs]).await?,
            Step::SendBoth(some, others) => self.send(&[some, others]).await?,
            Step::Rename => {
                self.update(self.speaker.title(), &[]).await?;
            }
            Step::ChangeTools => {
                let tools = json!({"agent": {"tools": tools(!self.retooled, self.story.letters)}});
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
                let (answer, _) = self.ask(Method::POST, &path, &json!({})).await;
                if self.taken("archive", &answer, &["cannot be archived"], true)? {
                    self.fate = Fate::Archived;
                }
            }
            Step::Delete => self.delete().await?,
            Step::Await(until) => self.wait(*until).await?,
            Step::Wait(millis) => tokio::time::sleep(Duration::from_millis(*millis)).await,
            Step::Reconnect => self.heard.reconnect(),
            Step::List => self.compare_list().await?,
            Step::LetGo => self.script.let_go(),
        }
        Ok(())
    }

    /// Looks at the log: what must be true at any moment.
    pub(crate) async fn look(&mut self) -> Result<(), Problem> {
        self.witness.look(&self.world.observer).await?;
        if let Some(status) = &*lock(&self.heard.refused) {
            return Err(format!("the stream is refused with {status}"));
        }
        Ok(())
    }

    /// Asks until there is an answer; says whether an earlier try may have had its effect.
    async fn ask(&self, method: Method, path: &str, body: &Value) -> (Answer, bool) {
        let mut doubtful = false;
        loop {
            let body = (method == Method::POST).then_some(body);
            match self.world.call(method.clone(), path, body).await {
                Some(answer) => return (answer, doubtful),
                None => doubtful = true,
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn delete(&mut self) -> Result<(), Problem> {
        let path = format!("/v1/sessions/{}", self.session);
        let (answer, doubtful) = self.ask(Method::DELETE, &path, &Value::Null).await;
        if doubtful && answer.status == StatusCode::NOT_FOUND {
            self.world.count("delete: found to be done");
            self.fate = Fate::Deleted;
        } else if self.taken("delete", &answer, &["cannot be deleted"], true)? {
            self.fate = Fate::Deleted;
        }
        Ok(())
    }

    async fn update(&self, body: Value, excuses: &[&str]) -> Result<bool, Problem> {
        let path = format!("/v1/sessions/{}", self.session);
        let (answer, _) = self.ask(Method::POST, &path, &body).await;
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
        self.why().await.map(drop)
    }

    /// What a server says that the session waits for; empty when the session is gone.
    async fn why(&self) -> Result<String, Problem> {
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
        self.world.count(format!("why: {state}"));
        Ok(state)
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
                    biased;
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
    async fn events(&self) -> Result<Vec<Value>, Problem> {
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
    async fn compare_list(&self) -> Result<(), Problem> {
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
