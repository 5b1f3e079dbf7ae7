//! Files: a row each, and a blob that rows may share (runtime ID-3, FI-2). Blobs themselves are kept elsewhere; what is
//! written here last points to a blob that is durable, and what is removed here notes its blob down for removal.

mod captures;
mod loose;
mod resources;

use manyhands_protocol::file::{File, FileScope};
use manyhands_protocol::{FileId, SessionId, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

pub use captures::{Captured, Due};
pub(crate) use loose::remove_of_session;
pub use resources::{FILES, Mount, MountRefusal, MountedFile, Unmounted, collide};
pub(crate) use resources::{lock_session, mount_all, resource_of};

use crate::body;
use crate::db::{Lock, Row, Scope, Tx, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::listing::{Query, Range};
use crate::log::json;
use crate::quota::{self, Thing};
use crate::reserve::Purpose;
use crate::store::Store;

/// A file: what is shown of it, and where its bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// As shown in responses.
    pub file: File,
    /// How it came to be.
    pub origin: Origin,
    /// The name of its blob. After its expiry there may be none of this name.
    pub blob: String,
    /// The SHA-256 of its content, in hex.
    pub sha256: String,
}

/// How a file came to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Origin {
    /// A client sent it.
    Upload {},
    /// A session's copy of another (runtime ID-3); it counts against no quota (runtime FI-2).
    Mount {},
    /// A sandbox wrote it (runtime FI-5).
    Output {
        /// Where, below the outputs; unlike all other outputs of the session.
        path: String,
        /// What tells that it was written again.
        stamp: String,
    },
}

impl FileRecord {
    /// Whether its content is gone, or has to go, at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.file.expires_at.is_some_and(|end| end <= now)
    }

    fn path(&self) -> Option<&str> {
        match &self.origin {
            Origin::Output { path, .. } => Some(path),
            Origin::Upload {} | Origin::Mount {} => None,
        }
    }
}

/// What became of a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileDeletion {
    /// It is gone.
    Done,
    /// There is no such file.
    Missing,
    /// A session reads it: its resource is what can be removed.
    Mounted,
}

impl Store {
    /// Adds a file that a client has sent, whose blob is durable. False, and nothing is written, when all that clients of the
    /// workspace have sent would have more than `quota` bytes; that holds at once for all who send.
    pub async fn insert_file(
        &self,
        workspace: &WorkspaceId,
        record: FileRecord,
        quota: Option<u64>,
    ) -> Result<bool, Error> {
        let workspace = workspace.clone();
        let services = self.inner.services.clone();
        self.inner
            .db
            .write(Scope::of(record.file.id.as_str()), move |tx| {
                Box::pin(async move {
                    quota::one_more(tx, &services, &workspace, Thing::File).await?;
                    let size = record.file.size_bytes;
                    quota::more_bytes(tx, &services, &workspace, size).await?;
                    if let Some(most) = quota {
                        let used = quota::used_now(tx, &workspace, UPLOADED).await?;
                        if used.saturating_add(record.file.size_bytes) > most {
                            return Ok(false);
                        }
                    }
                    insert(tx, &workspace, &record).await?;
                    failpoint!("store::file::inserted");
                    Ok(true)
                })
            })
            .await
    }

    /// A file, also one that has expired.
    pub async fn file(
        &self,
        workspace: &WorkspaceId,
        id: &FileId,
    ) -> Result<Option<FileRecord>, Error> {
        self.inner
            .db
            .find(
                SELECT_ONE,
                values![id.as_str(), workspace.as_str()],
                record_of,
            )
            .await
    }

    /// Those of these files that are there, newest first.
    pub async fn files(
        &self,
        workspace: &WorkspaceId,
        ids: &[FileId],
    ) -> Result<Vec<FileRecord>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = Query::new("SELECT body, id, checksum FROM files WHERE workspace = ");
        query.bind(workspace.as_str());
        query.and_in("id", ids.iter().map(FileId::as_str));
        query.push(" ORDER BY created_at DESC, id DESC");
        self.inner.db.list(query.sql, query.values, record_of).await
    }

    /// A page of the workspace's files, or of those that belong to a session.
    pub async fn list_files(
        &self,
        workspace: &WorkspaceId,
        scope: Option<&SessionId>,
        range: &Range,
    ) -> Result<Vec<FileRecord>, Error> {
        let mut query = Query::new("SELECT body, id, checksum FROM files WHERE workspace = ");
        query.bind(workspace.as_str());
        if let Some(session) = scope {
            query.and("session_id = ", session.as_str());
        }
        query.page("created_at", "id", range);
        self.inner.db.list(query.sql, query.values, record_of).await
    }

    /// Removes a file, and notes its blob down for removal.
    pub async fn delete_file(
        &self,
        workspace: &WorkspaceId,
        id: &FileId,
    ) -> Result<FileDeletion, Error> {
        let (workspace, id) = (workspace.clone(), id.clone());
        let loosened = self.inner.services.loosened.clone();
        let scope = Scope::of(id.as_str()).with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    let Some(record) = locked(tx, Lock::Update, &workspace, &id).await? else {
                        return Ok(FileDeletion::Missing);
                    };
                    if record.origin == (Origin::Mount {}) {
                        return Ok(FileDeletion::Mounted);
                    }
                    remove(tx, &record).await?;
                    failpoint!("store::file::deleted");
                    tx.after_commit(move || loosened.notify_one());
                    Ok(FileDeletion::Done)
                })
            })
            .await
    }
}

/// The bytes that clients of a workspace have sent.
const UPLOADED: &str = "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM files
     WHERE workspace = $1 AND session_id IS NULL AND blob <> ''";

const SELECT_ONE: &str = "SELECT body, id, checksum FROM files WHERE id = $1 AND workspace = $2";

fn record_of(row: &Row) -> Result<FileRecord, Error> {
    body::parsed(row, "file")
}

/// The file under its lock.
async fn locked(
    tx: &mut Tx,
    lock: Lock,
    workspace: &WorkspaceId,
    id: &FileId,
) -> Result<Option<FileRecord>, Error> {
    let values = values![id.as_str(), workspace.as_str()];
    tx.lock(lock, SELECT_ONE, values, record_of).await
}

async fn insert(tx: &mut Tx, workspace: &WorkspaceId, record: &FileRecord) -> Result<(), Error> {
    let (id, body) = (record.file.id.as_str(), json(record)?);
    let session = record.file.scope.as_ref();
    let session = session.map(|FileScope::Session { id }| id.as_str());
    let size = i64::try_from(record.file.size_bytes).unwrap_or(i64::MAX);
    tx.run(
        "INSERT INTO files (id, workspace, session_id, path, blob, size, body, checksum, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        values![
            id,
            workspace.as_str(),
            session,
            record.path(),
            record.blob.as_str(),
            size,
            body.as_str(),
            body::checksum(id, &body),
            record.file.created_at,
            record.file.expires_at,
        ],
    )
    .await
}

/// Removes a file whose lock the transaction has.
async fn remove(tx: &mut Tx, record: &FileRecord) -> Result<(), Error> {
    let sql = "INSERT INTO loose_blobs (blob) VALUES ($1) ON CONFLICT DO NOTHING";
    tx.run(sql, values![record.blob.as_str()]).await?;
    let sql = "DELETE FROM files WHERE id = $1";
    tx.run(sql, values![record.file.id.as_str()]).await
}
