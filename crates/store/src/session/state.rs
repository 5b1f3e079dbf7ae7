//! What a client's write is decided on.

use manyhands_protocol::{EventId, SessionId, Timestamp, WorkspaceId};

use super::read::{RECORD_COLUMNS, record_columns, record_of, record_tables};
use super::{OpenCall, SessionState};
use crate::db::{Lock, Tx, values};
use crate::error::Error;
use crate::listing::Query;

/// Who may wake a session, as its row says.
#[derive(Debug, Default)]
pub(super) struct Owner {
    /// The living instance that holds it.
    pub(super) holder: Option<String>,
    /// The place where its sandbox is, when a brain lives there.
    pub(super) place: Option<String>,
}

/// Reads all that a client's write is decided on, under the session's lock, and who may wake it.
pub(super) async fn lock_state(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    id: &SessionId,
    referenced: &[EventId],
    now: Timestamp,
) -> Result<Option<(SessionState, Owner)>, Error> {
    if tx.needs_row_locks() {
        // A statement of its own: the ones after it see what was committed while it waited.
        let sql = "SELECT id FROM sessions WHERE id = $1";
        tx.locked(Lock::Update, sql, values![id.as_str()]).await?;
    }
    let row = tx
        .one(
            concat!(
                "SELECT ",
                record_columns!(),
                ", CASE WHEN s.holder IN (SELECT id FROM living) THEN s.holder END,
                 CASE WHEN s.place IN (SELECT place FROM brains) THEN s.place END,
                 (SELECT COUNT(*) FROM inbox i WHERE i.session_id = s.id),
                 (SELECT COUNT(*) FROM calls c WHERE c.session_id = s.id AND c.answer IS NULL),
                 s.wants_brain
                 FROM ",
                record_tables!(),
                " WHERE s.id = $1 AND s.workspace = $2"
            ),
            values![id.as_str(), workspace.as_str()],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let record = record_of(&row)?;
    let owner = Owner {
        holder: row.optional_text(RECORD_COLUMNS)?.map(str::to_owned),
        place: row.optional_text(RECORD_COLUMNS + 1)?.map(str::to_owned),
    };
    let queued = u64::try_from(row.int(RECORD_COLUMNS + 2)?).unwrap_or(0);
    let calls = if row.int(RECORD_COLUMNS + 3)? > 0 || !referenced.is_empty() {
        calls(tx, id, referenced).await?
    } else {
        Vec::new()
    };
    let state = SessionState {
        record,
        calls,
        queued,
        wanted: row.int(RECORD_COLUMNS + 4)? == 1,
        now,
    };
    Ok(Some((state, owner)))
}

async fn calls(
    tx: &mut Tx,
    session: &SessionId,
    referenced: &[EventId],
) -> Result<Vec<OpenCall>, Error> {
    let mut query = Query::new("SELECT event_id, type, answer FROM calls WHERE session_id = ");
    query.bind(session.as_str());
    query.push(" AND (answer IS NULL");
    for id in referenced {
        query.push(" OR event_id = ");
        query.bind(id.as_str());
    }
    query.push(") ORDER BY event_id");
    let rows = tx.all(query.sql, query.values).await?;
    let id = |text: &str| {
        EventId::parse(text).map_err(|error| Error::damaged(format!("a call of {session}"), error))
    };
    rows.iter()
        .map(|row| {
            Ok(OpenCall {
                event_id: id(row.text(0)?)?,
                type_name: row.text(1)?.to_owned(),
                answer: row.optional_text(2)?.map(id).transpose()?,
            })
        })
        .collect()
}
