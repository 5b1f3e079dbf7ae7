//! What must be true of every session, whatever befell it: the invariants of the log, of the list and of the stream.

pub mod grammar;
pub mod life;
pub mod requests;
pub mod stream;
pub mod usage;

use std::collections::HashMap;

use bytes::Bytes;
use manyhands_store::{Entry, EntryKind};
use serde_json::Value;

use crate::frames::Frame;

/// What is wrong.
pub type Problem = String;

/// What is known of a session.
pub struct Evidence<'a> {
    /// Its log.
    pub rows: &'a [Row],
    /// What a client heard, over all its connections.
    pub frames: &'a [Frame],
    /// The bodies of all requests to the model.
    pub requests: &'a [Bytes],
    /// The budget it was made with, in cents.
    pub budget: Option<u64>,
    /// Whether it was neither archived nor deleted.
    pub alive: bool,
    /// Whether its tools were changed, so that requests begin differently.
    pub retooled: bool,
    /// Counts a branch that was taken.
    pub count: &'a (dyn Fn(String) + Sync),
}

/// An entry of the log, its body parsed.
pub struct Row {
    /// As it is stored.
    pub entry: Entry,
    /// Its body.
    pub body: Value,
}

impl Row {
    /// The event's id.
    pub fn id(&self) -> &str {
        self.entry.event_id.as_str()
    }

    /// Its type.
    pub fn kind(&self) -> &str {
        &self.entry.type_name
    }

    /// Whether it is a public event as first stored.
    pub fn is_event(&self) -> bool {
        self.entry.kind == EntryKind::Event
    }
}

/// The log as rows.
pub fn rows(entries: Vec<Entry>) -> Result<Vec<Row>, Problem> {
    let parse = |entry: Entry| {
        let body = serde_json::from_str(&entry.body).map_err(|error| error.to_string())?;
        Ok(Row { entry, body })
    };
    entries.into_iter().map(parse).collect()
}

/// The log, a line each, for whoever looks for a fault.
pub fn dump(rows: &[Row]) -> String {
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
pub fn check_positions(rows: &[Row]) -> Result<(), Problem> {
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
pub fn check_epochs(rows: &[Row]) -> Result<(), Problem> {
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

/// The list has the last appearance of each event, in order, and what is queued behind them (runtime LI-4, LI-5).
pub fn check_list(rows: &[Row], events: &[Value]) -> Result<(), Problem> {
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
