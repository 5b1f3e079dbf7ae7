//! One session: its row, its log, its queue and its open calls, in one snapshot.

use manyhands_protocol::SessionId;

use super::resources::reason;
use super::{PAGE, Verifier};
use crate::db::{Row, values};
use crate::error::Error;
use crate::log::{entry_columns, entry_of, entry_tables};
use crate::session::{record_columns, record_of, record_tables};

/// Looks at all that belongs to a session.
pub(super) async fn verify(verifier: &mut Verifier<'_>, text: &str) -> Result<(), Error> {
    let Ok(id) = SessionId::parse(text) else {
        verifier.damaged(format!("session {text:?}"), "its id is not a session's");
        return Ok(());
    };
    verifier.reader.freeze().await?;
    let looked = look(verifier, &id).await;
    verifier.reader.thaw().await?;
    looked
}

async fn look(verifier: &mut Verifier<'_>, id: &SessionId) -> Result<(), Error> {
    let item = format!("session {id}");
    let row = row(verifier, id).await;
    let Some(row) = verifier.heed(&item, row)? else {
        return Ok(());
    };
    if row == Place::Gone {
        return Ok(());
    }
    verifier.counts.sessions += 1;
    let log = log(verifier, id, &row).await;
    verifier.heed(&format!("the log of {id}"), log)?;
    let inbox = inbox(verifier, id).await;
    verifier.heed(&format!("the inbox of {id}"), inbox)?;
    let calls = calls(verifier, id).await;
    verifier.heed(&format!("the calls of {id}"), calls)?;
    Ok(())
}

/// What there is beside the log.
#[derive(PartialEq)]
enum Place {
    /// Nothing, or what the server is about to remove.
    Gone,
    /// Something, but no row.
    Orphaned,
    /// A row.
    Row {
        workspace: String,
        last_position: i64,
    },
}

async fn row(verifier: &mut Verifier<'_>, id: &SessionId) -> Result<Place, Error> {
    let item = format!("session {id}");
    let found = verifier
        .reader
        .one(
            "SELECT s.workspace, s.last_position, s.input_position, p.session_id FROM sessions s
             LEFT JOIN session_profiles p ON p.session_id = s.id WHERE s.id = $1",
            values![id.as_str()],
        )
        .await?;
    let Some(row) = found else {
        return orphan(verifier, id, &item).await;
    };
    let (last_position, input_position) = (row.int(1)?, row.int(2)?);
    if row.optional_text(3)?.is_none() {
        verifier.damaged(&item, "its profile is missing");
    } else {
        let sql = concat!(
            "SELECT ",
            record_columns!(),
            " FROM ",
            record_tables!(),
            " WHERE s.id = $1"
        );
        let record = verifier.reader.one(sql, values![id.as_str()]).await?;
        let record = record.as_ref().map(record_of).transpose();
        if verifier.heed(&item, record)?.is_some() && input_position > last_position {
            let reason = format!(
                "it has input up to position {input_position} and entries up to {last_position}"
            );
            verifier.damaged(&item, reason);
        }
    }
    Ok(Place::Row {
        workspace: row.text(0)?.to_owned(),
        last_position,
    })
}

async fn orphan(verifier: &mut Verifier<'_>, id: &SessionId, item: &str) -> Result<Place, Error> {
    let counts = verifier
        .reader
        .one(
            "SELECT (SELECT COUNT(*) FROM remains WHERE session_id = $1),
                    (SELECT COUNT(*) FROM log WHERE session_id = $1),
                    (SELECT COUNT(*) FROM inbox WHERE session_id = $1),
                    (SELECT COUNT(*) FROM calls WHERE session_id = $1),
                    (SELECT COUNT(*) FROM session_profiles WHERE session_id = $1)",
            values![id.as_str()],
        )
        .await?;
    let Some(row) = counts else {
        return Ok(Place::Gone);
    };
    let (remains, log, inbox, calls, profiles) = (
        row.int(0)?,
        row.int(1)?,
        row.int(2)?,
        row.int(3)?,
        row.int(4)?,
    );
    let beside = inbox + calls + profiles;
    if beside == 0 && (remains > 0 || log == 0) {
        return Ok(Place::Gone);
    }
    let reason = format!(
        "its row is missing, and there are {log} entries, {inbox} queued events, {calls} calls, {profiles} profiles"
    );
    verifier.damaged(item, reason);
    // A log that is being removed has no beginning any more.
    Ok(if remains > 0 {
        Place::Gone
    } else {
        Place::Orphaned
    })
}

/// An entry, with what must agree with it. Columns 10 and on are [`entry`]'s.
const ENTRIES: &str = concat!(
    "SELECT ",
    entry_columns!(),
    ", l.workspace, l.refers_to, o.kind, o.event_id, o.processed_at,
     CASE WHEN l.kind = 0 THEN (SELECT COUNT(*) FROM log p
         WHERE p.event_id = l.event_id AND p.session_id = l.session_id AND p.kind = 1) END,
     CASE WHEN l.kind = 0 THEN (SELECT COUNT(*) FROM inbox i
         WHERE i.session_id = l.session_id AND i.position = l.position AND i.event_id = l.event_id) END
     FROM ",
    entry_tables!(),
    " WHERE l.session_id = $1 AND l.position > $2 ORDER BY l.position LIMIT $3"
);

async fn log(verifier: &mut Verifier<'_>, id: &SessionId, place: &Place) -> Result<(), Error> {
    let mut after = i64::MIN;
    // The position of the last entry of the gapless part.
    let mut last = 0;
    loop {
        let values = values![id.as_str(), after, PAGE];
        let rows = verifier.reader.all(ENTRIES, values).await?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            let position = row.int(0)?;
            after = position;
            verifier.counts.entries += 1;
            let mut wrong = entry(id, row, place)?;
            if position < 1 {
                wrong.push("its position is below 1".to_owned());
            } else {
                missing(verifier, id, last + 1, position - 1, "");
                last = position;
            }
            if !wrong.is_empty() {
                verifier.damaged(format!("entry {position} of {id}"), wrong.join("; "));
            }
        }
        verifier.progress();
    }
    if let Place::Row { last_position, .. } = place {
        let counted = " though the session's row counts them";
        missing(verifier, id, last + 1, *last_position, counted);
        if *last_position < last {
            verifier.damaged(
                format!("session {id}"),
                format!("its row counts {last_position} entries, its log goes to position {last}"),
            );
        }
    }
    Ok(())
}

fn missing(verifier: &mut Verifier<'_>, id: &SessionId, first: i64, last: i64, though: &str) {
    if first == last {
        verifier.damaged(
            format!("entry {first} of {id}"),
            format!("it is missing{though}"),
        );
    } else if first < last {
        let item = format!("entries {first} to {last} of {id}");
        verifier.damaged(item, format!("they are missing{though}"));
    }
}

/// All that is wrong with an entry.
fn entry(id: &SessionId, row: &Row, place: &Place) -> Result<Vec<String>, Error> {
    let mut wrong = Vec::new();
    if let Place::Row { workspace, .. } = place
        && row.text(10)? != workspace
    {
        wrong.push(format!(
            "it is in workspace {}, not {workspace}",
            row.text(10)?
        ));
    }
    if row.int(1)? == 1 {
        let refers_to = row.optional_int(11)?;
        let refers_to = refers_to.map_or("nothing".to_owned(), |at| format!("entry {at}"));
        if row.optional_int(12)?.is_none() {
            // Without the body that it shares, its checksum says nothing.
            wrong.push(format!("it refers to {refers_to}, which is missing"));
            return Ok(wrong);
        }
        let same = row.optional_text(13)? == Some(row.text(2)?);
        if row.optional_int(12)? != Some(0) || !same || row.optional_int(14)?.is_some() {
            wrong.push(format!(
                "it refers to {refers_to}, which is not its queued event"
            ));
        }
    }
    if let Err(error) = entry_of(id, row) {
        wrong.push(reason(&error));
    }
    if let (Some(processed), Some(waiting)) = (row.optional_int(15)?, row.optional_int(16)?) {
        let queued = row.optional_int(6)?.is_none();
        let problem = match (queued, processed, waiting) {
            (true, 0, 1) | (true, 1, 0) | (false, 0, 0) => None,
            (true, 0, _) => Some("it is not processed and does not wait in the inbox"),
            (true, 1, _) => Some("it is processed and still waits in the inbox"),
            (true, ..) => Some("it is processed more than once"),
            (false, ..) => Some("it was never queued, but waits or is processed again"),
        };
        wrong.extend(problem.map(str::to_owned));
    }
    Ok(wrong)
}

async fn inbox(verifier: &mut Verifier<'_>, id: &SessionId) -> Result<(), Error> {
    let mut after = i64::MIN;
    loop {
        let rows = verifier
            .reader
            .all(
                "SELECT i.position, i.event_id FROM inbox i
                 LEFT JOIN log l ON l.session_id = i.session_id AND l.position = i.position
                     AND l.event_id = i.event_id AND l.kind = 0
                 WHERE i.session_id = $1 AND i.position > $2 AND l.position IS NULL
                 ORDER BY i.position LIMIT $3",
                values![id.as_str(), after, PAGE],
            )
            .await?;
        let Some(last) = rows.last() else {
            return Ok(());
        };
        after = last.int(0)?;
        for row in &rows {
            let item = format!("queued event {} of {id}", row.text(1)?);
            let reason = format!("the log does not have it at position {}", row.int(0)?);
            verifier.damaged(item, reason);
        }
    }
}

async fn calls(verifier: &mut Verifier<'_>, id: &SessionId) -> Result<(), Error> {
    let mut after = String::new();
    loop {
        let rows = verifier
            .reader
            .all(
                "SELECT c.event_id, c.type, c.answer,
                     (SELECT COUNT(*) FROM log l WHERE l.event_id = c.event_id
                          AND l.session_id = c.session_id AND l.kind = 0 AND l.type = c.type),
                     (SELECT COUNT(*) FROM log l WHERE l.event_id = c.answer
                          AND l.session_id = c.session_id AND l.kind = 0)
                 FROM calls c WHERE c.session_id = $1 AND c.event_id > $2 ORDER BY c.event_id LIMIT $3",
                values![id.as_str(), after.as_str(), PAGE],
            )
            .await?;
        let Some(last) = rows.last() else {
            return Ok(());
        };
        after = last.text(0)?.to_owned();
        for row in &rows {
            let (event_id, type_name, answer) = (row.text(0)?, row.text(1)?, row.optional_text(2)?);
            let mut wrong = Vec::new();
            if row.int(3)? == 0 || !type_name.ends_with("tool_use") {
                wrong.push(format!("it is no tool use ({type_name}) of the log"));
            }
            if let Some(answer) = answer
                && row.int(4)? == 0
            {
                wrong.push(format!("its answer {answer} is not in the log"));
            }
            if !wrong.is_empty() {
                verifier.damaged(format!("call {event_id} of {id}"), wrong.join("; "));
            }
        }
    }
}
