//! Durable appends of the store itself, on both databases: as many brains as there are sessions, each of which waits
//! for the acknowledgement of one event before it appends the next. On PostgreSQL also what it costs an append that
//! another instance listens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use manyhands_protocol::event::EventBody;
use manyhands_protocol::time::SystemClock;
use manyhands_protocol::{SessionId, ThreadId};
use manyhands_store::{
    Append, AppendError, Change, Config, Database, Lease, NewEntry, NewSession, Store,
};
use manyhands_testkit::postgres::Cluster;
use manyhands_testkit::resources;
use serde_json::json;

use super::appends::ENTRY_BYTES;
use crate::floors;
use crate::report::Row;
use crate::sample::Samples;
use crate::subject::Setup;

/// Appends of one session alone, before all of them.
const ALONE: usize = 500;

/// Appends in a row beside another instance that listens, and then beside one that does not.
const TURN: usize = 50;

/// Such turns of each kind.
const TURNS: usize = 10;

/// By when another instance must have been heard of; it takes milliseconds.
const HEARD: Duration = Duration::from_secs(30);

/// Appends for `seconds` to `sessions` sessions at once, on SQLite and on a PostgreSQL cluster beside it.
pub(crate) async fn run(setup: &Setup, sessions: usize, seconds: u64) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir_in(&setup.folder)?;
    let place = setup.folder.clone();
    let cluster = tokio::task::spawn_blocking(move || Cluster::start_in(&place)).await?;
    let sqlite = Database::Sqlite {
        directory: folder.path().join("data"),
    };
    let postgres = Database::Postgres {
        url: cluster.create_database().into(),
    };
    let mut rows = vec![];
    for (name, database) in [("SQLite", sqlite), ("PostgreSQL", postgres)] {
        let span = Duration::from_secs(seconds);
        // As in the server: on all cores. This program's own runtime has one.
        let load = move || {
            let runtime = tokio::runtime::Runtime::new()?;
            runtime.block_on(load(database, sessions, span))
        };
        let load = tokio::task::spawn_blocking(load).await?;
        let load = load.with_context(|| name.to_owned())?;
        let fsync = floors::fsync(&setup.folder, sessions * ENTRY_BYTES, 200)?;
        let row = Row::new(
            format!("the store's durable appends a second, {sessions} sessions, {name}"),
            load.among.count() as f64 / load.elapsed.as_secs_f64(),
            "1/s",
            load.among.count(),
        )
        .above(10_000.0)
        .floor(
            "group-committed fsync rate",
            sessions as f64 / fsync.median() * 1e3,
        )
        .note(format!(
            "one append p50 {:.2} ms, p99 {:.2} ms; alone p50 {:.2} ms; one fsync {:.2} ms",
            load.among.median(),
            load.among.percentile(99),
            load.alone.median(),
            fsync.median()
        ));
        rows.push(row);
        rows.extend(load.elsewhere.map(|elsewhere| elsewhere.row(name)));
    }
    Ok(rows)
}

struct Load {
    alone: Samples,
    among: Samples,
    elapsed: Duration,
    /// Where several instances can share the database.
    elsewhere: Option<Elsewhere>,
}

/// One session's appends beside another instance of the same database.
struct Elsewhere {
    unheard: Samples,
    heard: Samples,
    /// From the append to its arrival at the listener.
    arrivals: Samples,
}

impl Elsewhere {
    fn row(&self, database: &str) -> Row {
        let name = format!("one append with a listener on another instance, {database}, p50");
        let count = self.heard.count();
        Row::new(name, self.heard.median(), "ms", count)
            .floor("nobody listens there", self.unheard.median())
            .note(format!(
                "heard there after p50 {:.2} ms, p99 {:.2} ms",
                self.arrivals.median(),
                self.arrivals.percentile(99)
            ))
    }
}

async fn load(database: Database, sessions: usize, span: Duration) -> Result<Load> {
    let is_shared = matches!(database, Database::Postgres { .. });
    let config = Config::new(database, Arc::new(SystemClock));
    let store = Store::open(config.clone()).await?;
    let body = message()?;
    let leases = leases(&store, &body, sessions).await?;
    let first = leases.first().context("no session")?;
    let mut alone = Vec::with_capacity(ALONE);
    for _ in 0..ALONE {
        let began = Instant::now();
        store.append(first, append(&body)).await?;
        alone.push(began.elapsed());
    }
    let elsewhere = match is_shared {
        true => Some(elsewhere(config, &store, first, &body).await?),
        false => None,
    };
    let began = Instant::now();
    let brains = leases.into_iter().map(|lease| {
        let brain = append_until(store.clone(), lease, body.clone(), began + span);
        tokio::spawn(brain)
    });
    let mut among = vec![];
    for times in try_join_all(brains).await? {
        among.extend(times?);
    }
    let elapsed = began.elapsed();
    store.close().await;
    Ok(Load {
        alone: Samples::new(alone),
        among: Samples::new(among),
        elapsed,
        elsewhere,
    })
}

async fn elsewhere(
    config: Config,
    store: &Store,
    lease: &Lease,
    body: &EventBody,
) -> Result<Elsewhere> {
    let other = Store::open(config).await?;
    let [mut unheard, mut heard, mut arrivals] = [const { Vec::new() }; 3];
    for _ in 0..TURNS {
        for _ in 0..TURN {
            let began = Instant::now();
            store.append(lease, append(body)).await?;
            unheard.push(began.elapsed());
        }
        let read = store.leased_session(lease).await?;
        let mut tail = other.subscribe(&lease.session);
        tail.has_read(read.context("the session is gone")?.last_position);
        listened_to(store, lease, true).await?;
        for _ in 0..TURN {
            let began = Instant::now();
            store.append(lease, append(body)).await?;
            heard.push(began.elapsed());
            tail.recv().await.context("the listener's tail ended")?;
            arrivals.push(began.elapsed());
        }
        drop(tail);
        listened_to(store, lease, false).await?;
    }
    other.close().await;
    Ok(Elsewhere {
        unheard: Samples::new(unheard),
        heard: Samples::new(heard),
        arrivals: Samples::new(arrivals),
    })
}

/// Returns when the store knows whether the session is listened to on another instance.
async fn listened_to(store: &Store, lease: &Lease, wanted: bool) -> Result<()> {
    let known = async {
        while store.has_listeners(&lease.session) != wanted {
            tokio::task::yield_now().await;
        }
    };
    let known = tokio::time::timeout(HEARD, known).await;
    known.context("nothing was heard of the other instance")
}

/// New sessions at work, each held by this program.
async fn leases(store: &Store, body: &EventBody, count: usize) -> Result<Vec<Lease>> {
    let (agent, environment) = (resources::agent(), resources::environment());
    let workspace = store.default_workspace().await?;
    store.insert_agent(&workspace, &agent).await?;
    store.insert_environment(&workspace, &environment).await?;
    let mut leases = vec![];
    for _ in 0..count {
        let id = SessionId::generate();
        let session = NewSession {
            workspace: workspace.clone(),
            id: id.clone(),
            thread_id: ThreadId::generate(),
            environment_id: environment.id.clone(),
            agent: serde_json::from_value(serde_json::to_value(&agent)?)?,
            title: None,
            metadata: Default::default(),
            budget: None,
            vault_ids: Vec::new(),
            change: Change {
                append: append(body),
                wants_brain: true,
                ..Change::default()
            },
        };
        store.create_session(session).await?;
        let lease = store.claim(&workspace, &id).await?;
        leases.push(lease.context("nobody else can hold it")?);
    }
    Ok(leases)
}

async fn append_until(
    store: Store,
    lease: Lease,
    body: EventBody,
    end: Instant,
) -> Result<Vec<Duration>, AppendError> {
    let mut times = vec![];
    while Instant::now() < end {
        let began = Instant::now();
        store.append(&lease, append(&body)).await?;
        times.push(began.elapsed());
    }
    Ok(times)
}

fn message() -> Result<EventBody> {
    let text = json!({"type": "text", "text": "One more thing to keep in mind."});
    Ok(EventBody::AgentMessage {
        content: vec![serde_json::from_value(text)?],
    })
}

fn append(body: &EventBody) -> Append {
    Append {
        entries: vec![NewEntry::event(body.clone())],
        ..Append::default()
    }
}
