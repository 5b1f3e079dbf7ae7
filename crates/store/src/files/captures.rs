//! Outputs of sessions: the wish to look for them, which outlives whoever had it, and what was found (runtime FI-5, FI-6).

use manyhands_protocol::{SessionId, WorkspaceId};

use super::resources::lock_session;
use super::{FileRecord, Origin, insert, record_of, remove};
use crate::body;
use crate::db::{Scope, Tx, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::log::json;
use crate::reserve::Purpose;
use crate::store::Store;

/// A session whose outputs are to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Whose it is.
    pub workspace: WorkspaceId,
    /// The session.
    pub session: SessionId,
    wish: i64,
}

/// What became of captured outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Captured {
    /// They are files of the session.
    Kept,
    /// The session is gone meanwhile: their blobs belong to nobody.
    Gone,
}

impl Store {
    /// Wishes that a session's outputs are looked at when it is idle, because it is about to run something that may write
    /// some (security LOG-5).
    pub async fn want_capture(
        &self,
        workspace: &WorkspaceId,
        session: &SessionId,
    ) -> Result<(), Error> {
        let (workspace, session) = (workspace.clone(), session.clone());
        let scope = Scope::of(session.as_str()).with_purpose(Purpose::Depends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    tx.run(
                        "INSERT INTO captures (session_id, workspace, wish) VALUES ($1, $2, 1)
                         ON CONFLICT (session_id) DO UPDATE SET wish = captures.wish + 1",
                        values![session.as_str(), workspace.as_str()],
                    )
                    .await?;
                    failpoint!("store::capture::wanted");
                    Ok(())
                })
            })
            .await
    }

    /// Idle or ended sessions whose outputs are to be looked at, as far as their sandboxes are at this place.
    pub async fn captures_due(&self, limit: u32) -> Result<Vec<Due>, Error> {
        // Where one process has the database at a time, every sandbox is at its place, whatever that was called before.
        let (place, alone) = (self.inner.home.name(), !self.inner.db.is_shared());
        let rows = self
            .inner
            .db
            .read(
                "SELECT c.workspace, c.session_id, c.wish FROM captures c JOIN sessions s ON s.id = c.session_id
                 WHERE s.status IN ('idle', 'terminated') AND (s.place IS NULL OR s.place = $1 OR $3 = 1)
                 ORDER BY c.session_id LIMIT $2",
                values![place, limit, alone],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let damaged = |error: manyhands_protocol::id::IdError| {
                    Error::damaged("a wish for a capture", error)
                };
                Ok(Due {
                    workspace: WorkspaceId::parse(row.text(0)?).map_err(damaged)?,
                    session: SessionId::parse(row.text(1)?).map_err(damaged)?,
                    wish: row.int(2)?,
                })
            })
            .collect()
    }

    /// The outputs of a session that were captured so far.
    pub async fn outputs(&self, session: &SessionId) -> Result<Vec<FileRecord>, Error> {
        let sql = "SELECT body, id, checksum FROM files WHERE session_id = $1 AND path IS NOT NULL ORDER BY path";
        self.inner
            .db
            .list(sql, values![session.as_str()], record_of)
            .await
    }

    /// Keeps what was found, whose blobs are durable, and ends the wish unless it was renewed meanwhile. A file that was
    /// found before at the same path is replaced; one that is not there any more stays.
    pub async fn finish_capture(
        &self,
        due: &Due,
        found: Vec<FileRecord>,
        is_all: bool,
    ) -> Result<Captured, Error> {
        let (due, loosened) = (due.clone(), self.inner.services.loosened.clone());
        let purpose = if found.is_empty() {
            Purpose::Ends
        } else {
            Purpose::Begins
        };
        let scope = Scope::of(due.session.as_str()).with_purpose(purpose);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    let Due {
                        workspace,
                        session,
                        wish,
                    } = &due;
                    if lock_session(tx, workspace, session).await?.is_none() {
                        return Ok(Captured::Gone);
                    }
                    for record in &found {
                        let Origin::Output { path, .. } = &record.origin else {
                            return Err(Error::Invalid {
                                operation: "keeping outputs",
                                reason: format!("{} is none", record.file.id),
                            });
                        };
                        let sql = "SELECT body, id, checksum FROM files WHERE session_id = $1 AND path = $2";
                        let values = values![session.as_str(), path.as_str()];
                        match tx.find(sql, values, record_of).await? {
                            Some(old) if old.file.id == record.file.id => {
                                restamp(tx, record).await?;
                            }
                            Some(old) => {
                                remove(tx, &old).await?;
                                insert(tx, workspace, record).await?;
                            }
                            None => insert(tx, workspace, record).await?,
                        }
                    }
                    if is_all {
                        tx.run(
                            "DELETE FROM captures WHERE session_id = $1 AND wish = $2",
                            values![session.as_str(), *wish],
                        )
                        .await?;
                    }
                    failpoint!("store::capture::finished");
                    tx.after_commit(move || loosened.notify_one());
                    Ok(Captured::Kept)
                })
            })
            .await
    }
}

/// Writes the new stamp of a file that stays the file it is.
async fn restamp(tx: &mut Tx, record: &FileRecord) -> Result<(), Error> {
    let (id, body) = (record.file.id.as_str(), json(record)?);
    tx.run(
        "UPDATE files SET body = $2, checksum = $3 WHERE id = $1",
        values![id, body.as_str(), body::checksum(id, &body)],
    )
    .await
}
