//! Measures durable appends: one session alone, then 64 sessions at once. Run it in a release build.
//!
//! `cargo run --release -p manyhands-store --example measure_appends [DIRECTORY | postgres://URL]`

use std::sync::Arc;
use std::time::{Duration, Instant};

use manyhands_protocol::event::EventBody;
use manyhands_protocol::time::SystemClock;
use manyhands_protocol::{SessionId, ThreadId};
use manyhands_store::{Append, Change, Config, Database, Lease, NewEntry, NewSession, Store};
use manyhands_testkit::resources;

const SESSIONS: usize = 64;
const ALONE: usize = 2_000;
const TURN: usize = 50;
const SPAN: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = std::env::args().nth(1);
    let directory = std::env::temp_dir().join(format!("manyhands-measure-{}", std::process::id()));
    let database = match place {
        Some(url) if url.starts_with("postgres") => Database::Postgres { url: url.into() },
        Some(path) => Database::Sqlite {
            directory: path.into(),
        },
        None => Database::Sqlite {
            directory: directory.clone(),
        },
    };
    let config = Config::new(database, Arc::new(SystemClock));
    let store = Store::open(config.clone()).await?;
    let workspace = store.default_workspace().await?;
    let (agent, environment) = (resources::agent(), resources::environment());
    if store.agent(&workspace, &agent.id, None).await?.is_none() {
        store.insert_agent(&workspace, &agent).await?;
        store.insert_environment(&workspace, &environment).await?;
    }

    let mut leases = Vec::new();
    let mut creates = Vec::new();
    for _ in 0..SESSIONS {
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
                append: append(),
                wants_brain: true,
                ..Change::default()
            },
        };
        let began = Instant::now();
        store.create_session(session).await?;
        creates.push(began.elapsed());
        leases.push(store.claim(&workspace, &id).await?.ok_or("not claimed")?);
    }
    report("create session", &mut creates);

    let mut alone = Vec::new();
    for _ in 0..ALONE {
        let began = Instant::now();
        store.append(&leases[0], append()).await?;
        alone.push(began.elapsed());
    }
    report("append alone", &mut alone);
    if matches!(config.database, Database::Postgres { .. }) {
        elsewhere(config, &store, &leases[0]).await?;
    }

    let began = Instant::now();
    let tasks: Vec<_> = leases
        .into_iter()
        .map(|lease| tokio::spawn(appends(store.clone(), lease, began + SPAN)))
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await??);
    }
    let rate = all.len() as f64 / began.elapsed().as_secs_f64();
    println!("{SESSIONS} sessions at once: {rate:.0} appends/s");
    report("append among them", &mut all);

    store.close().await;
    if directory.exists() {
        std::fs::remove_dir_all(directory)?;
    }
    Ok(())
}

/// What a listener on another instance costs an append, in turns with none; and how long it takes until it hears.
async fn elsewhere(
    config: Config,
    store: &Store,
    lease: &Lease,
) -> Result<(), Box<dyn std::error::Error>> {
    let other = Store::open(config).await?;
    let [mut unheard, mut heard, mut delays] = [const { Vec::new() }; 3];
    for _ in 0..ALONE / TURN {
        for _ in 0..TURN {
            let began = Instant::now();
            store.append(lease, append()).await?;
            unheard.push(began.elapsed());
        }
        let mut tail = other.subscribe(&lease.session);
        let read = store.leased_session(lease).await?.ok_or("it is gone")?;
        tail.has_read(read.last_position);
        while !store.has_listeners(&lease.session) {
            tokio::task::yield_now().await;
        }
        for _ in 0..TURN {
            let began = Instant::now();
            store.append(lease, append()).await?;
            heard.push(began.elapsed());
            tail.recv().await.ok_or("it ended")?;
            delays.push(began.elapsed());
        }
        drop(tail);
        while store.has_listeners(&lease.session) {
            tokio::task::yield_now().await;
        }
    }
    report("append beside another instance", &mut unheard);
    report("append with a listener there", &mut heard);
    report("until that listener hears it", &mut delays);
    other.close().await;
    Ok(())
}

fn append() -> Append {
    let body = EventBody::AgentMessage {
        content: Vec::new(),
    };
    Append {
        entries: vec![NewEntry::event(body)],
        ..Append::default()
    }
}

async fn appends(
    store: Store,
    lease: Lease,
    until: Instant,
) -> Result<Vec<Duration>, manyhands_store::AppendError> {
    let mut times = Vec::new();
    while Instant::now() < until {
        let began = Instant::now();
        store.append(&lease, append()).await?;
        times.push(began.elapsed());
    }
    Ok(times)
}

fn report(name: &str, times: &mut [Duration]) {
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e6;
    println!(
        "{name}: {} samples, p50 {:.0} us, p99 {:.0} us",
        times.len(),
        at(50),
        at(99)
    );
}
