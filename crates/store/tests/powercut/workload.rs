//! A busy store whose every answer is written down: clients and brains of several sessions at once, checkpoints, a
//! restart in the middle, deletions.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use manyhands_protocol::session::SessionStatus;
use manyhands_protocol::{EventId, SessionId, WorkspaceId};
use manyhands_store::{
    Append, AppendError, Change, Config, Database, Entry, Error, NewEntry, NewSession, Store,
    UsageTotals,
};
use manyhands_testkit::clock::TestClock;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use tempfile::TempDir;

use crate::fixtures::{
    agent, answered, call_body, environment, new_session, queued, result_of, said, text,
};
use crate::journal::{Op, Recorder};
use crate::ledger::{History, Ledger, Span, Step};
use crate::vfs;

const SESSIONS: usize = 6;
/// Rounds of work before and after the restart.
const ROUNDS: usize = 3;

/// A recording: what was asked and acknowledged, and what SQLite did to its files meanwhile.
pub(crate) struct Recording {
    pub(crate) ledger: Ledger,
    pub(crate) ops: Vec<Op>,
    /// Where it was taken and the disks are laid; removed with the recording.
    pub(crate) home: TempDir,
}

/// Opens the store in a directory.
pub(crate) async fn open(directory: &Path) -> Result<Store, Error> {
    Store::open(Config {
        database: Database::Sqlite {
            directory: directory.to_owned(),
        },
        clock: Arc::new(TestClock::default()),
        replica: Default::default(),
    })
    .await
}

/// Lets a store in a new directory work, and records it.
pub(crate) async fn record(home: TempDir, seed: u64) -> Recording {
    let directory = data_directory(&home);
    let recorder = vfs::watch(&directory);
    let store = open(&directory).await.unwrap();
    let mut ledger = set_up(&store, &recorder).await;
    let mut lives = Vec::new();
    for number in 0..SESSIONS {
        let seed = seed.wrapping_mul(1000).wrapping_add(number as u64);
        let life = Life::new(&store, &directory, &recorder, &ledger, seed);
        let new = first(&ledger, &life);
        lives.push((life, Some(new)));
    }
    lives = live(lives, 1).await;
    store.close().await;
    let store = open(&directory).await.unwrap();
    for (life, _) in &mut lives {
        life.moved_to(&store);
    }
    lives = live(lives, 2).await;
    for (life, _) in lives.iter().take(2) {
        life.delete().await;
    }
    store.close().await;
    vfs::forget(&directory);

    for (life, _) in lives {
        ledger.histories.push(life.sealed());
    }
    let ops = recorder.take();
    Recording { ledger, ops, home }
}

/// A directory for the store that is recorded, under the path by which SQLite will know it.
pub(crate) fn data_directory(home: &TempDir) -> PathBuf {
    let directory = home.path().canonicalize().unwrap().join("recorded");
    std::fs::create_dir(&directory).unwrap();
    directory
}

/// What all sessions share, made in a new store.
pub(crate) async fn set_up(store: &Store, recorder: &Recorder) -> Ledger {
    let timed = |asked| Span {
        asked,
        acknowledged: recorder.place(),
    };
    let asked = recorder.place();
    let workspace = store.default_workspace().await.unwrap();
    let workspace = (timed(asked), workspace);
    let (agent, environment) = (agent(), environment());
    let asked = recorder.place();
    store.insert_agent(&workspace.1, &agent).await.unwrap();
    let agent = (timed(asked), agent);
    let asked = recorder.place();
    let inserted = store.insert_environment(&workspace.1, &environment).await;
    inserted.unwrap();
    Ledger {
        environment: (timed(asked), environment),
        workspace,
        agent,
        histories: Vec::new(),
    }
}

/// A session's beginning.
pub(crate) fn first(ledger: &Ledger, life: &Life) -> NewSession {
    let (agent, environment) = (&ledger.agent.1, &ledger.environment.1);
    new_session(&ledger.workspace.1, agent, environment, life.id())
}

/// All sessions at once.
async fn live(
    lives: Vec<(Life, Option<NewSession>)>,
    stretch: u64,
) -> Vec<(Life, Option<NewSession>)> {
    let tasks: Vec<_> = lives
        .into_iter()
        .map(|(life, new)| {
            tokio::spawn(async move {
                let mut client = StdRng::seed_from_u64(life.seed ^ (stretch << 32));
                let mut brain = StdRng::seed_from_u64(client.random());
                if let Some(new) = new {
                    life.create(new).await;
                }
                for _ in 0..ROUNDS {
                    tokio::join!(life.speak(&mut client), life.think(&mut brain));
                    if client.random_bool(0.25) {
                        life.checkpoint(&mut client).await;
                    }
                }
                (life, None)
            })
        })
        .collect();
    let mut lived = Vec::new();
    for task in tasks {
        lived.push(task.await.unwrap());
    }
    lived
}

/// One session, its clients and its brain.
pub(crate) struct Life {
    store: Store,
    directory: PathBuf,
    recorder: Arc<Recorder>,
    workspace: WorkspaceId,
    history: Mutex<History>,
    seed: u64,
}

impl Life {
    /// A session that is not there yet.
    pub(crate) fn new(
        store: &Store,
        directory: &Path,
        recorder: &Arc<Recorder>,
        ledger: &Ledger,
        seed: u64,
    ) -> Self {
        Self {
            store: store.clone(),
            directory: directory.to_owned(),
            recorder: Arc::clone(recorder),
            workspace: ledger.workspace.1.clone(),
            history: Mutex::new(History {
                id: SessionId::generate(),
                steps: Vec::new(),
                grants: Vec::new(),
                deleted: None,
            }),
            seed,
        }
    }

    /// The server has begun anew.
    pub(crate) fn moved_to(&mut self, store: &Store) {
        self.store = store.clone();
    }

    /// What became of it.
    pub(crate) fn sealed(self) -> History {
        let mut history = self.history.into_inner().unwrap();
        history.seal();
        history
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut History) -> T) -> T {
        look(&mut self.history.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn id(&self) -> SessionId {
        self.with(|history| history.id.clone())
    }

    pub(crate) fn since(&self, asked: usize) -> Span {
        Span {
            asked,
            acknowledged: self.recorder.place(),
        }
    }

    /// The session comes to be.
    pub(crate) async fn create(&self, new: NewSession) {
        let asked = self.recorder.place();
        assert!(self.store.create_session(new).await.unwrap());
        let span = self.since(asked);
        let entries = self.store.read(&self.id(), 0, 10).await.unwrap();
        let step = Step {
            wants: true,
            status: Some(SessionStatus::Running),
            ..Step::of(span, entries)
        };
        self.with(|history| history.steps.push(step));
    }

    async fn change(&self, change: Change) -> (Span, Vec<Entry>) {
        self.try_change(change).await.unwrap()
    }

    /// A client's write, and when it was in the store's hands.
    pub(crate) async fn try_change(&self, change: Change) -> Result<(Span, Vec<Entry>), Error> {
        let asked = self.recorder.place();
        let decide = move |_: &_| Ok::<_, std::convert::Infallible>((change, ()));
        let changed = self
            .store
            .change(&self.workspace, &self.id(), &[], decide)
            .await?;
        let Ok((entries, ())) = changed.expect("the session is there");
        Ok((self.since(asked), entries))
    }

    async fn delete(&self) {
        let change = Change {
            delete: true,
            ..Change::default()
        };
        let (span, _) = self.change(change).await;
        self.with(|history| history.deleted = Some(span));
    }

    /// The client writes a few times.
    async fn speak(&self, rng: &mut StdRng) {
        for _ in 0..rng.random_range(1..4) {
            let steps = self.with(|history| history.steps.len());
            let open = self.with(|history| history.summary(steps).open.into_iter().next());
            let answer = open.filter(|_| rng.random_bool(0.5));
            let wants = answer.is_some() || rng.random_bool(0.7);
            let title = rng.random_bool(0.2).then(|| text(rng));
            let (entry, id) = match &answer {
                Some(call) => {
                    let id = EventId::generate();
                    let entry = NewEntry::Event {
                        id: id.clone(),
                        body: result_of(call),
                        queued: true,
                    };
                    (entry, Some(id))
                }
                None if wants => (queued(rng), None),
                None => (NewEntry::event(said(&text(rng))), None),
            };
            let change = Change {
                append: Append {
                    entries: vec![entry, NewEntry::event(said(&text(rng)))],
                    status: wants.then_some(SessionStatus::Running),
                    answered: answer.clone().zip(id).into_iter().collect(),
                    ..Append::default()
                },
                wants_brain: wants,
                title: title.clone().map(Some),
                ..Change::default()
            };
            let status = change.append.status;
            let (span, entries) = self.change(change).await;
            let step = Step {
                status,
                title,
                wants,
                answered: answer,
                ..Step::of(span, entries)
            };
            self.with(|history| history.steps.push(step));
        }
    }

    /// The brain wakes, answers all it finds and rests when nothing came in between.
    async fn think(&self, rng: &mut StdRng) {
        let (id, asked) = (self.id(), self.recorder.place());
        let claimed = self.store.claim(&self.workspace, &id).await.unwrap();
        let Some(lease) = claimed else { return };
        let span = self.since(asked);
        self.with(|history| history.grants.push((span, lease.epoch)));

        let log = self.store.read(&id, 0, 100_000).await.unwrap();
        let read_to = log.last().map_or(0, |entry| entry.position);
        let mut seen = History {
            id: id.clone(),
            steps: vec![Step::of(span, log)],
            grants: Vec::new(),
            deleted: None,
        };
        seen.seal();
        let call = EventId::generate();
        let opens = rng.random_bool(0.3);
        let mut entries = vec![
            NewEntry::event(answered(&text(rng))),
            NewEntry::Private {
                type_name: "response",
                body: format!("{{\"raw\":\"{}\"}}", text(rng)),
            },
        ];
        entries.extend(
            seen.summary(1)
                .queued
                .into_iter()
                .map(|event_id| NewEntry::Processed { event_id }),
        );
        entries.extend(opens.then(|| NewEntry::Event {
            id: call.clone(),
            body: call_body(),
            queued: false,
        }));
        let usage = UsageTotals {
            output_tokens: rng.random_range(1..1_000_000),
            ..UsageTotals::default()
        };
        let append = Append {
            entries,
            usage: Some(usage),
            opened: opens
                .then(|| (call.clone(), "agent.custom_tool_use"))
                .into_iter()
                .collect(),
            ..Append::default()
        };
        let asked = self.recorder.place();
        let entries = self.store.append(&lease, append).await.unwrap();
        let step = Step {
            usage: Some(usage),
            opened: opens.then_some(call),
            ..Step::of(self.since(asked), entries)
        };
        self.with(|history| history.steps.push(step));

        let append = Append {
            entries: vec![NewEntry::event(answered(&text(rng)))],
            status: Some(SessionStatus::Idle),
            ..Append::default()
        };
        let asked = self.recorder.place();
        match self.store.append_and_rest(&lease, append, read_to).await {
            Ok(entries) => {
                let step = Step {
                    status: Some(SessionStatus::Idle),
                    rests: true,
                    ..Step::of(self.since(asked), entries)
                };
                self.with(|history| history.steps.push(step));
            }
            Err(AppendError::UnreadInput) => self.store.release(&lease).await.unwrap(),
            Err(error) => panic!("{error}"),
        }
    }

    async fn checkpoint(&self, rng: &mut StdRng) {
        checkpoint(&self.directory, rng).await.unwrap();
    }
}

/// Moves the log of SQLite into the database beside the writer, as the writer does when the log is long.
pub(crate) async fn checkpoint(directory: &Path, rng: &mut StdRng) -> Result<(), sqlx::Error> {
    let sql = match rng.random_range(0..4) {
        0 => "PRAGMA wal_checkpoint(TRUNCATE)",
        1 => "PRAGMA wal_checkpoint(RESTART)",
        _ => "PRAGMA wal_checkpoint(PASSIVE)",
    };
    let options = SqliteConnectOptions::new().filename(directory.join("manyhands.db"));
    let mut connection = options.connect().await?;
    let moved = sqlx::raw_sql(sql).execute(&mut connection).await;
    connection.close().await?;
    moved.map(drop)
}
