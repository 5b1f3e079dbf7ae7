//! A client and its session: its steps are taken, then whatever is open is brought to an end, and a last message is
//! answered. An answer that does not come leaves open what became of a request: like the official clients, it asks again.
//!
//! The same client lives in this simulation and in the interleavings of the server's tests; what differs between them is
//! in [`Surroundings`].

mod ask;
pub mod branches;
mod finish;
mod heard;
mod http;
mod send;
mod surroundings;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use ::http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::check::Problem;
use crate::check::life::Accepted;
use crate::frames::{Call, calls};
use crate::model::{SYSTEM, Script, lock};
use crate::servers::servers;
use crate::speech::{Speaker, Until, budget, tools};
use crate::story::{Step, Story};
use crate::witness::Witness;
use heard::Heard;

pub(crate) use http::text_of;
pub use http::{Answer, insist, request, stream_path, whole};
pub use surroundings::{Stream, Surroundings, Times, frames};

/// More than there are stories in a simulated world: what lies between the numbers of sessions of the same story.
const TWINS: u64 = 100;

/// What became of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It can be spoken to.
    Alive,
    /// It can be read.
    Archived,
    /// It is gone.
    Deleted,
}

/// A session and all that its client knows of it.
pub struct Life {
    session: String,
    fate: Fate,
    around: Arc<dyn Surroundings>,
    script: Arc<Script>,
    heard: Arc<Heard>,
    witness: Witness,
    /// In the order in which they were taken.
    accepted: Vec<Accepted>,
    /// Events that were sent and may be there or not, once for each time.
    doubtful: Vec<Value>,
    /// Whether the tools were changed, so that requests begin differently.
    retooled: bool,
    /// Messages that the session was made with.
    initial: usize,
    /// The budget it was made with, in cents.
    budget: Option<u64>,
    /// Whether its agent has an MCP server.
    letters: bool,
    number: u64,
    speaker: Speaker,
}

impl Life {
    /// Makes the session of a story. `number` is its own in these surroundings.
    ///
    /// # Errors
    ///
    /// The server refuses to make it, or gives it no id.
    pub async fn begin<S>(
        around: Arc<dyn Surroundings>,
        story: &Story<S>,
        number: u64,
    ) -> Result<Self, Problem> {
        let mut voice = number;
        let (session, script, speaker) = loop {
            let script = Script::new(story.replies.clone());
            around.scripts().put(voice, Arc::clone(&script));
            let mut agent = json!({
                "name": "helper", "model": "m", "system": format!("{SYSTEM}{voice}"),
                "tools": tools(false, story.letters),
            });
            if story.letters {
                agent["mcp_servers"] = servers(voice);
            }
            let agent = insist(&*around, "/v1/agents", &agent).await?;
            let (speaker, initial) = Speaker::new(voice, story.initial);
            let mut session = json!({
                "agent": agent["id"], "environment_id": around.environment(), "initial_events": initial,
            });
            if let Some(cents) = story.budget {
                session["budget"] = budget(cents);
            }
            match around
                .call(Method::POST, "/v1/sessions", Some(&session))
                .await
            {
                Some(answer) if answer.status == StatusCode::OK => {
                    let session = text_of(&answer.body, "id");
                    script.belongs_to(&session);
                    break (session, script, speaker);
                }
                Some(answer) => return Err(format!("a creation is answered with {answer:?}")),
                // It may have been made nevertheless: what its model and its tools do is not to be mixed up.
                None => {
                    around.count_many("creation: asked for again", 1);
                    script.calm();
                    voice += TWINS;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        Ok(Self {
            heard: Heard::listen(&around, &session),
            witness: Witness::new(&session)?,
            fate: Fate::Alive,
            accepted: Vec::new(),
            doubtful: Vec::new(),
            retooled: false,
            initial: story.initial,
            budget: story.budget,
            letters: story.letters,
            around,
            session,
            script,
            number,
            speaker,
        })
    }

    /// The session's id.
    pub fn session(&self) -> &str {
        &self.session
    }

    /// What became of the session.
    pub fn fate(&self) -> Fate {
        self.fate
    }

    /// Takes a step, then looks at the log.
    ///
    /// # Errors
    ///
    /// An answer, or the log, is not what it must be.
    pub async fn step(&mut self, step: &Step) -> Result<(), Problem> {
        self.count(format!("step: {}", step.name()));
        self.around
            .note("step", &format!("{} {step:?}", self.number));
        self.take(step).await?;
        self.look().await
    }

    async fn take(&mut self, step: &Step) -> Result<(), Problem> {
        match step {
            Step::Send(inputs) => self.send(&[inputs]).await?,
            Step::SendBoth(some, others) => self.send(&[some, others]).await?,
            Step::Rename => {
                self.update(self.speaker.title(), &[]).await?;
            }
            Step::ChangeTools => {
                let tools = json!({"agent": {"tools": tools(!self.retooled, self.letters)}});
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
    ///
    /// # Errors
    ///
    /// What is wrong with it, or with the stream.
    pub async fn look(&mut self) -> Result<(), Problem> {
        let store = self.around.store().await;
        self.witness.look(&store).await?;
        if let Some(status) = &*lock(&self.heard.refused) {
            return Err(format!("the stream is refused with {status}"));
        }
        Ok(())
    }

    async fn delete(&mut self) -> Result<(), Problem> {
        let path = format!("/v1/sessions/{}", self.session);
        let (answer, doubtful) = self.ask(Method::DELETE, &path, &Value::Null).await;
        if doubtful && answer.status == StatusCode::NOT_FOUND {
            self.count("delete: found to be done");
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
        self.count(format!("wait: {met}"));
        self.why().await.map(drop)
    }

    /// Waits until something is so; at most for as long as a session may make no progress.
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
            let patience = self.around.times().patience;
            if tokio::time::timeout(patience, something).await.is_err() {
                return Err(problem.to_owned());
            }
        }
    }

    /// Counts a branch.
    fn count(&self, branch: impl Into<String>) {
        self.around.count_many(&branch.into(), 1);
    }
}
