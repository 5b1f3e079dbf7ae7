//! Crashes at every durable step (security LOG-1, LOG-3): the process ends on the spot, a new one opens what is left.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use manyhands_protocol::page::Order;
use manyhands_protocol::session::SessionFilter;
use manyhands_protocol::{EventId, SessionId};
use manyhands_store::audit::Actor;
use manyhands_store::listing::Range;
use manyhands_store::{Change, Database, Entry, NewEntry, Store};
use manyhands_testkit::clock::TestClock;
use manyhands_testkit::postgres;
use secrecy::ExposeSecret as _;

use crate::bed::*;

/// In the child: the failpoint, and at which hit it ends the process.
const POINT: &str = "MANYHANDS_STORE_CRASH_POINT";
const HIT: &str = "MANYHANDS_STORE_CRASH_HIT";
/// In the child: the database, a directory or a URL.
const PLACE: &str = "MANYHANDS_STORE_CRASH_PLACE";
/// In the child: where acknowledged entries are noted.
const NOTES: &str = "MANYHANDS_STORE_CRASH_NOTES";

/// Points that both databases pass, with the hits to crash at. Whatever a point's name says, a write is either there
/// as a whole or not at all.
const EVERYWHERE: [(&str, &[u32]); 15] = [
    ("store::migrate::before", &[1]),
    ("store::migrate::after", &[1]),
    ("store::agent::bumped", &[1, 2]),
    ("store::environment::updated", &[1]),
    ("store::environment::deleted", &[1]),
    ("store::key::inserted", &[1]),
    ("store::key::revoked", &[1]),
    ("store::session::created", &[1, 3]),
    ("store::session::granted", &[1, 9]),
    ("store::session::deleted", &[1]),
    ("store::lease::claimed", &[1, 3]),
    ("store::lease::guarded", &[1, 10]),
    ("store::lease::rested", &[1]),
    ("store::lease::released", &[1]),
    ("store::log::inserted", &[2, 17]),
];
const SQLITE: [(&str, &[u32]); 6] = [
    ("store::group::before_begin", &[2, 9]),
    ("store::group::after_job", &[2, 12]),
    ("store::group::before_commit", &[2, 9]),
    ("store::group::after_commit", &[2, 9]),
    ("store::group::before_publish", &[9]),
    ("store::group::before_acknowledge", &[9]),
];
const POSTGRES: [(&str, &[u32]); 7] = [
    ("store::transaction::before_begin", &[12]),
    ("store::transaction::after_job", &[12]),
    ("store::transaction::before_commit", &[12]),
    ("store::transaction::after_commit", &[12]),
    ("store::transaction::before_publish", &[12]),
    ("store::transaction::before_acknowledge", &[12]),
    ("store::lease::renewed", &[1]),
];

#[test]
fn log_1_a_crash_at_any_step_loses_nothing_acknowledged_on_sqlite() {
    if std::env::var_os(POINT).is_some() {
        return crash();
    }
    for (point, hits) in EVERYWHERE.iter().chain(&SQLITE) {
        for hit in *hits {
            let directory = tempfile::tempdir().unwrap();
            let database = Database::Sqlite {
                directory: directory.path().join("data"),
            };
            let name = "crash::log_1_a_crash_at_any_step_loses_nothing_acknowledged_on_sqlite";
            crash_and_recover(name, database, directory.path(), point, *hit);
        }
    }
}

#[test]
fn log_1_a_crash_at_any_step_loses_nothing_acknowledged_on_postgres() {
    if std::env::var_os(POINT).is_some() {
        return crash();
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (point, hits) in EVERYWHERE.iter().chain(&POSTGRES) {
        let directory = tempfile::tempdir().unwrap();
        let fresh = runtime.block_on(postgres::Database::create());
        let database = Database::Postgres {
            url: fresh.url().into(),
        };
        let name = "crash::log_1_a_crash_at_any_step_loses_nothing_acknowledged_on_postgres";
        crash_and_recover(name, database, directory.path(), point, hits[0]);
    }
}

fn crash_and_recover(name: &str, database: Database, directory: &Path, point: &str, hit: u32) {
    let notes = directory.join("notes");
    let place = match &database {
        Database::Sqlite { directory } => directory.to_str().unwrap().to_owned(),
        Database::Postgres { url } => url.expose_secret().to_owned(),
        Database::Memory(_) => panic!("memory ends with its process"),
    };
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(POINT, point)
        .env(HIT, hit.to_string())
        .env(PLACE, place)
        .env(NOTES, &notes)
        .output()
        .unwrap();
    assert_eq!(
        child.status.signal(),
        Some(6),
        "{point} is reached {hit} times: {}",
        String::from_utf8_lossy(&child.stderr)
    );
    let notes = fs::read_to_string(&notes).unwrap_or_default();
    let bed = Bed::on(database, TestClock::default());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(recover(bed, &notes, &format!("{point} at hit {hit}")));
}

/// The child: does a bit of everything until the failpoint ends it.
fn crash() {
    let variable = |name| std::env::var(name).unwrap();
    let hit: u32 = variable(HIT).parse().unwrap();
    let passed = AtomicU32::new(0);
    let core = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(rustix::process::Resource::Core, core).unwrap();
    fail::cfg_callback(variable(POINT), move || {
        if passed.fetch_add(1, Ordering::SeqCst) + 1 == hit {
            std::process::abort();
        }
    })
    .unwrap();
    let place = variable(PLACE);
    let database = if place.starts_with("postgres") {
        Database::Postgres { url: place.into() }
    } else {
        Database::Sqlite {
            directory: place.into(),
        }
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let world = Arc::new(World::new(Bed::on(database, TestClock::default())).await);
        resources(&world).await;
        let workers: Vec<_> = (0..6)
            .map(|_| tokio::spawn(session(Arc::clone(&world))))
            .collect();
        for worker in workers {
            worker.await.unwrap();
        }
        let id = world.session().await;
        let delete = Change {
            delete: true,
            ..Change::default()
        };
        world.change(&id, delete).await;
    });
}

async fn resources(world: &World) {
    let (store, workspace) = (&world.store, &world.workspace);
    for _ in 0..2 {
        let bump = store.update_agent(workspace, &world.agent.id, |agent| {
            let mut agent = agent.clone();
            agent.version += 1;
            Ok::<_, ()>(Some(agent))
        });
        bump.await.unwrap();
    }
    let second = environment("second", world.agent.created_at);
    store.insert_environment(workspace, &second).await.unwrap();
    let rename = store.update_environment(workspace, &second.id, |environment| {
        let mut environment = environment.clone();
        environment.name = "renamed".to_owned();
        Ok::<_, ()>(Some(environment))
    });
    rename.await.unwrap();
    store
        .delete_environment(workspace, &second.id)
        .await
        .unwrap();
    let key = manyhands_store::key::ApiKey {
        id: manyhands_protocol::id::ApiKeyId::generate(),
        workspace: workspace.clone(),
        opens: manyhands_store::key::Opens::Workspace(manyhands_store::key::KeyRole::Admin),
        name: "key".to_owned(),
        hint: "hint".to_owned(),
        created_at: world.agent.created_at,
        revoked_at: None,
    };
    store
        .insert_key(Actor::Operator, &key, &[1; 32])
        .await
        .unwrap();
    store
        .revoke_key(Actor::Operator, workspace, &key.id)
        .await
        .unwrap();
}

/// A session's life, every acknowledged entry noted.
async fn session(world: Arc<World>) {
    let id = world.session_with(work(vec![queued("born with")])).await;
    for round in 0..3 {
        let lease = world.claim(&id).await.unwrap();
        let stored = world.change(&id, work(vec![queued("more")])).await;
        note(&id, &stored);
        let processed = NewEntry::Processed {
            event_id: stored[0].event_id.clone(),
        };
        let answer = NewEntry::event(answered("hi"));
        let append = entries(vec![answer, processed]);
        let stored = world.store.append(&lease, append).await.unwrap();
        note(&id, &stored);
        if round == 1 {
            world.store.release(&lease).await.unwrap();
        } else {
            let rest = entries(vec![NewEntry::event(answered("rest"))]);
            let read_to = stored[0].position;
            let rested = world.store.append_and_rest(&lease, rest, read_to).await;
            note(&id, &rested.unwrap());
            let woken = world.change(&id, work(vec![queued("again")])).await;
            note(&id, &woken);
        }
    }
}

/// One write call for one line: lines of several tasks do not mix.
fn note(session: &SessionId, entries: &[Entry]) {
    let mut file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(std::env::var_os(NOTES).unwrap())
        .unwrap();
    for entry in entries {
        let line = format!("{session} {} {}\n", entry.position, entry.event_id);
        file.write_all(line.as_bytes()).unwrap();
    }
}

async fn recover(bed: Bed, notes: &str, what: &str) {
    if matches!(bed.database, Database::Postgres { .. }) {
        // What the server had already been sent ends first; then the time to live runs out by hand. The first
        // crash may come before there are tables.
        bed.sql(
            "DO $$ BEGIN
                IF to_regclass('instances') IS NOT NULL THEN
                    LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE;
                    UPDATE instances SET expires_at = 0;
                END IF;
            END $$",
        )
        .await;
    }
    let store = bed.open().await;
    let workspace = store.default_workspace().await.unwrap();
    for line in notes.lines() {
        let mut words = line.split(' ');
        let id = SessionId::parse(words.next().unwrap()).unwrap();
        let position: i64 = words.next().unwrap().parse().unwrap();
        let event = EventId::parse(words.next().unwrap()).unwrap();
        let found = store.read(&id, position - 1, 1).await.unwrap();
        assert_eq!(found[0].position, position, "{what}");
        assert_eq!(found[0].event_id, event, "{what}");
    }
    let all = Range {
        after: None,
        order: Order::Asc,
        limit: 100,
    };
    let sessions = store
        .list_sessions(&workspace, &SessionFilter::default(), &all)
        .await
        .unwrap();
    let mut wanted = store.wanting(100).await.unwrap();
    for record in sessions {
        let log = store.read(&record.id, 0, 1000).await.unwrap();
        let gapless: Vec<i64> = (1..=record.last_position).collect();
        assert_eq!(positions(&log), gapless, "{what}: {}", record.id);
        let list = store
            .list_events(&record.id, &crate::list::page(1000))
            .await
            .unwrap();
        let mut events: Vec<&EventId> = log.iter().map(|entry| &entry.event_id).collect();
        events.sort();
        events.dedup();
        assert_eq!(list.len(), events.len(), "{what}: one row per event");
        wanted.retain(|nudge| nudge.session != record.id);
        goes_on(&store, &record).await;
    }
    assert_eq!(wanted, [], "{what}: no wish without a session");
    store.close().await;
}

/// Each session can be woken by a new write and answered.
async fn goes_on(store: &Store, record: &manyhands_store::SessionRecord) {
    let (workspace, id) = (&record.workspace, &record.id);
    let change = |_: &_| Ok::<_, ()>((work(vec![queued("after the crash")]), ()));
    store.change(workspace, id, &[], change).await.unwrap();
    let lease = store.claim(workspace, id).await.unwrap().unwrap();
    assert!(lease.epoch > record.epoch);
    let rest = entries(vec![NewEntry::event(answered("done"))]);
    store.append_and_rest(&lease, rest, i64::MAX).await.unwrap();
}
