//! Clones that are kept for a workspace's next sessions: which blob holds what the first one has got of a repository
//! (runtime GH-3). A workspace sees its own alone (security SBX-8); whether a session may read the repository is decided elsewhere.

use manyhands_protocol::{Timestamp, WorkspaceId};

use crate::db::{Row, Scope, Tx, values};
use crate::error::Error;
use crate::quota;
use crate::reserve::Purpose;
use crate::store::Store;

/// What is kept of a repository: its references, then its pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptClone {
    /// The name of its blob.
    pub blob: String,
    /// The blob's size in bytes.
    pub size: u64,
    /// How many of them, at the beginning, are the references.
    pub head: u64,
    /// The blob's SHA-256, in hex.
    pub sha256: String,
}

impl Store {
    /// What the workspace keeps of a repository, if it was made since `oldest`. Asking is using it: what is not asked for goes
    /// first when there is no more room.
    pub async fn kept_clone(
        &self,
        workspace: &WorkspaceId,
        repository: &str,
        oldest: Timestamp,
    ) -> Result<Option<KeptClone>, Error> {
        let sql = "SELECT blob, size, head, sha256 FROM kept_clones
             WHERE workspace = $1 AND repository = $2 AND made_at >= $3";
        let values = values![workspace.as_str(), repository, oldest];
        let Some(kept) = self.inner.db.find(sql, values, kept_of).await? else {
            return Ok(None);
        };
        let (now, used) = (self.inner.services.clock.now(), kept.blob.clone());
        self.inner
            .db
            .write(Scope::of(repository), move |tx| {
                Box::pin(async move {
                    let sql =
                        "UPDATE kept_clones SET used_at = $1 WHERE blob = $2 AND used_at < $1";
                    tx.run(sql, values![now, used.as_str()]).await
                })
            })
            .await?;
        Ok(Some(kept))
    }

    /// Keeps a clone whose blob is durable, and lets go of those used longest ago until the workspace's have at most `most`
    /// bytes. `false`, and the blob is noted down for removal, when there is one of the repository already, or this one alone has more.
    pub async fn keep_clone(
        &self,
        workspace: &WorkspaceId,
        repository: &str,
        kept: KeptClone,
        most: u64,
    ) -> Result<bool, Error> {
        let (workspace, repository) = (workspace.clone(), repository.to_owned());
        let now = self.inner.services.clock.now();
        let loosened = self.inner.services.loosened.clone();
        self.inner
            .db
            .write(Scope::of(&kept.blob), move |tx| {
                Box::pin(async move {
                    quota::lock(tx, &workspace).await?;
                    let sql = "SELECT blob FROM kept_clones WHERE workspace = $1 AND repository = $2";
                    let values = values![workspace.as_str(), repository.as_str()];
                    let there = tx.one(sql, values).await?;
                    let fits = kept.size <= most && there.is_none();
                    if fits {
                        let of_size = |size: u64| i64::try_from(size).unwrap_or(i64::MAX);
                        tx.run(
                            "INSERT INTO kept_clones (workspace, repository, blob, size, head, sha256, made_at, used_at)
                             VALUES ($1, $2, $3, $4, $5, $6, $7, $7)",
                            values![
                                workspace.as_str(),
                                repository.as_str(),
                                kept.blob.as_str(),
                                of_size(kept.size),
                                of_size(kept.head),
                                kept.sha256.as_str(),
                                now,
                            ],
                        )
                        .await?;
                        make_room(tx, &workspace, &repository, most).await?;
                    } else {
                        loosen(tx, &kept.blob).await?;
                    }
                    tx.after_commit(move || loosened.notify_one());
                    Ok(fits)
                })
            })
            .await
    }

    /// Lets go of a clone that is of no use any more. One that has taken its place stays.
    pub async fn drop_clone(&self, workspace: &WorkspaceId, blob: &str) -> Result<(), Error> {
        let (workspace, blob) = (workspace.clone(), blob.to_owned());
        let loosened = self.inner.services.loosened.clone();
        let scope = Scope::of(&blob).with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    let sql =
                        "DELETE FROM kept_clones WHERE workspace = $1 AND blob = $2 RETURNING blob";
                    let values = values![workspace.as_str(), blob.as_str()];
                    if tx.one(sql, values).await?.is_some() {
                        loosen(tx, &blob).await?;
                        tx.after_commit(move || loosened.notify_one());
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Lets go of all clones that were made before `oldest`.
    pub async fn expire_clones(&self, oldest: Timestamp) -> Result<(), Error> {
        let any = "SELECT blob FROM kept_clones WHERE made_at < $1 LIMIT 1";
        if !self.inner.db.has(any, values![oldest]).await? {
            return Ok(());
        }
        let loosened = self.inner.services.loosened.clone();
        let scope = Scope::of("kept clones").with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    let sql = "SELECT blob FROM kept_clones WHERE made_at < $1";
                    for row in tx.all(sql, values![oldest]).await? {
                        remove(tx, row.text(0)?).await?;
                    }
                    tx.after_commit(move || loosened.notify_one());
                    Ok(())
                })
            })
            .await
    }
}

/// Removes those of the workspace that were used longest ago, but not this repository's, until the rest has at most `most` bytes.
async fn make_room(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    repository: &str,
    most: u64,
) -> Result<(), Error> {
    let sql = "SELECT blob, size FROM kept_clones WHERE workspace = $1
         ORDER BY CASE WHEN repository = $2 THEN 0 ELSE 1 END, used_at DESC, repository";
    let mut used: u64 = 0;
    for row in tx.all(sql, values![workspace.as_str(), repository]).await? {
        used = used.saturating_add(u64::try_from(row.int(1)?).unwrap_or(u64::MAX));
        if used > most {
            remove(tx, row.text(0)?).await?;
        }
    }
    Ok(())
}

async fn remove(tx: &mut Tx, blob: &str) -> Result<(), Error> {
    loosen(tx, blob).await?;
    let sql = "DELETE FROM kept_clones WHERE blob = $1";
    tx.run(sql, values![blob]).await
}

async fn loosen(tx: &mut Tx, blob: &str) -> Result<(), Error> {
    let sql = "INSERT INTO loose_blobs (blob) VALUES ($1) ON CONFLICT DO NOTHING";
    tx.run(sql, values![blob]).await
}

fn kept_of(row: &Row) -> Result<KeptClone, Error> {
    let bytes = |column: usize| {
        let value = row.int(column)?;
        u64::try_from(value).map_err(|_| Error::Damaged {
            item: "a kept clone".to_owned(),
            reason: format!("it says {value} bytes"),
        })
    };
    Ok(KeptClone {
        blob: row.text(0)?.to_owned(),
        size: bytes(1)?,
        head: bytes(2)?,
        sha256: row.text(3)?.to_owned(),
    })
}
