//! Blobs that nobody may need any more: noted down with what removed their last row, removed by a chore (security LOG-5).

use manyhands_protocol::{SessionId, Timestamp};

use crate::db::{Scope, Tx, Value, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::reserve::Purpose;
use crate::store::Store;

/// Blobs asked for at once.
const ASKED: usize = 256;
/// How long an expired file's metadata stay, microseconds: 30 days.
const KEPT: i64 = 30 * 86_400 * 1_000_000;

impl Store {
    /// Returns when a removal has left blobs behind, perhaps long ago. One waiter at a time.
    pub async fn loosened(&self) {
        self.inner.services.loosened.notified().await;
    }

    /// Blobs that no file has any more, for removal. What was noted down and is shared with another file is forgotten.
    pub async fn loose_blobs(&self, limit: u32) -> Result<Vec<String>, Error> {
        let any = "SELECT blob FROM loose_blobs LIMIT 1";
        if !self.inner.db.has(any, Vec::new()).await? {
            return Ok(Vec::new());
        }
        let scope = Scope::of("loose blobs").with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    let shared = "DELETE FROM loose_blobs WHERE blob IN (SELECT blob FROM files)";
                    tx.run(shared, Vec::new()).await?;
                    let sql = "SELECT blob FROM loose_blobs ORDER BY blob LIMIT $1";
                    let rows = tx.all(sql, values![limit]).await?;
                    rows.iter()
                        .map(|row| row.text(0).map(str::to_owned))
                        .collect()
                })
            })
            .await
    }

    /// Says that a loose blob is gone.
    pub async fn blob_removed(&self, blob: &str) -> Result<(), Error> {
        let blob = blob.to_owned();
        let scope = Scope::of("loose blobs").with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    let sql = "DELETE FROM loose_blobs WHERE blob = $1";
                    tx.run(sql, values![blob.as_str()]).await?;
                    failpoint!("store::file::blob_removed");
                    Ok(())
                })
            })
            .await
    }

    /// Those of these blobs that no file, no kept clone and no skill has, in any workspace.
    pub async fn absent_blobs(&self, blobs: &[String]) -> Result<Vec<String>, Error> {
        let mut absent = Vec::new();
        for asked in blobs.chunks(ASKED) {
            let places: Vec<String> = (1..=asked.len()).map(|place| format!("${place}")).collect();
            let sql = format!(
                "SELECT DISTINCT blob FROM files WHERE blob IN ({0})
                 UNION SELECT blob FROM kept_clones WHERE blob IN ({0})
                 UNION SELECT blob FROM skill_versions WHERE blob IN ({0})",
                places.join(", ")
            );
            let values = asked
                .iter()
                .map(|blob| Value::from(blob.as_str()))
                .collect();
            let rows = self.inner.db.read(sql, values).await?;
            let mut found = Vec::with_capacity(rows.len());
            for row in &rows {
                found.push(row.text(0)?);
            }
            let is_gone = |blob: &&String| !found.contains(&blob.as_str());
            absent.extend(asked.iter().filter(is_gone).cloned());
        }
        Ok(absent)
    }

    /// Gives up the content of files that have expired, and the rows of those that expired 30 days ago (runtime FI-8).
    pub async fn expire_files(&self) -> Result<(), Error> {
        let (clock, loosened) = (
            self.inner.services.clock.clone(),
            self.inner.services.loosened.clone(),
        );
        let now = clock.now();
        let forgotten = Timestamp::from_micros(now.as_micros() - KEPT);
        let any = "SELECT id FROM files WHERE expires_at <= $1 AND (blob <> '' OR expires_at <= $2) LIMIT 1";
        if !self.inner.db.has(any, values![now, forgotten]).await? {
            return Ok(());
        }
        let scope = Scope::of("loose blobs").with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    tx.run(
                        "INSERT INTO loose_blobs (blob)
                         SELECT DISTINCT blob FROM files WHERE expires_at <= $1 AND blob <> '' ON CONFLICT DO NOTHING",
                        values![now],
                    )
                    .await?;
                    tx.run(
                        "UPDATE files SET blob = '' WHERE expires_at <= $1 AND blob <> ''",
                        values![now],
                    )
                    .await?;
                    let sql = "DELETE FROM files WHERE expires_at <= $1";
                    tx.run(sql, values![forgotten]).await?;
                    tx.after_commit(move || loosened.notify_one());
                    Ok(())
                })
            })
            .await
    }
}

/// Removes all that a session has of files, with the session (runtime UP-8): uploaded originals are not its own.
pub(crate) async fn remove_of_session(tx: &mut Tx, session: &SessionId) -> Result<(), Error> {
    for sql in [
        "INSERT INTO loose_blobs (blob)
         SELECT DISTINCT blob FROM files WHERE session_id = $1 AND blob <> '' ON CONFLICT DO NOTHING",
        "DELETE FROM files WHERE session_id = $1",
        "DELETE FROM session_resources WHERE session_id = $1",
        "DELETE FROM captures WHERE session_id = $1",
    ] {
        tx.run(sql, values![session.as_str()]).await?;
    }
    Ok(())
}
