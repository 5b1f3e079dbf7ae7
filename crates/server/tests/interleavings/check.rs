//! What must be true of every session, whatever befell it: the invariants of the log, of the list and of the stream.

mod grammar;
mod requests;
mod stream;
mod usage;

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use manyhands_protocol::SessionId;
use manyhands_store::{Append, AppendError, Entry, EntryKind, Lease, SessionRecord};
use serde_json::Value;

use crate::drive::{Fate, Life, Problem};
use crate::model::lock;

/// More than any log here.
const ALL: u32 = 100_000;

/// An entry of the log, its body parsed.
pub(crate) struct Row {
    pub(crate) entry: Entry,
    pub(crate) body: Value,
}

impl Row {
    fn id(&self) -> &str {
        self.entry.event_id.as_str()
    }

    fn kind(&self) -> &str {
        &self.entry.type_name
    }

    /// A public event as first stored.
    fn is_event(&self) -> bool {
        self.entry.kind == EntryKind::Event
    }
}

/// Checks a life that has ended or come to rest.
pub(crate) async fn check(life: &Life) -> Result<(), Problem> {
    check_starts(life)?;
    let frames = lock(&life.heard.frames).clone();
    stream::check_previews(&frames)?;
    if life.fate == Fate::Deleted {
        return stream::check_deleted(life, &frames);
    }
    let session = SessionId::parse(&life.session).map_err(|error| error.to_string())?;
    let (record, rows) = read(life, &session).await?;
    check_positions(&rows)?;
    check_epochs(&rows)?;
    stream::check_stream(&rows, &frames)?;
    check_list(&rows, &life.events().await?)?;
    check_accepted(life, &rows)?;
    requests::check_shown(life, &rows)?;
    grammar::check(life, &rows)?;
    usage::check(&record, &rows)?;
    requests::check_prefixes(life, &rows)?;
    check_old_epoch(life, &record).await
}

async fn read(life: &Life, session: &SessionId) -> Result<(SessionRecord, Vec<Row>), Problem> {
    let store = life.world.store().await;
    let read = async {
        let workspace = store.default_workspace().await?;
        let record = store.session(&workspace, session).await?;
        Ok::<_, manyhands_store::Error>((record, store.read(session, 0, ALL).await?))
    };
    let (record, entries) = read.await.map_err(|error| error.to_string())?;
    let parse = |entry: Entry| {
        let body = serde_json::from_str(&entry.body).map_err(|error| error.to_string())?;
        Ok(Row { entry, body })
    };
    let rows = entries
        .into_iter()
        .map(parse)
        .collect::<Result<_, Problem>>();
    Ok((record.ok_or("the session has no row")?, rows?))
}

/// The log of a session, a line each, for whoever looks for a fault.
pub(crate) async fn dump(life: &Life) -> String {
    let Ok(session) = SessionId::parse(&life.session) else {
        return String::new();
    };
    let rows = match read(life, &session).await {
        Ok((_, rows)) => rows,
        Err(problem) => return problem,
    };
    let line = |row: &Row| {
        let mark = match row.entry.kind {
            EntryKind::Event if row.entry.processed_at.is_none() => " (queued)",
            EntryKind::Event => "",
            EntryKind::Processed => " (processed)",
            EntryKind::Private => " (private)",
        };
        let Entry {
            position, epoch, ..
        } = row.entry;
        let body: String = row.entry.body.chars().take(160).collect();
        format!(
            "{position:>4} e{epoch} {}{mark} {} {body}",
            row.kind(),
            row.id()
        )
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Invariant I2: positions from 1, without gaps.
fn check_positions(rows: &[Row]) -> Result<(), Problem> {
    for (row, expected) in rows.iter().zip(1..) {
        if row.entry.position != expected {
            return Err(format!(
                "position {} is {expected} (I2)",
                row.entry.position
            ));
        }
    }
    Ok(())
}

/// Invariant I5, as the log shows it: what brains wrote is in the order of their epochs.
fn check_epochs(rows: &[Row]) -> Result<(), Problem> {
    let mut newest = 0;
    for row in rows.iter().filter(|row| row.entry.epoch > 0) {
        if row.entry.epoch < newest {
            return Err(format!(
                "epoch {newest} comes before {} (I5)",
                row.entry.epoch
            ));
        }
        newest = row.entry.epoch;
    }
    Ok(())
}

/// Invariant I5: whoever has an older lease writes nothing.
async fn check_old_epoch(life: &Life, record: &SessionRecord) -> Result<(), Problem> {
    let lease = Lease {
        workspace: record.workspace.clone(),
        session: record.id.clone(),
        epoch: record.epoch - 1,
    };
    let store = life.world.store().await;
    let appended = store.append(&lease, Append::default()).await;
    let rested = store.append_and_rest(&lease, Append::default(), i64::MAX);
    match (appended, rested.await) {
        (
            Err(AppendError::StaleEpoch { .. } | AppendError::Gone),
            Err(AppendError::StaleEpoch { .. } | AppendError::Gone),
        ) => Ok(()),
        other => Err(format!("an append of an older epoch gives {other:?} (I5)")),
    }
}

/// The list has the last appearance of each event, in order, and what is queued behind them (runtime LI-4, LI-5).
fn check_list(rows: &[Row], events: &[Value]) -> Result<(), Problem> {
    let public: Vec<&Row> = rows.iter().filter(|row| row.entry.is_public()).collect();
    let last_of: HashMap<&str, i64> = public
        .iter()
        .map(|row| (row.id(), row.entry.position))
        .collect();
    let mut expected: Vec<&&Row> = public
        .iter()
        .filter(|row| last_of[row.id()] == row.entry.position)
        .collect();
    expected.sort_by_key(|row| (row.entry.processed_at.is_none(), row.entry.position));
    let ids: Vec<&str> = expected.iter().map(|row| row.id()).collect();
    let listed: Vec<&str> = events
        .iter()
        .filter_map(|event| event["id"].as_str())
        .collect();
    if ids != listed {
        return Err(format!("the list is {listed:?} and should be {ids:?}"));
    }
    for (row, event) in expected.iter().zip(events) {
        let shown: Value = serde_json::from_str(&row.entry.render()).unwrap_or_default();
        if shown != *event {
            return Err(format!("{shown} is listed as {event}"));
        }
    }
    Ok(())
}

/// Invariant I1: what was taken is there, once, as it was sent, in the order in which it was taken; and unless the
/// session has ended it was processed.
fn check_accepted(life: &Life, rows: &[Row]) -> Result<(), Problem> {
    let mut before = 0;
    for accepted in &life.accepted {
        let mut found = rows
            .iter()
            .filter(|row| row.is_event() && row.id() == accepted.id);
        let (found, more) = (found.next(), found.next());
        if accepted.traceless && found.is_none() {
            life.world.count("interrupt: without a trace");
            continue;
        }
        // Nobody waited for such an event to be heard, so its place among those sent at the same time is not known.
        let placed = !accepted.traceless;
        let (Some(row), None) = (found, more) else {
            return Err(format!("{} is not in the log once (I1)", accepted.sent));
        };
        if placed && row.entry.position < before {
            return Err(format!("{} is not in its place (I1)", accepted.sent));
        }
        if placed {
            before = row.entry.position;
        }
        for (member, value) in accepted.sent.as_object().into_iter().flatten() {
            if row.body[member] != *value {
                return Err(format!("{} is stored as {} (I1)", accepted.sent, row.body));
            }
        }
        let processed = rows
            .iter()
            .filter(|row| row.id() == accepted.id && row.entry.processed_at.is_some());
        let times = processed.count();
        if times > 1 || (times == 0 && life.fate == Fate::Alive) {
            return Err(format!(
                "{} was processed {times} times (I1)",
                accepted.sent
            ));
        }
    }
    Ok(())
}

/// Invariant I4: a call is started at most once, one that only looks at most three times.
fn check_starts(life: &Life) -> Result<(), Problem> {
    let calls: HashMap<String, String> = lock(&life.heard.frames)
        .iter()
        .filter(|frame| frame.name == "agent.tool_use")
        .map(|frame| {
            let name = frame.data["name"].as_str().unwrap_or_default();
            (frame.id().to_owned(), name.to_owned())
        })
        .collect();
    for (call, starts) in &*lock(&life.script.starts) {
        let most = match calls.get(call).map(String::as_str) {
            Some("read" | "glob" | "grep") => 3,
            Some(_) => 1,
            // A stream that ended before the session was deleted may have missed the call.
            None if life.heard.missed.load(Ordering::SeqCst) => 3,
            None => return Err(format!("{call} was started and is no call")),
        };
        if *starts > most {
            return Err(format!("{call} was started {starts} times (I4)"));
        }
        life.world.count(format!("call started {starts} times"));
    }
    Ok(())
}
