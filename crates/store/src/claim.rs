//! Which sessions want a brain, and who takes them: leases that begin (security LEASE-1).

use manyhands_protocol::{SessionId, Timestamp, WorkspaceId};
use tokio::time::Instant;

use crate::db::{Scope, Tx, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::lease::{Lease, Nudge};
use crate::reserve::Purpose;
use crate::store::Store;
use crate::strays::place_of;

macro_rules! wanting {
    ($columns:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM sessions
             WHERE wants_brain = 1 AND archived_at IS NULL
               AND (holder IS NULL OR holder NOT IN (SELECT id FROM living))"
        )
    };
}

/// Sessions without a brain that may have one here: $1 is how many, $2 this place.
const WANTING_HERE: &str = concat!(
    wanting!("workspace, id"),
    " AND (place IS NULL OR place = $2 OR place NOT IN (SELECT place FROM brains))",
    " ORDER BY wanted_since, id LIMIT $1"
);
/// Those whose sandbox is at another place, where a brain lives.
const WANTING_ELSEWHERE: &str = concat!(
    wanting!("workspace, id"),
    " AND place <> $2 AND place IN (SELECT place FROM brains)",
    " ORDER BY wanted_since, id LIMIT $1"
);

/// What waits for a brain, at all servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// How many sessions want a brain that no living instance holds.
    pub sessions: u64,
    /// When the oldest wish among theirs was made.
    pub oldest: Option<Timestamp>,
}

impl Store {
    /// The sessions that want a brain and that no living instance holds, counted (security OPS-1).
    pub async fn backlog(&self) -> Result<Backlog, Error> {
        const SELECT: &str = wanting!("COUNT(*), MIN(wanted_since)");
        let row = self.inner.db.read_one(SELECT, Vec::new()).await?;
        let Some(row) = row else {
            return Ok(Backlog {
                sessions: 0,
                oldest: None,
            });
        };
        Ok(Backlog {
            sessions: u64::try_from(row.int(0)?).unwrap_or(0),
            oldest: row.optional_time(1)?,
        })
    }

    /// Sessions that want a brain and that no living instance holds, oldest wish first. The timer behind lost nudges.
    ///
    /// One whose sandbox is at another place with a living brain is among them, behind the others, when it was left to
    /// that place for two seconds; it must have been seen here for so long.
    pub async fn wanting(&self, limit: u32) -> Result<Vec<Nudge>, Error> {
        let mut found = self.wanting_where(WANTING_HERE, limit).await?;
        if self.inner.db.is_shared() {
            let elsewhere = self.wanting_where(WANTING_ELSEWHERE, limit).await?;
            let patience = &self.inner.patience;
            let now = Instant::now();
            patience.see(elsewhere.iter().map(|nudge| &nudge.session), now);
            let late = elsewhere.into_iter();
            found.extend(late.filter(|nudge| patience.is_over(&nudge.session, now)));
            found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        Ok(found)
    }

    async fn wanting_where(&self, sql: &'static str, limit: u32) -> Result<Vec<Nudge>, Error> {
        let place = self.inner.home.name();
        let rows = self.inner.db.read(sql, values![limit, place]).await?;
        rows.iter()
            .map(|row| {
                let (workspace, session) = place_of(row)?;
                Ok(Nudge {
                    workspace,
                    session,
                    lease: None,
                })
            })
            .collect()
    }

    /// Takes the lease of a session that wants a brain; `None` when a living instance (this one included) holds it,
    /// when it is left to the place of its sandbox for now, or when nothing is wanted.
    pub async fn claim(
        &self,
        workspace: &WorkspaceId,
        session: &SessionId,
    ) -> Result<Option<Lease>, Error> {
        let instance = self.inner.services.instance.clone();
        let place = self.inner.home.name().to_owned();
        let anywhere = self.inner.patience.is_over(session, Instant::now());
        let (workspace, session) = (workspace.clone(), session.clone());
        let scope = Scope::of(session.as_str()).with_purpose(Purpose::Depends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    // While room is short, a wake can do nothing but end what a client has stopped.
                    if tx.is_short_of_room() && !is_interrupted(tx, &session).await? {
                        return Ok(None);
                    }
                    tx.admit(Purpose::Ends)?;
                    let row = tx
                        .one(
                            "UPDATE sessions SET epoch = epoch + 1, holder = $3, place = $4
                             WHERE id = $1 AND workspace = $2 AND wants_brain = 1 AND archived_at IS NULL
                               AND (holder IS NULL OR holder NOT IN (SELECT id FROM living))
                               AND ($5 = 1 OR place IS NULL OR place = $4 OR place NOT IN (SELECT place FROM brains))
                             RETURNING epoch",
                            values![
                                session.as_str(),
                                workspace.as_str(),
                                instance.as_str(),
                                place,
                                anywhere,
                            ],
                        )
                        .await?;
                    failpoint!("store::lease::claimed");
                    let Some(row) = row else { return Ok(None) };
                    Ok(Some(Lease {
                        epoch: row.int(0)?,
                        workspace,
                        session,
                    }))
                })
            })
            .await
    }
}

/// Whether a client has stopped the session and no brain has heard it.
async fn is_interrupted(tx: &mut Tx, session: &SessionId) -> Result<bool, Error> {
    let found = tx
        .one(
            "SELECT i.position FROM inbox i
             JOIN log l ON l.session_id = i.session_id AND l.position = i.position
             WHERE i.session_id = $1 AND l.type = 'user.interrupt' LIMIT 1",
            values![session.as_str()],
        )
        .await?;
    Ok(found.is_some())
}
