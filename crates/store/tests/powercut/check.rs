//! Whether a store that comes up after a power cut has all it acknowledged, and nothing else.

use std::convert::Infallible;
use std::path::Path;

use manyhands_protocol::session::SessionStatus;
use manyhands_protocol::{EventId, SessionId, WorkspaceId};
use manyhands_store::listing::EventRange;
use manyhands_store::{Append, Change, Entry, EntryKind, NewEntry, SessionState, Store};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::fixtures::{agent, answered, environment, new_session, said};
use crate::ledger::{History, Ledger, Summary};
use crate::workload::open;

const ALL: u32 = 100_000;

/// Opens the store on what a cut has left, compares it with the ledger, works with it, and opens it again. Says what is
/// wrong.
pub(crate) async fn check(ledger: &Ledger, cut: usize, directory: &Path) -> Result<(), String> {
    let store = open(directory)
        .await
        .map_err(|error| format!("the store does not open: {error}"))?;
    let checked = compare(&store, ledger, cut).await;
    let worked = match checked {
        Ok(()) => work(&store).await,
        Err(error) => Err(error),
    };
    store.close().await;
    let (id, log) = worked?;
    integrity(directory).await?;
    let again = open(directory).await.map_err(words)?;
    let found = again.read(&id, 0, ALL).await;
    again.close().await;
    if found.map_err(words)? != log {
        return Err(format!("{id}, written after the cut, is not there"));
    }
    Ok(())
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

async fn compare(store: &Store, ledger: &Ledger, cut: usize) -> Result<(), String> {
    let found = store.default_workspace().await.map_err(words)?;
    let (span, workspace) = &ledger.workspace;
    if span.must_be_there(cut) && found != *workspace {
        return Err("lost: the workspace".to_owned());
    }
    let (span, agent) = &ledger.agent;
    let found = store.agent(workspace, &agent.id, None).await;
    if span.must_be_there(cut) && found.map_err(words)?.as_ref() != Some(agent) {
        return Err("lost: the agent".to_owned());
    }
    let (span, environment) = &ledger.environment;
    let found = store.environment(workspace, &environment.id).await;
    if span.must_be_there(cut) && found.map_err(words)?.as_ref() != Some(environment) {
        return Err("lost: the environment".to_owned());
    }
    for history in &ledger.histories {
        session(store, workspace, history, cut)
            .await
            .map_err(|error| format!("{}: {error}", history.id))?;
    }
    Ok(())
}

async fn session(
    store: &Store,
    workspace: &WorkspaceId,
    history: &History,
    cut: usize,
) -> Result<(), String> {
    let id = &history.id;
    let record = store.session(workspace, id).await.map_err(words)?;
    let log = store.read(id, 0, ALL).await.map_err(words)?;
    let Some(record) = record else {
        let born = history.steps[0].span.must_be_there(cut);
        let gone = history.deleted.is_some_and(|span| span.may_be_there(cut));
        return match (log.is_empty(), born && !gone) {
            (false, _) => Err("a log without a session".to_owned()),
            (true, true) => Err("lost: the session".to_owned()),
            (true, false) => Ok(()),
        };
    };
    if history.deleted.is_some_and(|span| span.must_be_there(cut)) {
        return Err("lost: its deletion".to_owned());
    }
    let steps = log_of(history, &log, cut)?;
    if steps == 0 {
        return Err("a session without the entries it was born with".to_owned());
    }
    let state = state(store, workspace, id).await?;
    let wanting = store.wanting(ALL).await.map_err(words)?;
    let expected = history.summary(steps);
    let events = log.iter().filter(|entry| entry.kind == EntryKind::Event);
    let range = EventRange {
        limit: ALL,
        ..EventRange::default()
    };
    let listed = store.list_events(id, &range).await.map_err(words)?;
    if listed.len() != events.count() {
        return Err(format!("{} events are listed", listed.len()));
    }
    let waiting = listed.iter().map(|(_, entry)| entry);
    let waiting = waiting.filter(|entry| entry.processed_at.is_none());
    let found = Summary {
        last_position: record.last_position,
        input_position: record.input_position,
        status: record.status,
        usage: record.usage,
        title: record.title,
        wants: wanting.iter().any(|nudge| nudge.session == *id),
        queued: waiting.map(|entry| entry.event_id.clone()).collect(),
        open: state.calls.into_iter().map(|call| call.event_id).collect(),
    };
    if found != expected || state.queued != expected.queued.len() as u64 {
        return Err(format!(
            "the row does not agree with the log: {found:?} instead of {expected:?}"
        ));
    }
    let grants = history
        .grants
        .iter()
        .filter(|(span, _)| span.must_be_there(cut));
    if grants.map(|(_, epoch)| *epoch).max() > Some(record.epoch) {
        return Err(format!("lost: a lease, the epoch is {}", record.epoch));
    }
    Ok(())
}

/// Compares a log; gives the number of steps it consists of.
fn log_of(history: &History, log: &[Entry], cut: usize) -> Result<usize, String> {
    let expected = history.entries();
    for (found, expected) in log.iter().zip(expected) {
        if found != expected {
            let position = found.position;
            return Err(format!("position {position} is not what was acknowledged"));
        }
    }
    let Some(steps) = history.steps_of(log.len()) else {
        return Err(format!("a log of {} entries has half a write", log.len()));
    };
    let (kept, lost) = history.steps.split_at(steps);
    if lost.iter().any(|step| step.span.must_be_there(cut)) {
        return Err(format!("lost: entries after position {}", log.len()));
    }
    if !kept.iter().all(|step| step.span.may_be_there(cut)) {
        return Err("there are entries that nobody had asked for yet".to_owned());
    }
    Ok(steps)
}

/// What a client's write would be decided on.
async fn state(
    store: &Store,
    workspace: &WorkspaceId,
    id: &SessionId,
) -> Result<SessionState, String> {
    let look = |state: &SessionState| Ok::<_, Infallible>((Change::default(), state.clone()));
    let found = store.change(workspace, id, &[], look).await;
    let Ok((_, state)) = found.map_err(words)?.ok_or("the session is gone")?;
    Ok(state)
}

/// A new session lives on the recovered store: gives its id and its log.
async fn work(store: &Store) -> Result<(SessionId, Vec<Entry>), String> {
    let workspace = store.default_workspace().await.map_err(words)?;
    let (agent, environment) = (agent(), environment());
    store
        .insert_agent(&workspace, &agent)
        .await
        .map_err(words)?;
    store
        .insert_environment(&workspace, &environment)
        .await
        .map_err(words)?;
    let id = SessionId::generate();
    let new = new_session(&workspace, &agent, &environment, id.clone());
    if !store.create_session(new).await.map_err(words)? {
        return Err("no session can be made".to_owned());
    }
    let lease = store.claim(&workspace, &id).await.map_err(words)?;
    let lease = lease.ok_or("a new session cannot be claimed")?;
    let call = EventId::generate();
    let rest = Append {
        entries: vec![
            NewEntry::event(answered(call.as_str())),
            NewEntry::event(said("after the cut")),
        ],
        status: Some(SessionStatus::Idle),
        ..Append::default()
    };
    let stored = store.append_and_rest(&lease, rest, i64::MAX).await;
    let stored = stored.map_err(words)?;
    let log = store.read(&id, 0, ALL).await.map_err(words)?;
    if log.get(1..) != Some(&stored[..]) {
        return Err("a new append is not in its log".to_owned());
    }
    Ok((id, log))
}

/// SQLite's own look at its trees and indexes.
async fn integrity(directory: &Path) -> Result<(), String> {
    let options = SqliteConnectOptions::new().filename(directory.join("manyhands.db"));
    let mut connection = options.connect().await.map_err(words)?;
    let result: Result<Vec<String>, _> = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_all(&mut connection)
        .await;
    connection.close().await.map_err(words)?;
    match result.map_err(words)? {
        fine if fine == ["ok"] => Ok(()),
        found => Err(format!("the database is damaged: {}", found.join("; "))),
    }
}
