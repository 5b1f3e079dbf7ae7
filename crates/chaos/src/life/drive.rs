//! What a client does with its session: says things, answers, interrupts, and sees that it comes to rest.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::Method;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::{Asked, Life, at_rest};
use crate::check::{self, Sent, Story, Violation};
use crate::plan::{self, Plan};
use crate::tail;
use crate::world::{Past, World, lock};

/// How long a session may take to come to rest, kills and all, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a client looks by itself, beside its stream.
const LOOK: Duration = Duration::from_secs(1);

/// How long a write may take that nobody waits for any more.
const LATE: Duration = Duration::from_millis(300);

/// The stream of a session, which ends with its client.
struct Ears(JoinHandle<()>);

impl Drop for Ears {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Lives one session from its creation to its end.
pub(crate) async fn live(world: &Arc<World>, dice: &mut StdRng) -> Result<(), Violation> {
    let Some(life) = create(world, dice).await? else {
        return Ok(());
    };
    let life = Arc::new(life);
    lock(&world.lives).push(Arc::clone(&life));
    let ears = Ears(tokio::spawn(tail::follow(
        Arc::clone(world),
        Arc::clone(&life),
    )));
    let lived = turns(world, &life, dice).await;
    lived.map_err(|violation| format!("{violation} (session {})", life.session))?;
    lock(&world.lives).retain(|other| !Arc::ptr_eq(other, &life));
    drop(ears);
    Ok(())
}

/// A new session, at times with a first message; `None` when it is not known whether there is one.
async fn create(world: &World, dice: &mut StdRng) -> Result<Option<Life>, Violation> {
    let wish = dice.random_range(0..16);
    let agents = &world.agents;
    let agent = match dice.random_bool(0.3) {
        true => &agents.asking,
        false => &agents.free,
    };
    let mut body = json!({"agent": agent, "environment_id": agents.environment});
    if dice.random_bool(0.3) {
        body["initial_events"] = json!([message(world, dice)]);
    }
    let Some(answer) = world
        .ask(wish, Method::POST, "/v1/sessions", Some(&body))
        .await?
    else {
        world.count("creations without an answer");
        return Ok(None);
    };
    if answer.status != 200 {
        return Err(format!("a session was refused: {answer}"));
    }
    world.count("sessions");
    let session = answer.json()["id"].as_str().unwrap_or_default().to_owned();
    Ok(Some(Life::new(session, wish)))
}

fn message(world: &World, dice: &mut StdRng) -> Value {
    let number = world.next_message();
    world.model.learn(number, Plan::draw(dice));
    json!({"type": "user.message", "content": [{"type": "text", "text": plan::message_text(number)}]})
}

/// The turns of a session, and its end.
async fn turns(world: &World, life: &Life, dice: &mut StdRng) -> Result<(), Violation> {
    for _ in 0..dice.random_range(1..=3) {
        let event = message(world, dice);
        life.send(world, event).await?;
        if dice.random_bool(0.3) {
            pause(dice, 200).await;
            let event = message(world, dice);
            life.send(world, event).await?;
        }
        if dice.random_bool(0.15) {
            pause(dice, 300).await;
            life.send(world, json!({"type": "user.interrupt"})).await?;
        }
        life.settle(world, dice).await?;
    }
    let listed = life.finish(world).await?;
    let path = format!("/v1/sessions/{}", life.session);
    let past = match dice.random_range(0..10) {
        0..5 => {
            life.ending.store(true, Ordering::SeqCst);
            // A deletion whose answer was lost may have been made.
            let answer = world.insist(life.wish, Method::DELETE, &path, None).await?;
            if !matches!(answer.status, 200 | 404) {
                return Err(format!("a deletion was refused: {answer}"));
            }
            world.count("deletions");
            Past::Deleted {
                session: life.session.clone(),
            }
        }
        5..7 => {
            let path = format!("{path}/archive");
            let answer = world.insist(life.wish, Method::POST, &path, None).await?;
            if answer.status != 200 {
                return Err(format!("an archival was refused: {answer}"));
            }
            world.count("archivals");
            let after = world.list(life.wish, &life.session).await?;
            let after = after.ok_or_else(|| "I1: the session is gone".to_owned())?;
            check::goes_on(&listed, &after)?;
            Past::Kept {
                session: life.session.clone(),
                archived: true,
                listed: after,
            }
        }
        _ => Past::Kept {
            session: life.session.clone(),
            archived: false,
            listed,
        },
    };
    lock(&world.past).push(past);
    Ok(())
}

async fn pause(dice: &mut StdRng, millis: u64) {
    // Clients take their time, so that kills fall between what they do.
    sleep(Duration::from_millis(dice.random_range(0..millis))).await;
}

impl Life {
    /// Sends an event and remembers it if the answer says yes.
    async fn send(&self, world: &World, event: Value) -> Result<(), Violation> {
        let path = format!("/v1/sessions/{}/events", self.session);
        let body = json!({"events": [event]});
        let Some(answer) = world
            .ask(self.wish, Method::POST, &path, Some(&body))
            .await?
        else {
            world.count("events without an answer");
            // The database may still be about to commit what a dead server has asked of it.
            sleep(LATE).await;
            return Ok(());
        };
        if answer.status != 200 {
            return Err(format!("{event} was refused: {answer}"));
        }
        let echo = answer.json();
        let id = echo["data"][0]["id"].as_str();
        let id = id.ok_or_else(|| format!("{event} was echoed as {echo}"))?;
        world.count("events acknowledged");
        lock(&self.sent).push(Sent {
            id: id.to_owned(),
            body: event,
        });
        Ok(())
    }

    /// Answers what is asked until the session rests.
    async fn settle(&self, world: &World, dice: &mut StdRng) -> Result<(), Violation> {
        let until = Instant::now() + PATIENCE;
        let mut heard = self.heard.subscribe();
        while Instant::now() < until {
            heard.mark_unchanged();
            let mut answered = false;
            for asked in self.asked() {
                pause(dice, 100).await;
                answered = self.answer(world, dice, &asked).await?;
            }
            // The stream may be behind: what the server says itself counts.
            if self.asked().is_empty() && self.rests() && self.rested(world).await? {
                return Ok(());
            }
            if !answered {
                let _ = timeout(LOOK, heard.changed()).await;
            }
        }
        let (phase, asked) = (self.phase(), self.asked());
        Err(format!(
            "I8: the session did not come to rest within {PATIENCE:?}: {phase}, waiting for {asked:?}"
        ))
    }

    /// Answers a call; the same again when nothing came back. Returns whether it did.
    async fn answer(
        &self,
        world: &World,
        dice: &mut StdRng,
        asked: &Asked,
    ) -> Result<bool, Violation> {
        let id = &asked.id;
        let agreed = {
            let mut agreed = lock(&self.agreed);
            let mut roll = || asked.custom || dice.random_bool(0.8);
            *agreed.entry(id.clone()).or_insert_with(&mut roll)
        };
        let event = match (asked.custom, agreed) {
            (true, _) => json!({
                "type": "user.custom_tool_result",
                "custom_tool_use_id": id,
                "content": [{"type": "text", "text": format!("answered {id}")}],
            }),
            (false, false) => {
                json!({"type": "user.tool_confirmation", "tool_use_id": id, "result": "deny"})
            }
            (false, true) => {
                json!({"type": "user.tool_confirmation", "tool_use_id": id, "result": "allow"})
            }
        };
        let path = format!("/v1/sessions/{}/events", self.session);
        let body = json!({"events": [event]});
        let answer = world
            .insist(self.wish, Method::POST, &path, Some(&body))
            .await?;
        match answer.status {
            200 => {
                world.count("answers to calls");
                Ok(true)
            }
            // An interrupt was faster.
            400 => Ok(false),
            _ => Err(format!("{event} was refused: {answer}")),
        }
    }

    /// Whether the server says that the session rests with nothing left to do.
    async fn rested(&self, world: &World) -> Result<bool, Violation> {
        let path = format!("/v1/sessions/{}", self.session);
        let answer = world.insist(self.wish, Method::GET, &path, None).await?;
        if answer.status != 200 {
            return Err(format!("I1: the session is answered with {answer}"));
        }
        if answer.json()["status"] != "idle" {
            return Ok(false);
        }
        self.look(world).await?;
        let listed = lock(&self.listed);
        let done = |event: &Value| !event["processed_at"].is_null();
        // The row's status does not say whether a call waits for the client, and the stream may not have told it yet.
        Ok(listed.iter().all(done) && at_rest(listed.iter().rev()))
    }

    /// Checks the session at rest, once its stream has told all of it, and returns its events.
    async fn finish(&self, world: &World) -> Result<Vec<Value>, Violation> {
        let listed = world.list(self.wish, &self.session).await?;
        let listed = listed.ok_or_else(|| format!("I1: the session {} is gone", self.session))?;
        let last = listed.last().map(|event| event["id"].clone());
        let mut heard = self.heard.subscribe();
        let told = heard.wait_for(|_| {
            let frames = lock(&self.frames);
            frames.last().map(|frame| frame.data["id"].clone()) == last
        });
        if timeout(PATIENCE, told).await.is_err() {
            return Err(format!(
                "I2: the stream does not tell the end of {}",
                self.session
            ));
        }
        let sent = lock(&self.sent).clone();
        let agreed = lock(&self.agreed).clone();
        let denied = agreed.into_iter().filter(|(_, agreed)| !agreed);
        let denied: Vec<String> = denied.map(|(id, _)| id).collect();
        let (frames, harms) = (lock(&self.frames).clone(), lock(&self.harms).clone());
        let counts = check::check(&Story {
            sent: &sent,
            denied: &denied,
            listed: &listed,
            frames: &frames,
            plans: &world.model.plans(),
            lines: &world.ledger.lines(),
            harms: &harms,
        })?;
        lock(&world.counts).merge(&counts);
        Ok(listed)
    }
}
