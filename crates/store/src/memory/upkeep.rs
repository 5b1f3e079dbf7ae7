//! What goes with time: old versions (runtime ME-9), and what deleted stores have left. In pieces, so that nobody waits for them.

use manyhands_protocol::Timestamp;

use crate::db::{Scope, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::reserve::Purpose;
use crate::store::{Inner, Store};

/// Rows that one transaction removes.
const PIECE: i64 = 200;
/// Versions stay so long at least, microseconds: 30 days.
const KEPT: i64 = 30 * 86_400 * 1_000_000;

impl Store {
    /// Removes a piece of the versions that are old and not among the newest of a memory that is there. Says whether there may
    /// be more.
    pub async fn drop_old_memory_versions(&self) -> Result<bool, Error> {
        let before = Timestamp::from_micros(self.inner.services.clock.now().as_micros() - KEPT);
        let sql = "SELECT id FROM memory_versions WHERE kept = 0 AND created_at < $1 LIMIT 1";
        if !self.inner.db.has(sql, values![before]).await? {
            return Ok(false);
        }
        let scope = Scope::of("old memory versions").with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    let gone = tx
                        .all(
                            "DELETE FROM memory_versions WHERE id IN (SELECT id FROM memory_versions
                             WHERE kept = 0 AND created_at < $1 ORDER BY created_at LIMIT $2) RETURNING id",
                            values![before, PIECE],
                        )
                        .await?;
                    Ok(gone.len() as i64 == PIECE)
                })
            })
            .await
    }
}

/// Removes one piece of what a deleted store has left; false when nothing is left of any.
pub(crate) async fn purge_piece(inner: &Inner) -> Result<bool, Error> {
    let sql = "SELECT store_id FROM memory_remains LIMIT 1";
    let Some(row) = inner.db.read_one(sql, Vec::new()).await? else {
        return Ok(false);
    };
    let store = row.text(0)?.to_owned();
    let scope = Scope::of(&store).with_purpose(Purpose::Ends);
    inner
        .db
        .write(scope, move |tx| {
            Box::pin(async move {
                let mut left = false;
                for sql in [
                    "DELETE FROM memories WHERE id IN (SELECT id FROM memories WHERE store_id = $1 LIMIT $2) RETURNING id",
                    "DELETE FROM memory_versions WHERE id IN
                         (SELECT id FROM memory_versions WHERE store_id = $1 LIMIT $2) RETURNING id",
                ] {
                    left |= !tx.all(sql, values![store.as_str(), PIECE]).await?.is_empty();
                }
                if !left {
                    let sql = "DELETE FROM memory_remains WHERE store_id = $1";
                    tx.run(sql, values![store.as_str()]).await?;
                }
                failpoint!("store::memory_store::purged");
                Ok(true)
            })
        })
        .await
}
