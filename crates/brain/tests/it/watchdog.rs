//! What hangs is ended, visibly, and the session goes on (security I8, LOG-4).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use manyhands_brain::models::{
    Block, Error as ModelError, Model, ModelSpec, ProviderSpec, Registry, Request, Response, Sink,
    Stop, Usage,
};
use manyhands_brain::{Party, State};
use manyhands_hands::{Error as HandsError, Probe, Provider, Recipe, Sandbox};
use manyhands_protocol::event::EventBody;
use manyhands_protocol::session::SessionStatus;
use manyhands_store::{Append, Change, NewEntry};
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::Reply;
use serde_json::json;

use crate::bed::{Bed, impatient_specs, message};

/// A model that keeps no time limit of its own: it never answers so many times, then it does.
struct Hanging {
    times: AtomicUsize,
    reached: Gate,
}

#[async_trait]
impl Model for Hanging {
    async fn sample(&self, _: &Request, _: &mut dyn Sink) -> Result<Response, ModelError> {
        let hangs = self
            .times
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        if hangs.is_ok() {
            self.reached.pass().await;
        }
        Ok(Response {
            id: "msg_1".to_owned(),
            model: "claude-opus-4-8".to_owned(),
            stop: Stop::EndTurn,
            blocks: vec![Block::text("At last.")],
            usage: Usage::default(),
        })
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(200)
    }
}

/// A model that hangs so many times, and the gate that nobody opens.
fn hanging(times: usize) -> (Registry, Gate) {
    let reached = Gate::new();
    let model = Hanging {
        times: AtomicUsize::new(times),
        reached: reached.clone(),
    };
    let mut models = Registry::empty();
    let spec = ModelSpec::new("claude-*", ProviderSpec::Scripted { script: None });
    models.add(spec, Arc::new(model)).unwrap();
    (models, reached)
}

async fn bed() -> Bed {
    let mut bed = Bed::asleep_in_memory([]).await;
    // Room for a busy machine to write what comes before and after.
    bed.config.watchdog.grace = Duration::from_secs(2);
    bed
}

#[tokio::test]
async fn i_8_a_model_that_never_answers_is_given_up_visibly_and_asked_again() {
    let mut bed = bed().await;
    let (models, reached) = hanging(1);
    let hands = Arc::new(bed.hands.clone());
    bed.wake_with(models, hands);
    bed.say("Hi").await;
    reached.reached().await;
    let why = bed.why().await;
    assert_eq!(
        (why.state, why.waiting_for),
        (State::AskingModel, Party::Model)
    );
    assert!(why.until.is_some(), "{why:?}");
    bed.idle().await;
    let log = bed.log().await;
    assert_eq!(
        log[4..],
        [
            "span.model_request_start",
            "session.error: unknown_error retrying",
            "span.model_request_end (error)",
            "span.model_request_start",
            "agent.message: At last.",
            "span.model_request_end",
            "session.thread_status_idle: end_turn",
            "session.usage",
            "session.status_idle: end_turn",
        ]
    );
    let error = &bed.events("session.error").await[0]["error"];
    let text = error["message"].as_str().unwrap();
    assert!(text.contains("asking the model"), "{text}");
    let log = bed.turn("Again").await;
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    assert_eq!(bed.why().await.state, State::AwaitingMessage);
}

#[tokio::test]
async fn log_4_the_same_hang_three_times_ends_the_session() {
    let mut bed = bed().await;
    let (models, _) = hanging(usize::MAX);
    let hands = Arc::new(bed.hands.clone());
    bed.wake_with(models, hands);
    bed.say("Hi").await;
    bed.until(|record, _| record.status == SessionStatus::Terminated)
        .await;
    let errors: Vec<String> = bed
        .log()
        .await
        .into_iter()
        .filter(|line| line.starts_with("session.error"))
        .collect();
    assert_eq!(
        errors,
        [
            "session.error: unknown_error retrying",
            "session.error: unknown_error retrying",
            "session.error: unknown_error terminal",
        ]
    );
    assert_eq!(bed.why().await.state, State::Ended);
}

/// Hands that hang so many times where they keep no time limit.
struct HangingHands {
    inner: manyhands_hands::provider::fake::Fake,
    at: &'static str,
    reached: Gate,
    times: AtomicUsize,
}

impl HangingHands {
    async fn pass(&self, place: &str) {
        let hangs = |left: usize| left.checked_sub(1);
        if place == self.at
            && self
                .times
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, hangs)
                .is_ok()
        {
            self.reached.pass().await;
        }
    }
}

#[async_trait]
impl Provider for HangingHands {
    fn name(&self) -> &'static str {
        "hanging"
    }

    async fn probe(&self) -> Probe {
        self.inner.probe().await
    }

    async fn provision(&self, recipe: &Recipe) -> Result<Arc<dyn Sandbox>, HandsError> {
        self.pass("provision").await;
        self.inner.provision(recipe).await
    }

    async fn find(
        &self,
        session: &str,
        epoch: i64,
    ) -> Result<Option<Arc<dyn Sandbox>>, HandsError> {
        self.pass("find").await;
        self.inner.find(session, epoch).await
    }

    async fn release(&self, session: &str) -> Result<(), HandsError> {
        self.inner.release(session).await
    }

    async fn destroy(&self, session: &str) -> Result<(), HandsError> {
        self.inner.destroy(session).await
    }
}

/// A session whose first answer calls a tool, and hands that hang at this place.
async fn bed_with_hands(at: &'static str, times: usize) -> Bed {
    let mut bed = bed().await;
    bed.config.watchdog.provision = Duration::from_secs(2);
    bed.config.watchdog.look_up = Duration::from_secs(3);
    bed.model
        .respond_with(|request| match request.messages().len() {
            1 => Reply::tool_use("toolu_1", "bash", json!({"command": "ls"})),
            _ => Reply::text("Done."),
        });
    let hands = HangingHands {
        inner: bed.hands.clone(),
        at,
        reached: Gate::new(),
        times: AtomicUsize::new(times),
    };
    bed.wake_with_hands(Arc::new(hands));
    bed
}

/// Hands that hang at this place once: visible, and the turn ends well.
async fn check_hands(at: &'static str, says: &str) {
    let bed = bed_with_hands(at, 1).await;
    let log = bed.turn("Go").await;
    let errors: Vec<&String> = log
        .iter()
        .filter(|line| line.starts_with("session.error"))
        .collect();
    assert_eq!(errors, ["session.error: unknown_error retrying"], "{at}");
    let error = &bed.events("session.error").await[0]["error"];
    let text = error["message"].as_str().unwrap();
    assert!(text.contains(says), "{text}");
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    bed.assert_each_call_has_one_result().await;
}

#[tokio::test]
async fn i_8_hands_that_never_answer_are_given_up_visibly_and_asked_again() {
    tokio::join!(
        check_hands("provision", "starting a sandbox"),
        check_hands("find", "reading and writing"),
    );
}

/// Invariant I3, LOG-4: a session that ends for its hands leaves no call open, and its input counts as seen.
#[tokio::test]
async fn i_3_log_4_a_session_that_is_ended_leaves_nothing_open() {
    let bed = bed_with_hands("provision", usize::MAX).await;
    bed.say("Go").await;
    bed.seen("agent.tool_use", 1).await;
    bed.say("And?").await;
    bed.until(|record, _| record.status == SessionStatus::Terminated)
        .await;
    bed.assert_each_call_has_one_result().await;
    let log = bed.log().await;
    let processed = log.iter().filter(|line| *line == "user.message processed");
    assert_eq!(processed.count(), 2, "{log:?}");
    assert_eq!(log.last().unwrap(), "session.status_terminated");
}

/// A long call of a tool is written in many pieces that are no previews: each of them is progress.
#[tokio::test]
async fn i_8_an_answer_that_comes_slowly_is_left_alone() {
    let mut bed = bed().await;
    bed.specs = impatient_specs;
    bed.config.watchdog.grace = Duration::ZERO;
    let input = json!({"command": format!("echo {}", "x".repeat(400))});
    let slow = Reply::tool_use("toolu_1", "bash", input).split_into(100);
    let bytes = slow.wire("claude-opus-4-8").len();
    // In all longer than the four seconds that silence may last.
    bed.model
        .push(slow.drip(bytes / 50, Duration::from_millis(100)));
    bed.model.push(Reply::text("Done."));
    bed.wake();
    let log = bed.turn("Go").await;
    assert!(
        !log.iter().any(|line| line.starts_with("session.error")),
        "{log:?}"
    );
    bed.model.assert_done();
}

/// A message that starts a turn which nobody is told about: what must not happen.
async fn strand(bed: &Bed) {
    let entries = vec![
        NewEntry::Event {
            id: manyhands_protocol::EventId::generate(),
            body: message("Anybody there?"),
            queued: true,
        },
        NewEntry::event(EventBody::SessionStatusRunning {}),
    ];
    bed.change(Change {
        append: Append {
            entries,
            status: Some(SessionStatus::Running),
            ..Append::default()
        },
        wants_brain: false,
        ..Change::default()
    })
    .await;
}

#[tokio::test]
async fn i_8_a_stranded_session_is_found_at_the_start_and_while_the_brain_runs() {
    let mut bed = Bed::asleep([Reply::text("Yes."), Reply::text("Still.")]).await;
    bed.config.watchdog.strays = Duration::from_millis(200);
    strand(&bed).await;
    bed.wake();
    bed.seen("session.status_idle", 1).await;
    strand(&bed).await;
    bed.seen("session.status_idle", 2).await;
    let log = bed.log().await;
    assert!(log.contains(&"agent.message: Still.".to_owned()));
    bed.model.assert_done();
}

#[tokio::test]
async fn i_8_a_lease_without_a_wake_is_given_back() {
    let mut bed = Bed::asleep([Reply::text("Yes.")]).await;
    bed.config.watchdog.strays = Duration::from_millis(100);
    bed.say("Anybody there?").await;
    let held = bed.claim().await;
    bed.wake();
    bed.idle().await;
    assert!(bed.record().await.epoch > held.epoch);
    bed.model.assert_done();
}
