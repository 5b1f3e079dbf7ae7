//! The session log's rows: how entries are made, checked and written. Deciding who may write is not here.

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use manyhands_protocol::{EventId, SessionId, ThreadId, Timestamp, WorkspaceId};

use crate::db::{Row, Tx, Value, values};
use crate::entry::{Entry, EntryKind, NewEntry};
use crate::error::Error;
use crate::failpoint::failpoint;

/// The columns of an entry, as [`entry_of`] takes them. `l` is the row, `o` the event that a processed one refers to.
macro_rules! entry_columns {
    () => {
        "l.position, l.kind, l.event_id, l.type, l.thread_id, COALESCE(o.body, l.body), l.processed_at,
         l.created_at, l.epoch, l.checksum"
    };
}
pub(crate) use entry_columns;

/// How many they are.
pub(crate) const ENTRY_COLUMNS: usize = 10;

/// Where the columns come from.
macro_rules! entry_tables {
    () => {
        "log l LEFT JOIN log o ON o.session_id = l.session_id AND o.position = l.refers_to"
    };
}
pub(crate) use entry_tables;

/// Rows that one statement inserts at most.
const ROWS: usize = 16;
const COLUMNS: usize = 13;

/// An entry whose body is text already.
pub(crate) struct Draft {
    kind: EntryKind,
    event_id: EventId,
    type_name: Arc<str>,
    body: Arc<str>,
    queued: bool,
}

impl Draft {
    /// Serialises a new entry, once for all.
    pub(crate) fn of(entry: NewEntry) -> Result<Self, Error> {
        Ok(match entry {
            NewEntry::Event { id, body, queued } => Self {
                kind: EntryKind::Event,
                event_id: id,
                type_name: body.type_name().into(),
                body: json(&body)?.into(),
                queued,
            },
            NewEntry::Processed { event_id } => Self {
                kind: EntryKind::Processed,
                event_id,
                type_name: "".into(),
                body: "".into(),
                queued: false,
            },
            NewEntry::Private { type_name, body } => Self {
                kind: EntryKind::Private,
                event_id: EventId::generate(),
                type_name: type_name.into(),
                body: body.into(),
                queued: false,
            },
        })
    }

    /// Whether its entry is all that it writes: it touches no queued event.
    pub(crate) fn is_plain(&self) -> bool {
        !self.queued && self.kind != EntryKind::Processed
    }

    /// The entry behind `before` others of its write.
    pub(crate) fn entry(&self, stamp: &Stamp<'_>, before: usize) -> Entry {
        Entry {
            position: stamp.first + before as i64,
            kind: self.kind,
            event_id: self.event_id.clone(),
            type_name: Arc::clone(&self.type_name),
            thread_id: stamp.thread.clone(),
            body: Arc::clone(&self.body),
            processed_at: (!self.queued).then_some(stamp.now),
            created_at: stamp.now,
            epoch: stamp.epoch,
        }
    }

    /// About how many bytes it adds.
    pub(crate) fn bytes(&self) -> usize {
        self.body.len() + 256
    }
}

/// JSON text of something that is made of plain data.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Invalid {
        operation: "writing JSON",
        reason: error.to_string(),
    })
}

/// What all entries of one write share.
pub(crate) struct Stamp<'a> {
    pub(crate) workspace: &'a WorkspaceId,
    pub(crate) session: &'a SessionId,
    pub(crate) thread: &'a ThreadId,
    /// The position of the first entry.
    pub(crate) first: i64,
    pub(crate) now: Timestamp,
    /// 0 for clients.
    pub(crate) epoch: i64,
}

/// Writes entries at their positions and keeps the inbox. The session's row is locked and counts them already.
pub(crate) async fn insert(
    tx: &mut Tx,
    stamp: &Stamp<'_>,
    drafts: Vec<Draft>,
) -> Result<Vec<Entry>, Error> {
    let mut entries: Vec<(Entry, Option<i64>)> = Vec::with_capacity(drafts.len());
    let mut queued: Vec<usize> = Vec::new();
    for draft in drafts {
        let is_queued = draft.queued;
        let mut refers_to = None;
        let mut entry = draft.entry(stamp, entries.len());
        if entry.kind == EntryKind::Processed {
            let same_write = queued
                .iter()
                .position(|&index| entries[index].0.event_id == entry.event_id);
            let original = match same_write {
                Some(place) => entries[queued.remove(place)].0.clone(),
                None => leave_inbox(tx, stamp.session, &entry.event_id).await?,
            };
            entry.type_name = original.type_name;
            entry.thread_id = original.thread_id;
            entry.body = original.body;
            refers_to = Some(original.position);
        }
        if is_queued {
            queued.push(entries.len());
        }
        entries.push((entry, refers_to));
    }
    for rows in entries.chunks(ROWS) {
        tx.run(insert_sql(rows.len()), insert_values(stamp, rows))
            .await?;
    }
    failpoint!("store::log::inserted");
    for index in queued {
        let entry = &entries[index].0;
        tx.run(
            "INSERT INTO inbox (session_id, position, workspace, event_id) VALUES ($1, $2, $3, $4)",
            values![
                stamp.session.as_str(),
                entry.position,
                stamp.workspace.as_str(),
                entry.event_id.as_str(),
            ],
        )
        .await?;
    }
    Ok(entries.into_iter().map(|(entry, _)| entry).collect())
}

/// Takes a queued event out of the inbox and reads it.
async fn leave_inbox(tx: &mut Tx, session: &SessionId, event_id: &EventId) -> Result<Entry, Error> {
    let left = tx
        .one(
            "DELETE FROM inbox WHERE session_id = $1 AND event_id = $2 RETURNING position",
            values![session.as_str(), event_id.as_str()],
        )
        .await?;
    let Some(left) = left else {
        return Err(Error::Invalid {
            operation: "processing a queued event",
            reason: format!("{event_id} is not queued in {session}"),
        });
    };
    let row = tx
        .one(
            concat!(
                "SELECT ",
                entry_columns!(),
                " FROM ",
                entry_tables!(),
                " WHERE l.session_id = $1 AND l.position = $2"
            ),
            values![session.as_str(), left.int(0)?],
        )
        .await?;
    match row {
        Some(row) => entry_of(session, &row),
        None => Err(damaged(session, left.int(0)?, "it is not there")),
    }
}

/// The statement for so many rows. There are few, so that they stay prepared.
fn insert_sql(rows: usize) -> &'static str {
    static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
        (0..=ROWS)
            .map(|rows| {
                let mut sql = concat!("INSERT INTO log (", log_columns!(), ") VALUES ").to_owned();
                for row in 0..rows {
                    sql.push_str(if row == 0 { "(" } else { ", (" });
                    for column in 1..=COLUMNS {
                        let comma = if column == 1 { "" } else { ", " };
                        // Writing to a string cannot fail.
                        let _ = write!(sql, "{comma}${}", row * COLUMNS + column);
                    }
                    sql.push(')');
                }
                sql
            })
            .collect()
    });
    &TEXTS[rows]
}

/// The columns that [`row_values`] fills, in its order.
macro_rules! log_columns {
    () => {
        "session_id, position, workspace, kind, event_id, type, thread_id, refers_to, body, processed_at, created_at, \
         epoch, checksum"
    };
}
pub(crate) use log_columns;

fn insert_values(stamp: &Stamp<'_>, rows: &[(Entry, Option<i64>)]) -> Vec<Value> {
    let row = |(entry, refers_to): &(Entry, Option<i64>)| row_values(stamp, entry, *refers_to);
    rows.iter().flat_map(row).collect()
}

/// The columns of one row.
pub(crate) fn row_values(
    stamp: &Stamp<'_>,
    entry: &Entry,
    refers_to: Option<i64>,
) -> [Value; COLUMNS] {
    let body: Arc<str> = match entry.kind {
        EntryKind::Processed => "".into(),
        EntryKind::Event | EntryKind::Private => Arc::clone(&entry.body),
    };
    [
        stamp.session.as_str().into(),
        entry.position.into(),
        stamp.workspace.as_str().into(),
        kind_number(entry.kind).into(),
        entry.event_id.as_str().into(),
        Arc::clone(&entry.type_name).into(),
        entry.thread_id.as_str().into(),
        refers_to.into(),
        body.into(),
        entry.processed_at.into(),
        entry.created_at.into(),
        entry.epoch.into(),
        i64::from(checksum(stamp.session, entry)).into(),
    ]
}

fn kind_number(kind: EntryKind) -> i64 {
    match kind {
        EntryKind::Event => 0,
        EntryKind::Processed => 1,
        EntryKind::Private => 2,
    }
}

/// CRC-32 of all an entry says, its place included (security STORE-3).
fn checksum(session: &SessionId, entry: &Entry) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for number in [
        entry.position,
        kind_number(entry.kind),
        entry.processed_at.map_or(i64::MIN, Timestamp::as_micros),
        entry.created_at.as_micros(),
        entry.epoch,
    ] {
        hasher.update(&number.to_le_bytes());
    }
    for text in [
        session.as_str(),
        entry.event_id.as_str(),
        &entry.type_name,
        entry.thread_id.as_str(),
        &entry.body,
    ] {
        hasher.update(text.as_bytes());
        hasher.update(&[0xff]);
    }
    hasher.finalize()
}

/// An entry that is not as it was written.
pub(crate) fn damaged(session: &SessionId, position: i64, reason: &str) -> Error {
    Error::damaged(format!("entry {position} of {session}"), reason)
}

/// Reads an entry from its columns and verifies it.
pub(crate) fn entry_of(session: &SessionId, row: &Row) -> Result<Entry, Error> {
    let position = row.int(0)?;
    let read = || -> Result<(Entry, i64), String> {
        let text = |column| row.text(column).map_err(|error| error.to_string());
        let int = |column| row.int(column).map_err(|error| error.to_string());
        let kind = match int(1)? {
            0 => EntryKind::Event,
            1 => EntryKind::Processed,
            2 => EntryKind::Private,
            kind => return Err(format!("its kind is {kind}")),
        };
        let entry = Entry {
            position,
            kind,
            event_id: EventId::parse(text(2)?).map_err(|error| error.to_string())?,
            type_name: text(3)?.into(),
            thread_id: ThreadId::parse(text(4)?).map_err(|error| error.to_string())?,
            body: text(5)?.into(),
            processed_at: row.optional_time(6).map_err(|error| error.to_string())?,
            created_at: row.time(7).map_err(|error| error.to_string())?,
            epoch: int(8)?,
        };
        Ok((entry, int(9)?))
    };
    let (entry, stored) = read().map_err(|reason| damaged(session, position, &reason))?;
    if i64::from(checksum(session, &entry)) != stored {
        return Err(damaged(session, position, "its checksum does not match"));
    }
    Ok(entry)
}
