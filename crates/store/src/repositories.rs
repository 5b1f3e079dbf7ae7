//! The repositories of sessions, and their tokens as sealed text (runtime GH-1 to GH-6). Made with their session, and gone with
//! it; only the token can change.

mod clones;

pub use clones::KeptClone;

use manyhands_protocol::repository::{Checkout, RepositoryResource, Resource};
use manyhands_protocol::{ResourceId, SessionId, Timestamp, WorkspaceId};

use crate::audit::{self, Act};
use crate::body;
use crate::db::{Row, Scope, Tx, values};
use crate::error::Error;
use crate::files::{lock_session, resource_of};
use crate::log::json;
use crate::store::Store;

/// A session has at most so many.
pub const REPOSITORIES: usize = 50;

/// A repository of a session that is to be created. Its id is given, because its token is sealed for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRepository {
    /// Its id.
    pub id: ResourceId,
    /// Where it is.
    pub url: String,
    /// Where the sandbox has it: unlike those of the session's other repositories, and neither above nor below one.
    pub mount_path: String,
    /// What is checked out.
    pub checkout: Option<Checkout>,
    /// Its token, sealed.
    pub token: Option<String>,
}

/// A repository with its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryRecord {
    /// The workspace of its session.
    pub workspace: WorkspaceId,
    /// As shown in responses.
    pub resource: RepositoryResource,
    /// Its token, sealed.
    pub token: Option<String>,
}

/// What became of a new token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotated {
    /// It is in place, and the repository is this now.
    Done(RepositoryResource),
    /// There is no such resource in a session of the workspace.
    Missing,
    /// It is another kind of resource.
    NoRepository,
    /// The session is archived or terminated.
    Ended,
}

impl Store {
    /// The repositories of a session, by their paths. Empty as well when there is no such session.
    pub async fn repositories(&self, session: &SessionId) -> Result<Vec<RepositoryRecord>, Error> {
        self.inner
            .db
            .list(
                "SELECT body, id, checksum, workspace, token FROM session_resources
                 WHERE session_id = $1 AND file_id = '' ORDER BY mount_path",
                values![session.as_str()],
                record_of,
            )
            .await
    }

    /// Puts a new sealed token in the place of a repository's (runtime GH-6), and says so in the audit log (security OPS-3).
    pub async fn rotate_repository(
        &self,
        act: Act,
        session: &SessionId,
        id: &ResourceId,
        token: String,
    ) -> Result<Rotated, Error> {
        let (session, id) = (session.clone(), id.clone());
        let services = self.inner.services.clone();
        self.inner
            .db
            .write(Scope::of(session.as_str()), move |tx| {
                Box::pin(async move {
                    let Some(ended) = lock_session(tx, &act.workspace, &session).await? else {
                        return Ok(Rotated::Missing);
                    };
                    let sql = "SELECT body, id, checksum FROM session_resources WHERE id = $1 AND session_id = $2";
                    let values = values![id.as_str(), session.as_str()];
                    let mut resource = match tx.find(sql, values, resource_of).await? {
                        None => return Ok(Rotated::Missing),
                        Some(Resource::File(_)) => return Ok(Rotated::NoRepository),
                        Some(Resource::Repository(repository)) => repository,
                    };
                    if ended {
                        return Ok(Rotated::Ended);
                    }
                    audit::append(tx, &services, &act).await?;
                    resource.updated_at = services.clock.now();
                    let body = json(&resource)?;
                    let checksum = body::checksum(id.as_str(), &body);
                    tx.run(
                        "UPDATE session_resources SET body = $1, checksum = $2, token = $3 WHERE id = $4",
                        values![body.as_str(), checksum, token.as_str(), id.as_str()],
                    )
                    .await?;
                    Ok(Rotated::Done(resource))
                })
            })
            .await
    }
}

fn record_of(row: &Row) -> Result<RepositoryRecord, Error> {
    let damaged = |reason: String| Error::damaged("a session's repository", reason);
    match resource_of(row)? {
        Resource::Repository(resource) => Ok(RepositoryRecord {
            workspace: WorkspaceId::parse(row.text(3)?)
                .map_err(|error| damaged(error.to_string()))?,
            resource,
            token: row.optional_text(4)?.map(str::to_owned),
        }),
        Resource::File(file) => Err(damaged(format!("{} is a file without one", file.id))),
    }
}

/// Adds repositories to a session that the transaction makes.
pub(crate) async fn add_all(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    session: &SessionId,
    repositories: Vec<NewRepository>,
    now: Timestamp,
) -> Result<(), Error> {
    for new in repositories {
        let resource = RepositoryResource {
            id: new.id,
            kind: Default::default(),
            url: new.url,
            mount_path: new.mount_path,
            checkout: new.checkout,
            created_at: now,
            updated_at: now,
        };
        let (id, body) = (resource.id.as_str(), json(&resource)?);
        tx.run(
            "INSERT INTO session_resources (id, session_id, workspace, file_id, mount_path, body, checksum, created_at, token)
             VALUES ($1, $2, $3, '', $4, $5, $6, $7, $8)",
            values![
                id,
                session.as_str(),
                workspace.as_str(),
                resource.mount_path.as_str(),
                body.as_str(),
                body::checksum(id, &body),
                now,
                new.token.as_deref(),
            ],
        )
        .await?;
    }
    Ok(())
}
