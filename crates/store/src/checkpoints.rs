//! Checkpoints of sandboxes: which blob holds what a session's sandbox had written, and who may say so.
//!
//! Several hosts may have files of one session: one that died and came back still has what it had. The epoch with which
//! a host owned the sandbox last tells whose files are newer, and a host's checkpoint counts only as long as nobody has
//! begun a call with a higher one (security LEASE-1).

use manyhands_protocol::{SessionId, Timestamp};

use crate::db::{Row, Scope, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::reserve::Purpose;
use crate::store::Store;

/// A complete checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Counts the checkpoints of the session that were begun.
    pub number: i64,
    /// The name of its blob.
    pub blob: String,
    /// The blob's size in bytes.
    pub size: u64,
    /// The blob's SHA-256, in hex.
    pub sha256: String,
    /// The epoch with which its host owned the sandbox last.
    pub epoch: i64,
    /// It holds what all calls have written whose intents are at most here in the log.
    pub position: i64,
    /// When it was begun.
    pub made_at: Timestamp,
    /// When the sandbox was made that it is of, in which host ever (runtime EN-18).
    pub sandbox_created_at: Timestamp,
}

/// What a host that wants to make a checkpoint knows of itself.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The session.
    pub session: &'a SessionId,
    /// The epoch with which the host owned the sandbox last.
    pub epoch: i64,
    /// The type of the private entries that say that a call is begun.
    pub intent: &'static str,
}

/// A checkpoint whose blob may be written now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Its number.
    pub number: i64,
    /// When it was begun.
    pub made_at: Timestamp,
}

/// What has been written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The blob's size in bytes.
    pub size: u64,
    /// The blob's SHA-256, in hex.
    pub sha256: String,
    /// When the sandbox was made.
    pub sandbox_created_at: Timestamp,
}

/// A checkpoint that nobody needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Useless {
    /// The session it was of, which may be gone.
    pub session: String,
    /// Its number.
    pub number: i64,
    /// The name of its blob, which may be there.
    pub blob: String,
}

/// Whether a session ($1) exists and nobody owns its sandbox with a higher epoch than $2: no checkpoint says so, and no
/// intent, an entry of the type $3.
macro_rules! is_newest {
    () => {
        "EXISTS (SELECT 1 FROM sessions WHERE id = $1)
         AND NOT EXISTS (SELECT 1 FROM checkpoints
             WHERE session_id = $1 AND epoch > $2 AND sha256 IS NOT NULL)
         AND NOT EXISTS (SELECT 1 FROM log
             WHERE session_id = $1 AND type = $3 AND kind = 2 AND epoch > $2)"
    };
}

impl Store {
    /// Writes down that a checkpoint is about to be made, into this blob; `None` when a newer owner has been, or the session
    /// is gone.
    pub async fn begin_checkpoint(
        &self,
        claim: Claim<'_>,
        blob: &str,
    ) -> Result<Option<Begun>, Error> {
        let now = self.inner.services.clock.now();
        let (epoch, intent) = (claim.epoch, claim.intent);
        let (session, blob) = (claim.session.clone(), blob.to_owned());
        self.inner
            .db
            .write(Scope::of(session.as_str()), move |tx| {
                Box::pin(async move {
                    let sql = concat!(
                        "INSERT INTO checkpoints (session_id, number, blob, epoch, position, begun_at)
                         SELECT s.id, COALESCE((SELECT MAX(number) FROM checkpoints WHERE session_id = $1), 0) + 1,
                             $4, $2, s.last_position, $5
                         FROM sessions s WHERE s.id = $1 AND ",
                        is_newest!(),
                        " RETURNING number"
                    );
                    let values = values![session.as_str(), epoch, intent, blob, now];
                    let row = tx.one(sql, values).await?;
                    failpoint!("store::checkpoint::begun");
                    row.map(|row| {
                        Ok(Begun {
                            number: row.int(0)?,
                            made_at: now,
                        })
                    })
                    .transpose()
                })
            })
            .await
    }

    /// Makes a checkpoint whose blob is written the session's; `false` when a newer owner has been since it was begun, or
    /// the session is gone: then it is as good as none.
    pub async fn finish_checkpoint(
        &self,
        claim: Claim<'_>,
        number: i64,
        kept: Kept,
    ) -> Result<bool, Error> {
        let (session, epoch, intent) = (claim.session.clone(), claim.epoch, claim.intent);
        let scope = Scope::of(session.as_str()).with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    let sql = concat!(
                        "UPDATE checkpoints SET size = $5, sha256 = $6, sandbox_created_at = $7
                         WHERE session_id = $1 AND number = $4 AND sha256 IS NULL AND ",
                        is_newest!(),
                        " RETURNING number"
                    );
                    let size = i64::try_from(kept.size).unwrap_or(i64::MAX);
                    let values = values![
                        session.as_str(),
                        epoch,
                        intent,
                        number,
                        size,
                        kept.sha256,
                        kept.sandbox_created_at,
                    ];
                    let row = tx.one(sql, values).await?;
                    failpoint!("store::checkpoint::finished");
                    Ok(row.is_some())
                })
            })
            .await
    }

    /// The newest checkpoint of a session.
    pub async fn checkpoint(&self, session: &SessionId) -> Result<Option<Checkpoint>, Error> {
        self.inner.db.find("SELECT number, blob, size, sha256, epoch, position, begun_at, sandbox_created_at FROM checkpoints
                 WHERE session_id = $1 AND sha256 IS NOT NULL ORDER BY epoch DESC, number DESC LIMIT 1",
                values![session.as_str()], checkpoint_of).await
    }

    /// At most `limit` checkpoints that nobody needs: of sessions that are gone, of sandboxes made before `expired` (runtime
    /// EN-18), never finished and begun before `abandoned`, or older than another one begun before that: who has just read
    /// that one is the newest may still be reading it.
    pub async fn useless_checkpoints(
        &self,
        expired: Timestamp,
        abandoned: Timestamp,
        limit: u32,
    ) -> Result<Vec<Useless>, Error> {
        let rows = self
            .inner
            .db
            .read(
                "SELECT c.session_id, c.number, c.blob FROM checkpoints c
                 WHERE c.sandbox_created_at < $1
                    OR (c.sha256 IS NULL AND c.begun_at < $2)
                    OR NOT EXISTS (SELECT 1 FROM sessions s WHERE s.id = c.session_id)
                    OR (c.sha256 IS NOT NULL AND EXISTS (SELECT 1 FROM checkpoints n
                        WHERE n.session_id = c.session_id AND n.sha256 IS NOT NULL
                          AND n.begun_at < $2
                          AND (n.epoch > c.epoch OR (n.epoch = c.epoch AND n.number > c.number))))
                 ORDER BY c.session_id, c.number LIMIT $3",
                values![expired, abandoned, limit],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Useless {
                    session: row.text(0)?.to_owned(),
                    number: row.int(1)?,
                    blob: row.text(2)?.to_owned(),
                })
            })
            .collect()
    }

    /// Removes the row of a checkpoint whose blob is gone.
    pub async fn forget_checkpoint(&self, session: &str, number: i64) -> Result<(), Error> {
        let scope = Scope::of(session).with_purpose(Purpose::Ends);
        let session = session.to_owned();
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    let sql = "DELETE FROM checkpoints WHERE session_id = $1 AND number = $2";
                    tx.run(sql, values![session, number]).await
                })
            })
            .await
    }
}

fn checkpoint_of(row: &Row) -> Result<Checkpoint, Error> {
    Ok(Checkpoint {
        number: row.int(0)?,
        blob: row.text(1)?.to_owned(),
        size: u64::try_from(row.int(2)?).unwrap_or_default(),
        sha256: row.text(3)?.to_owned(),
        epoch: row.int(4)?,
        position: row.int(5)?,
        made_at: Timestamp::from_micros(row.int(6)?),
        sandbox_created_at: Timestamp::from_micros(row.int(7)?),
    })
}
