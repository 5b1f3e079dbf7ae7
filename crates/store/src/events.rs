//! Reading the session log: by position, by event, and as the public list.

use manyhands_protocol::{EventId, SessionId, Timestamp};

use crate::db::{Sql, Value, values};
use crate::entry::{Entry, EntryKind};
use crate::error::Error;
use crate::listing::{EventKey, EventRange};
use crate::log::{ENTRY_COLUMNS, damaged, entry_columns, entry_of, entry_tables};
use crate::store::Store;

impl Store {
    /// Entries after a position (private ones included), oldest first and without a gap (security I2). One that the
    /// session's row counts and that is not there is damage (security STORE-3). Nothing when there is no such session.
    pub async fn read(
        &self,
        session: &SessionId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Entry>, Error> {
        let sql = concat!(
            "SELECT ",
            entry_columns!(),
            ", (SELECT last_position FROM sessions WHERE id = $1) FROM ",
            entry_tables!(),
            " WHERE l.session_id = $1 AND l.position > $2 ORDER BY l.position LIMIT $3"
        );
        let values = values![session.as_str(), after, limit];
        let rows = self.inner.db.read(sql, values).await?;
        let Some(row) = rows.last() else {
            return match self.ends_before(session, after).await? {
                true => Err(damaged(session, after.max(0) + 1, "it is missing")),
                false => Ok(Vec::new()),
            };
        };
        // The log of a session that was deleted goes in pieces.
        let Some(last) = row.optional_int(ENTRY_COLUMNS)? else {
            return Ok(Vec::new());
        };
        let mut expected = after.max(0);
        for row in &rows {
            expected += 1;
            if row.int(0)? != expected {
                return Err(damaged(session, expected, "it is missing"));
            }
        }
        if rows.len() < limit as usize && expected < last {
            return Err(damaged(session, expected + 1, "it is missing"));
        }
        rows.iter().map(|row| entry_of(session, row)).collect()
    }

    /// Whether a session's row counts entries after a position and there are none.
    async fn ends_before(&self, session: &SessionId, position: i64) -> Result<bool, Error> {
        let sql = "SELECT id FROM sessions WHERE id = $1 AND last_position > $2
                   AND NOT EXISTS (SELECT 1 FROM log WHERE session_id = $1 AND position > $2)";
        let values = values![session.as_str(), position];
        self.inner.db.has(sql, values).await
    }

    /// The last entry of a private type, if any: where replay starts (a compaction), or an intent.
    pub async fn last_private(
        &self,
        session: &SessionId,
        type_name: &str,
    ) -> Result<Option<Entry>, Error> {
        let sql = concat!(
            "SELECT ",
            entry_columns!(),
            " FROM ",
            entry_tables!(),
            " WHERE l.session_id = $1 AND l.type = $2 AND l.kind = 2 ORDER BY l.position DESC LIMIT 1"
        );
        let found = self
            .entries(session, sql, values![session.as_str(), type_name])
            .await?;
        Ok(found.into_iter().next())
    }

    /// All entries of a private type, oldest first.
    pub async fn privates(
        &self,
        session: &SessionId,
        type_name: &str,
    ) -> Result<Vec<Entry>, Error> {
        let sql = concat!(
            "SELECT ",
            entry_columns!(),
            " FROM ",
            entry_tables!(),
            " WHERE l.session_id = $1 AND l.type = $2 AND l.kind = 2 ORDER BY l.position"
        );
        self.entries(session, sql, values![session.as_str(), type_name])
            .await
    }

    /// One event in its present state: the last appearance of its id.
    pub async fn event(&self, session: &SessionId, id: &EventId) -> Result<Option<Entry>, Error> {
        let sql = concat!(
            "SELECT ",
            entry_columns!(),
            " FROM ",
            entry_tables!(),
            " WHERE l.event_id = $2 AND l.session_id = $1 AND l.kind <> 2 ORDER BY l.position DESC LIMIT 1"
        );
        let found = self
            .entries(session, sql, values![session.as_str(), id.as_str()])
            .await?;
        Ok(found.into_iter().next())
    }

    /// A page of the public event list, each with its key: one row per event, sorted by the position at which it was
    /// processed, queued ones last (runtime LI-4, LI-5).
    pub async fn list_events(
        &self,
        session: &SessionId,
        range: &EventRange,
    ) -> Result<Vec<(EventKey, Entry)>, Error> {
        let Some((sql, values)) = list_query(session, range) else {
            return Ok(Vec::new());
        };
        let entries = self.entries(session, sql, values).await?;
        Ok(entries
            .into_iter()
            .map(|entry| (key_of(&entry), entry))
            .collect())
    }

    async fn entries(
        &self,
        session: &SessionId,
        sql: impl Into<Sql>,
        values: Vec<Value>,
    ) -> Result<Vec<Entry>, Error> {
        self.inner
            .db
            .list(sql, values, |row| entry_of(session, row))
            .await
    }
}

/// Where a listed entry stands.
fn key_of(entry: &Entry) -> EventKey {
    match (entry.kind, entry.processed_at) {
        (EntryKind::Event, None) => EventKey::Queued(entry.position),
        _ => EventKey::Processed(entry.position),
    }
}

/// Both parts of the list in one statement, so that an event which is just being processed is in exactly one of
/// them. `None` when the range is empty by itself.
fn list_query(session: &SessionId, range: &EventRange) -> Option<(String, Vec<Value>)> {
    let mut values: Vec<Value> = values![session.as_str(), range.limit];
    let mut bind = |value: Value| {
        values.push(value);
        format!("${}", values.len())
    };
    let (beyond, direction) = if range.descending {
        ("<", "DESC")
    } else {
        (">", "ASC")
    };

    let mut types = String::new();
    if !range.types.is_empty() {
        let list: Vec<String> = range
            .types
            .iter()
            .map(|name| bind(name.as_str().into()))
            .collect();
        types = format!(" AND l.type IN ({})", list.join(", "));
    }
    let times: String = [
        (">", range.processed_after),
        (">=", range.processed_from),
        ("<", range.processed_before),
        ("<=", range.processed_to),
    ]
    .into_iter()
    .filter_map(|(relation, at): (&str, Option<Timestamp>)| {
        let bound = bind(at?.into());
        Some(format!(" AND l.processed_at {relation} {bound}"))
    })
    .collect();

    // A key inside one part says whether the other part is still to come or over. Events move from the queued part to
    // the end of the processed one while pages are read.
    let beside = range.beside;
    let (processed, queued) = match (range.after, range.descending) {
        (None, _) => (Some(None), Some(None)),
        (Some(EventKey::Processed(position)), false) => (Some(Some(position)), Some(beside)),
        (Some(EventKey::Queued(position)), false) => (beside.map(Some), Some(Some(position))),
        (Some(EventKey::Processed(position)), true) => (Some(Some(position)), None),
        (Some(EventKey::Queued(position)), true) => (Some(None), Some(Some(position))),
    };
    let shown = queued.flatten().filter(|_| !range.descending);
    let queued = queued.filter(|_| times.is_empty());
    let columns = entry_columns!();
    let tables = entry_tables!();
    let mut parts = Vec::new();
    if let Some(after) = processed {
        let mut place = after.map_or(String::new(), |position| {
            format!(" AND l.position {beyond} {}", bind(position.into()))
        });
        if let Some(shown) = shown {
            let shown = bind(shown.into());
            place.push_str(&format!(" AND COALESCE(l.refers_to, l.position) > {shown}"));
        }
        parts.push(format!(
            "SELECT * FROM (SELECT {columns}, 0 AS part FROM {tables} WHERE l.session_id = $1{place}
             AND (l.kind = 1 OR l.kind = 0 AND l.processed_at IS NOT NULL){types}{times}
             ORDER BY l.position {direction} LIMIT $2) AS processed"
        ));
    }
    if let Some(after) = queued {
        let place = after.map_or(String::new(), |position| {
            format!(" AND i.position {beyond} {}", bind(position.into()))
        });
        parts.push(format!(
            "SELECT * FROM (SELECT {columns}, 1 AS part FROM inbox i
             JOIN log l ON l.session_id = i.session_id AND l.position = i.position
             LEFT JOIN log o ON o.session_id = l.session_id AND o.position = l.refers_to
             WHERE i.session_id = $1{place}{types}
             ORDER BY i.position {direction} LIMIT $2) AS queued"
        ));
    }
    if parts.is_empty() {
        return None;
    }
    let sql = format!(
        "{} ORDER BY part {direction}, position {direction} LIMIT $2",
        parts.join(" UNION ALL ")
    );
    Some((sql, values))
}
