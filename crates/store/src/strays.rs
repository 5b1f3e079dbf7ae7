//! Sessions that fell between two leases. That must not happen; where it does, it is found here and repaired
//! (security I8: no state without a way out).

use manyhands_protocol::{SessionId, WorkspaceId};

use crate::db::{Row, Scope, values};
use crate::error::Error;
use crate::lease::Lease;
use crate::store::Store;

impl Store {
    /// Makes sessions want a brain again that are running or rescheduling, of which nobody wants one, and which no
    /// living instance holds. At most `limit` of them; returns those it found.
    pub async fn rescue_stranded(
        &self,
        limit: u32,
    ) -> Result<Vec<(WorkspaceId, SessionId)>, Error> {
        let now = self.inner.services.clock.now();
        self.inner
            .db
            .write(Scope::default(), move |tx| {
                Box::pin(async move {
                    tx.list(// The guard stands twice: a row may change while this waits for its lock.
                            "UPDATE sessions SET wants_brain = 1, wanted_since = $2
                             WHERE wants_brain = 0 AND status IN ('running', 'rescheduling') AND archived_at IS NULL
                               AND (holder IS NULL OR holder NOT IN (SELECT id FROM living))
                               AND id IN (
                                 SELECT id FROM sessions
                                 WHERE wants_brain = 0 AND status IN ('running', 'rescheduling')
                                   AND archived_at IS NULL
                                   AND (holder IS NULL OR holder NOT IN (SELECT id FROM living))
                                 ORDER BY id LIMIT $1)
                             RETURNING workspace, id",
                            values![limit, now], place_of).await
                })
            })
            .await
    }

    /// The leases that this process holds, by the store: each should have a wake. At most `limit` of them, after the
    /// session `after` (`None`: from the first).
    pub async fn held(&self, after: Option<&SessionId>, limit: u32) -> Result<Vec<Lease>, Error> {
        let after = after.map_or("", SessionId::as_str);
        let instance = self.inner.services.instance.as_str();
        let rows = self
            .inner
            .db
            .read(
                "SELECT workspace, id, epoch FROM sessions WHERE holder = $1 AND id > $2 ORDER BY id LIMIT $3",
                values![instance, after, limit],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let (workspace, session) = place_of(row)?;
                Ok(Lease {
                    workspace,
                    session,
                    epoch: row.int(2)?,
                })
            })
            .collect()
    }

    /// Whether a living instance has the lease of a session.
    pub async fn is_held(
        &self,
        workspace: &WorkspaceId,
        session: &SessionId,
    ) -> Result<bool, Error> {
        let sql = "SELECT id FROM sessions
             WHERE id = $1 AND workspace = $2 AND holder IN (SELECT id FROM living)";
        let values = values![session.as_str(), workspace.as_str()];
        self.inner.db.has(sql, values).await
    }
}

/// Reads whose session it is, and which.
pub(crate) fn place_of(row: &Row) -> Result<(WorkspaceId, SessionId), Error> {
    let damaged = |error: manyhands_protocol::id::IdError| Error::damaged("a session's row", error);
    Ok((
        WorkspaceId::parse(row.text(0)?).map_err(damaged)?,
        SessionId::parse(row.text(1)?).map_err(damaged)?,
    ))
}
