//! A model's endpoint that is down for ten minutes. Time passes only while nobody has anything to do, and the wall clock
//! follows it, so ten minutes take a moment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use manyhands_brain::models::Registry;
use manyhands_brain::{Brain, Config, Retries};
use manyhands_hands::provider::fake::Fake;
use manyhands_protocol::agent::SessionAgent;
use manyhands_protocol::event::EventBody;
use manyhands_protocol::session::SessionStatus;
use manyhands_protocol::time::{Clock, SharedClock};
use manyhands_protocol::{SessionId, ThreadId, Timestamp, WorkspaceId, tag};
use manyhands_store::{Change, Database, Entry, NewSession, SessionRecord, SharedMemory, Store};
use manyhands_testkit::model::{ModelServer, Reply};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bed::{admit, agent, environment, interrupt, message, specs};

const DOWN: Duration = Duration::from_secs(600);
const SESSIONS: usize = 24;
/// Between the first messages of two sessions: the first ones begin when the endpoint has just gone down, the last ones
/// when it is nearly back.
const APART: Duration = Duration::from_secs(25);
/// How late a retry may be: the tick behind the signals.
const SLACK: Duration = Duration::from_secs(1);

/// A wall clock that follows the runtime's time.
struct Following(Instant);

impl Clock for Following {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.0.elapsed().as_micros()).unwrap();
        Timestamp::from_micros(1_795_262_400_000_000 + passed)
    }
}

/// When each session's model was asked.
type Asked = Arc<Mutex<HashMap<String, Vec<Instant>>>>;

struct World {
    store: Store,
    workspace: WorkspaceId,
    sessions: Vec<(SessionId, ThreadId)>,
    asked: Asked,
    model: ModelServer,
    _brain: Brain,
}

impl World {
    /// Sessions that nobody has said anything to, and an endpoint that is back at that time.
    async fn start(back: Instant) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let clock: SharedClock = Arc::new(Following(Instant::now()));
        let memory = SharedMemory::new(Arc::clone(&clock)).unwrap();
        let store = Store::open(manyhands_store::Config {
            database: Database::Memory(memory),
            clock: Arc::clone(&clock),
            replica: Default::default(),
        });
        let store = store.await.unwrap();
        let workspace = store.default_workspace().await.unwrap();
        let (agent, environment) = (agent(), environment());
        store.insert_agent(&workspace, &agent).await.unwrap();
        let inserted = store.insert_environment(&workspace, &environment);
        inserted.await.unwrap();
        let mut sessions = vec![];
        for _ in 0..SESSIONS {
            let (id, thread_id) = (SessionId::generate(), ThreadId::generate());
            sessions.push((id.clone(), thread_id.clone()));
            let new = NewSession {
                workspace: workspace.clone(),
                id,
                thread_id,
                environment_id: environment.id.clone(),
                agent: SessionAgent {
                    id: agent.id.clone(),
                    kind: tag::Agent::Value,
                    version: 1,
                    definition: agent.definition.clone(),
                },
                title: None,
                metadata: Default::default(),
                budget: None,
                vault_ids: Vec::new(),
                change: Change::default(),
            };
            assert!(store.create_session(new).await.unwrap());
        }
        let (model, asked) = (ModelServer::start().await, Asked::default());
        let book = Arc::clone(&asked);
        model.respond_with(move |request| {
            let mut book = book.lock().unwrap();
            let times = book.entry(request.last_user_text()).or_default();
            times.push(Instant::now());
            match (Instant::now() < back, times.len() % 3) {
                (false, _) => Reply::text("Here I am."),
                (true, 0) => Reply::overloaded(),
                (true, 1) => Reply::hang_up(),
                (true, _) => Reply::server_error(),
            }
        });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let models = Registry::new(specs(&model.url()), &client, &clock).unwrap();
        let brain = Brain::start(
            Config::default(),
            store.clone(),
            Arc::new(Fake::new()),
            Arc::new(models),
            clock,
            CancellationToken::new(),
        );
        Self {
            store,
            workspace,
            sessions,
            asked,
            model,
            _brain: brain,
        }
    }

    async fn send(&self, index: usize, event: EventBody) {
        let (session, thread) = self.sessions[index].clone();
        let changed = self
            .store
            .change(&self.workspace, &session, &[], move |state| {
                Ok::<_, ()>((admit(state, vec![event], &thread), ()))
            });
        assert!(changed.await.unwrap().is_some());
    }

    async fn record(&self, index: usize) -> SessionRecord {
        let session = &self.sessions[index].0;
        let record = self.store.session(&self.workspace, session).await;
        record.unwrap().expect("the session")
    }

    async fn entries(&self, index: usize) -> Vec<Entry> {
        let session = &self.sessions[index].0;
        self.store.read(session, 0, 100_000).await.unwrap()
    }

    /// Waits until the session has this status, and says how long that took.
    async fn until(&self, index: usize, status: SessionStatus) -> Duration {
        let began = Instant::now();
        while self.record(index).await.status != status {
            assert!(
                began.elapsed() < Duration::from_secs(3600),
                "never {status:?}"
            );
            // A moment of the time that passes by itself.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        began.elapsed()
    }

    fn asked(&self, index: usize) -> Vec<Instant> {
        let asked = self.asked.lock().unwrap();
        asked.get(&text(index)).cloned().unwrap_or_default()
    }
}

fn text(index: usize) -> String {
    format!("I am session {index}.")
}

/// The retries of one session: within count and time, each wait about twice the one before, none twice the same.
fn check_waits(asked: &[Instant]) -> Vec<Duration> {
    let retries = Retries::default();
    assert!(
        asked.len() <= 1 + retries.attempts as usize,
        "{}",
        asked.len()
    );
    let waits: Vec<Duration> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (nth, wait) in waits.iter().enumerate() {
        let whole = (retries.base * (1 << nth)).min(retries.longest);
        assert!(
            *wait >= whole / 2 && *wait <= whole + SLACK,
            "wait {nth} of {waits:?}"
        );
    }
    assert!(waits.iter().sum::<Duration>() <= retries.total);
    waits
}

/// security MODEL-2, MODEL-3, I8; runtime ER-1, SQ-12, SQ-13
#[tokio::test(start_paused = true)]
async fn model_2_an_endpoint_that_is_down_for_ten_minutes_is_waited_for_or_given_up_visibly() {
    let back = Instant::now() + DOWN;
    let world = World::start(back).await;
    let stopped = SESSIONS / 2;
    for index in 0..SESSIONS {
        world.send(index, message(&text(index))).await;
        world.until(index, SessionStatus::Rescheduling).await;
        if index == stopped {
            // Somebody does not want to wait: what the server is told in the meantime it does at once.
            world.send(index, interrupt()).await;
            let took = world.until(index, SessionStatus::Idle).await;
            assert!(took <= SLACK, "an interrupt took {took:?}");
        }
        tokio::time::sleep_until(back - DOWN + APART * (index as u32 + 1)).await;
    }
    let (mut answered, mut given_up, mut firsts) = (0, 0, vec![]);
    for index in 0..SESSIONS {
        world.until(index, SessionStatus::Idle).await;
        let asked = world.asked(index);
        let waits = check_waits(&asked);
        firsts.extend(waits.first().copied());
        let entries = world.entries(index).await;
        let of_type = |wanted: &str| {
            let bodies = entries.iter().filter(|entry| *entry.type_name == *wanted);
            let bodies = bodies.map(|entry| serde_json::from_str(&entry.body).unwrap());
            bodies.collect::<Vec<Value>>()
        };
        let errors = of_type("session.error");
        let retried = errors
            .iter()
            .filter(|event| event["error"]["retry_status"]["type"] == "retrying");
        let last = of_type("session.status_idle").pop().unwrap();
        let said = of_type("agent.message").len();
        // Each failure is told once, and nothing else is written while it waits.
        assert_eq!(of_type("session.status_rescheduled").len(), retried.count());
        assert!(
            entries.len() < 12 * (asked.len() + 1),
            "{} entries",
            entries.len()
        );
        match (
            index == stopped,
            last["stop_reason"]["type"].as_str().unwrap(),
        ) {
            (true, reason) => assert_eq!((reason, said, asked.len()), ("end_turn", 0, 1)),
            (false, "end_turn") => {
                answered += 1;
                assert_eq!(said, 1, "session {index}");
                assert!(*asked.last().unwrap() >= back, "session {index}");
            }
            (false, reason) => {
                given_up += 1;
                assert_eq!((reason, said), ("retries_exhausted", 0), "session {index}");
                let status = &errors.last().unwrap()["error"]["retry_status"]["type"];
                assert_eq!(status, "exhausted", "session {index}");
                assert_eq!(asked.len(), 1 + Retries::default().attempts as usize);
            }
        }
    }
    assert!(
        answered > 0 && given_up > 0,
        "{answered} answered, {given_up} given up"
    );
    firsts.sort();
    firsts.dedup();
    assert!(firsts.len() > SESSIONS / 2, "no jitter: {firsts:?}");
    world.model.assert_clean();
    // The next message of one that was given up is answered as ever.
    world.send(0, message(&text(0))).await;
    world.until(0, SessionStatus::Idle).await;
    let entries = world.entries(0).await;
    assert!(
        entries
            .iter()
            .any(|entry| &*entry.type_name == "agent.message")
    );
}
