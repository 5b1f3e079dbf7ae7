//! The logs of deleted sessions, and what is left of deleted memory stores, removed in pieces, so that nobody waits for the
//! deletion of a long one.

use std::sync::Weak;
use std::time::Duration;

use crate::db::{Scope, Tx, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::memory;
use crate::reserve::Purpose;
use crate::store::Inner;

/// Entries that one transaction removes. A log of no more goes with its session.
pub(crate) const PIECE: i64 = 1000;

/// The pause after a failure, such as a full disk.
const PAUSE: Duration = Duration::from_secs(5);

/// Removes the log of a session that is being deleted: at once, or noted down and later. Says whether something is left.
pub(crate) async fn bury(tx: &mut Tx, session: &str, last_position: i64) -> Result<bool, Error> {
    let left = last_position > PIECE;
    let sql = if left {
        "INSERT INTO remains (session_id) VALUES ($1)"
    } else {
        "DELETE FROM log WHERE session_id = $1"
    };
    tx.run(sql, values![session]).await?;
    Ok(left)
}

/// Removes what deletions have left, also those of a process that crashed, as long as the store is open.
pub(crate) async fn purge_while_open(inner: Weak<Inner>) {
    loop {
        let Some(open) = inner.upgrade() else { return };
        let wake = open.services.purge.clone();
        let purged = match purge_piece(&open).await {
            Ok(false) => memory::purge_piece(&open).await,
            purged => purged,
        };
        drop(open);
        match purged {
            Ok(true) => {}
            Ok(false) => wake.notified().await,
            Err(error) => {
                tracing::warn!(%error, "what a deletion has left cannot be removed yet");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Removes one piece of one log; false when nothing is left.
async fn purge_piece(inner: &Inner) -> Result<bool, Error> {
    let found = inner
        .db
        .read_one("SELECT session_id FROM remains LIMIT 1", Vec::new())
        .await?;
    let Some(row) = found else { return Ok(false) };
    let session = row.text(0)?.to_owned();
    inner
        .db
        .write(Scope::of(&session).with_purpose(Purpose::Ends), move |tx| {
            Box::pin(async move {
                let first = tx
                    .one(
                        "SELECT position FROM log WHERE session_id = $1 ORDER BY position LIMIT 1",
                        values![session.as_str()],
                    )
                    .await?;
                match first {
                    Some(first) => {
                        let end = first.int(0)? + PIECE;
                        tx.run(
                            "DELETE FROM log WHERE session_id = $1 AND position < $2",
                            values![session.as_str(), end],
                        )
                        .await?;
                    }
                    None => {
                        let sql = "DELETE FROM remains WHERE session_id = $1";
                        tx.run(sql, values![session.as_str()]).await?;
                    }
                }
                failpoint!("store::session::purged");
                Ok(true)
            })
        })
        .await
}
