//! The files that a session's sandbox reads: each a copy of its own of the row, and the same blob (runtime ID-3, FI-2).

use std::collections::{BTreeSet, HashMap};

use manyhands_protocol::file::{File, FileResource, FileScope};
use manyhands_protocol::repository::Resource;
use manyhands_protocol::{FileId, ResourceId, SessionId, Timestamp, WorkspaceId};

use super::{FileRecord, Origin, insert, locked, remove};
use crate::body;
use crate::db::{Lock, Row, Scope, Tx, values};
use crate::error::Error;
use crate::listing::{Query, Range};
use crate::log::json;
use crate::reserve::Purpose;
use crate::store::Store;

/// A file to be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The file, of the same workspace.
    pub file_id: FileId,
    /// Where the sandbox reads it: a path in canonical form. `None` is a name made of the copy's id.
    pub path: Option<String>,
}

/// Why a file is not mounted. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountRefusal {
    /// There is no such file in the workspace: the one at this place among those asked for.
    NoFile(usize),
    /// Its content is gone.
    Expired(usize),
    /// Another resource has this path, or one that this would lie below, or that would lie below this.
    Taken(usize, String),
    /// The session would have more files than it may.
    TooMany,
    /// The session is archived or terminated.
    Ended,
}

/// What became of a resource that was to be taken from a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmounted {
    /// It is gone.
    Done,
    /// There is no such resource.
    Missing,
    /// It is no file, and stays (runtime GH-6).
    NoFile,
}

/// A file as a sandbox needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountedFile {
    /// Where it is read.
    pub mount_path: String,
    /// Its row.
    pub record: FileRecord,
}

/// A session has at most so many (runtime FI-3).
pub const FILES: usize = 500;

impl Store {
    /// Adds a file to a session; `None` when there is no such session.
    pub async fn mount_file(
        &self,
        workspace: &WorkspaceId,
        session: &SessionId,
        mount: Mount,
    ) -> Result<Option<Result<FileResource, MountRefusal>>, Error> {
        let (workspace, session) = (workspace.clone(), session.clone());
        let clock = self.inner.services.clock.clone();
        self.inner
            .db
            .write(Scope::of(session.as_str()), move |tx| {
                Box::pin(async move {
                    let Some(ended) = lock_session(tx, &workspace, &session).await? else {
                        return Ok(None);
                    };
                    if ended {
                        return Ok(Some(Err(MountRefusal::Ended)));
                    }
                    let now = clock.now();
                    let mounted = mount_all(tx, &workspace, &session, vec![mount], now).await?;
                    Ok(Some(mounted.map(|mut mounted| mounted.remove(0))))
                })
            })
            .await
    }

    /// A session's resource.
    pub async fn resource(
        &self,
        session: &SessionId,
        id: &ResourceId,
    ) -> Result<Option<Resource>, Error> {
        self.inner
            .db
            .find(
                SELECT_ONE,
                values![id.as_str(), session.as_str()],
                resource_of,
            )
            .await
    }

    /// A page of a session's resources, oldest first.
    pub async fn list_resources(
        &self,
        session: &SessionId,
        range: &Range,
    ) -> Result<Vec<Resource>, Error> {
        let mut query =
            Query::new("SELECT body, id, checksum FROM session_resources WHERE session_id = ");
        query.bind(session.as_str());
        query.page("created_at", "id", range);
        self.inner
            .db
            .list(query.sql, query.values, resource_of)
            .await
    }

    /// The resources of several sessions, oldest first in each.
    pub async fn resources_of(
        &self,
        sessions: &[SessionId],
    ) -> Result<Vec<(SessionId, Resource)>, Error> {
        self.of_sessions(
            sessions,
            "SELECT body, id, checksum, session_id FROM session_resources WHERE id IS NOT NULL",
            " ORDER BY session_id, created_at, id",
            resource_of,
        )
        .await
    }

    /// Takes a file from a session: its copy goes too, the original stays.
    pub async fn unmount_file(
        &self,
        workspace: &WorkspaceId,
        session: &SessionId,
        id: &ResourceId,
    ) -> Result<Unmounted, Error> {
        let (workspace, session, id) = (workspace.clone(), session.clone(), id.clone());
        let loosened = self.inner.services.loosened.clone();
        let scope = Scope::of(session.as_str()).with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    if lock_session(tx, &workspace, &session).await?.is_none() {
                        return Ok(Unmounted::Missing);
                    }
                    let values = values![id.as_str(), session.as_str()];
                    let copy = match tx.find(SELECT_ONE, values, resource_of).await? {
                        None => return Ok(Unmounted::Missing),
                        Some(Resource::Repository(_)) => return Ok(Unmounted::NoFile),
                        Some(Resource::File(file)) => file.file_id,
                    };
                    if let Some(record) = locked(tx, Lock::Update, &workspace, &copy).await? {
                        remove(tx, &record).await?;
                    }
                    let sql = "DELETE FROM session_resources WHERE id = $1";
                    tx.run(sql, values![id.as_str()]).await?;
                    tx.after_commit(move || loosened.notify_one());
                    Ok(Unmounted::Done)
                })
            })
            .await
    }

    /// The files that a session's sandbox reads, for its recipe.
    pub async fn mounted_files(&self, session: &SessionId) -> Result<Vec<MountedFile>, Error> {
        let rows = self
            .inner
            .db
            .read(
                "SELECT f.body, f.id, f.checksum, r.mount_path FROM session_resources r
                 JOIN files f ON f.id = r.file_id WHERE r.session_id = $1 ORDER BY r.mount_path",
                values![session.as_str()],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(MountedFile {
                    mount_path: row.text(3)?.to_owned(),
                    record: super::record_of(row)?,
                })
            })
            .collect()
    }
}

const SELECT_ONE: &str =
    "SELECT body, id, checksum FROM session_resources WHERE id = $1 AND session_id = $2";

/// A resource whose body, id and checksum are a row's first columns.
pub(crate) fn resource_of(row: &Row) -> Result<Resource, Error> {
    body::parsed(row, "resource")
}

/// Locks a session; whether it has ended, or `None` when there is none.
pub(crate) async fn lock_session(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    session: &SessionId,
) -> Result<Option<bool>, Error> {
    let sql = "SELECT status, archived_at FROM sessions WHERE id = $1 AND workspace = $2";
    let values = values![session.as_str(), workspace.as_str()];
    let rows = tx.locked(Lock::Update, sql, values).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    Ok(Some(
        row.text(0)? == "terminated" || row.optional_int(1)?.is_some(),
    ))
}

/// Mounts files in a session whose lock the transaction has, or which it makes: all of them or none.
pub(crate) async fn mount_all(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    session: &SessionId,
    mounts: Vec<Mount>,
    now: Timestamp,
) -> Result<Result<Vec<FileResource>, MountRefusal>, Error> {
    if mounts.is_empty() {
        return Ok(Ok(Vec::new()));
    }
    let sql = "SELECT mount_path FROM session_resources WHERE session_id = $1 AND file_id <> ''";
    let mut paths = Vec::new();
    for row in &tx.all(sql, values![session.as_str()]).await? {
        paths.push(row.text(0)?.to_owned());
    }
    if paths.len() + mounts.len() > FILES {
        return Ok(Err(MountRefusal::TooMany));
    }
    // Everybody locks files in this order, and against their deletion alone: no two who mount the same ones wait for each other.
    let wanted: BTreeSet<&FileId> = mounts.iter().map(|mount| &mount.file_id).collect();
    let mut originals = HashMap::with_capacity(wanted.len());
    for id in wanted {
        if let Some(original) = locked(tx, Lock::Share, workspace, id).await? {
            originals.insert(id.clone(), original);
        }
    }
    let mut copies = Vec::with_capacity(mounts.len());
    for (index, mount) in mounts.into_iter().enumerate() {
        let Some(original) = originals.get(&mount.file_id).cloned() else {
            return Ok(Err(MountRefusal::NoFile(index)));
        };
        if original.is_expired(now) {
            return Ok(Err(MountRefusal::Expired(index)));
        }
        let copy = copy_of(original, session, now);
        let path = mount
            .path
            .unwrap_or_else(|| format!("{}/{}", manyhands_protocol::file::UPLOADS, copy.file.id));
        if paths.iter().any(|taken| collide(taken, &path)) {
            return Ok(Err(MountRefusal::Taken(index, path)));
        }
        paths.push(path.clone());
        copies.push((copy, path));
    }
    let mut resources = Vec::with_capacity(copies.len());
    for (copy, path) in copies {
        insert(tx, workspace, &copy).await?;
        resources.push(add(tx, workspace, session, &copy, path, now).await?);
    }
    Ok(Ok(resources))
}

/// Whether two resources cannot be at these paths at once: one path, or one below the other.
pub fn collide(one: &str, other: &str) -> bool {
    let below = |below: &str, above: &str| {
        below
            .strip_prefix(above)
            .is_some_and(|rest| rest.starts_with('/'))
    };
    one == other || below(one, other) || below(other, one)
}

fn copy_of(original: FileRecord, session: &SessionId, now: Timestamp) -> FileRecord {
    FileRecord {
        file: File {
            id: FileId::generate(),
            created_at: now,
            expires_at: None,
            downloadable: false,
            scope: Some(FileScope::Session {
                id: session.clone(),
            }),
            ..original.file
        },
        origin: Origin::Mount {},
        ..original
    }
}

async fn add(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    session: &SessionId,
    copy: &FileRecord,
    mount_path: String,
    now: Timestamp,
) -> Result<FileResource, Error> {
    let resource = FileResource {
        id: ResourceId::generate(),
        kind: Default::default(),
        file_id: copy.file.id.clone(),
        mount_path,
        created_at: now,
        updated_at: now,
    };
    let (id, body) = (resource.id.as_str(), json(&resource)?);
    tx.run(
        "INSERT INTO session_resources (id, session_id, workspace, file_id, mount_path, body, checksum, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        values![
            id,
            session.as_str(),
            workspace.as_str(),
            resource.file_id.as_str(),
            resource.mount_path.as_str(),
            body.as_str(),
            body::checksum(id, &body),
            now,
        ],
    )
    .await?;
    Ok(resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inp_4_two_files_cannot_share_a_path_nor_lie_below_each_other() {
        for (one, other, expected) in [
            ("/u/a", "/u/a", true),
            ("/u/a", "/u/a/b", true),
            ("/u/a/b", "/u/a", true),
            ("/u/a", "/u/ab", false),
            ("/u/a/b", "/u/a/c", false),
        ] {
            assert_eq!(collide(one, other), expected, "{one} {other}");
        }
    }
}
