//! API keys, and keys of environments: stored hashed, looked up by hash (security API-3).

use manyhands_protocol::id::ApiKeyId;
use manyhands_protocol::{EnvironmentId, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::audit::{self, Act, Action, Actor};
use crate::db::{Lock, Row, Scope, Tx, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::log::json;
use crate::quota;
use crate::reserve::Purpose;
use crate::store::{Services, Store};

/// SHA-256 of a key's text.
pub type KeyHash = [u8; 32];

/// What the holder of a key may do in its workspace. Who may more comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyRole {
    /// What changes nothing.
    ReadOnly,
    /// Everything but keys.
    Developer,
    /// Everything.
    Admin,
}

impl KeyRole {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ReadOnly, Self::Developer, Self::Admin];

    /// The word for it: `admin`, `developer` or `read_only`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "read_only",
            Self::Developer => "developer",
            Self::Admin => "admin",
        }
    }

    /// The role of this word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

/// What a key opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opens {
    /// A workspace, for what this role may do.
    Workspace(KeyRole),
    /// One environment of it, for those who work for it (api §1.1).
    Environment(EnvironmentId),
}

/// How the key of an environment is noted down where a role's name would be.
const ENVIRONMENT: &str = "environment";

/// A key's record; the key itself is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// The workspace it is of.
    pub workspace: WorkspaceId,
    /// What of the workspace it opens.
    pub opens: Opens,
    /// What people call it.
    pub name: String,
    /// The first characters of the key, to recognise it by.
    pub hint: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// The columns of a key, as [`key_of`] takes them.
macro_rules! key_columns {
    () => {
        "id, workspace, body, created_at, revoked_at, role, environment_id"
    };
}
pub(crate) use key_columns;

/// The part of a key's row that is text of people, as stored.
#[derive(Serialize, Deserialize)]
struct Body {
    name: String,
    hint: String,
}

impl Store {
    /// Adds a key that this actor makes; false, and nothing is written, when what it opens is not there.
    pub async fn insert_key(
        &self,
        actor: Actor,
        key: &ApiKey,
        hash: &KeyHash,
    ) -> Result<bool, Error> {
        let services = self.inner.services.clone();
        let (key, hash) = (key.clone(), *hash);
        let scope = Scope::of(key.workspace.as_str());
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    let workspace = key.workspace.as_str();
                    let found = match &key.opens {
                        Opens::Workspace(_) => {
                            let sql = "SELECT id FROM workspaces WHERE id = $1";
                            tx.one(sql, values![workspace]).await?
                        }
                        Opens::Environment(id) => {
                            let sql = "SELECT id FROM environments
                                 WHERE id = $1 AND workspace = $2 AND archived_at IS NULL";
                            let values = values![id.as_str(), workspace];
                            let rows = tx.locked(Lock::Share, sql, values).await?;
                            rows.into_iter().next()
                        }
                    };
                    if found.is_none() {
                        return Ok(false);
                    }
                    insert(tx, &services, actor, key, hash).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Adds a key to a workspace that never had one; false when it has, also when several servers do this at once.
    pub async fn insert_first_key(&self, key: &ApiKey, hash: &KeyHash) -> Result<bool, Error> {
        let services = self.inner.services.clone();
        let (key, hash) = (key.clone(), *hash);
        let scope = Scope::of(key.workspace.as_str());
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    quota::lock(tx, &key.workspace).await?;
                    let sql = "SELECT id FROM api_keys WHERE workspace = $1 LIMIT 1";
                    let values = values![key.workspace.as_str()];
                    if tx.one(sql, values).await?.is_some() {
                        return Ok(false);
                    }
                    insert(tx, &services, Actor::Server, key, hash).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// The key with this hash, unless it is revoked.
    pub async fn key_by_hash(&self, hash: &KeyHash) -> Result<Option<ApiKey>, Error> {
        self.inner
            .db
            .find(
                concat!(
                    "SELECT ",
                    key_columns!(),
                    " FROM api_keys WHERE hash = $1 AND revoked_at IS NULL"
                ),
                values![hash.as_slice()],
                key_of,
            )
            .await
    }

    /// All keys of a workspace, oldest first.
    pub async fn list_keys(&self, workspace: &WorkspaceId) -> Result<Vec<ApiKey>, Error> {
        self.inner
            .db
            .list(
                concat!(
                    "SELECT ",
                    key_columns!(),
                    " FROM api_keys WHERE workspace = $1 ORDER BY created_at, id"
                ),
                values![workspace.as_str()],
                key_of,
            )
            .await
    }

    /// Revokes a key; false when there is no such key. Repeating it changes nothing.
    pub async fn revoke_key(
        &self,
        actor: Actor,
        workspace: &WorkspaceId,
        id: &ApiKeyId,
    ) -> Result<bool, Error> {
        let services = self.inner.services.clone();
        let (workspace, id) = (workspace.clone(), id.clone());
        let now = self.inner.services.clock.now();
        let scope = Scope::of(id.as_str()).with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    let sql = "SELECT revoked_at FROM api_keys WHERE id = $1 AND workspace = $2";
                    let values = values![id.as_str(), workspace.as_str()];
                    let found = tx.locked(Lock::Update, sql, values).await?;
                    let Some(row) = found.first() else {
                        return Ok(false);
                    };
                    if row.optional_time(0)?.is_some() {
                        return Ok(true);
                    }
                    let act = Act::new(&workspace, actor, Action::KeyRevoke).to(id.as_str());
                    audit::append(tx, &services, &act).await?;
                    tx.run(
                        "UPDATE api_keys SET revoked_at = $2 WHERE id = $1",
                        values![id.as_str(), now],
                    )
                    .await?;
                    failpoint!("store::key::revoked");
                    Ok(true)
                })
            })
            .await
    }
}

async fn insert(
    tx: &mut Tx,
    services: &Services,
    actor: Actor,
    key: ApiKey,
    hash: KeyHash,
) -> Result<(), Error> {
    let act = Act::new(&key.workspace, actor, Action::KeyCreate).to(key.id.as_str());
    audit::append(tx, services, &act).await?;
    let body = Body {
        name: key.name,
        hint: key.hint,
    };
    let (role, environment) = match &key.opens {
        Opens::Workspace(role) => (role.as_str(), None),
        Opens::Environment(environment) => (ENVIRONMENT, Some(environment.as_str())),
    };
    tx.run(
        "INSERT INTO api_keys (id, workspace, hash, body, created_at, revoked_at, role, environment_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        values![
            key.id.as_str(),
            key.workspace.as_str(),
            hash.as_slice(),
            json(&body)?,
            key.created_at,
            key.revoked_at,
            role,
            environment,
        ],
    )
    .await?;
    failpoint!("store::key::inserted");
    Ok(())
}

/// Reads a key from its columns.
pub(crate) fn key_of(row: &Row) -> Result<ApiKey, Error> {
    let damaged =
        |reason: String| Error::damaged(format!("key {}", row.text(0).unwrap_or("?")), reason);
    let body: Body =
        serde_json::from_str(row.text(2)?).map_err(|error| damaged(error.to_string()))?;
    let opens = match (row.text(5)?, row.optional_text(6)?) {
        (ENVIRONMENT, Some(id)) => Opens::Environment(
            EnvironmentId::parse(id).map_err(|error| damaged(error.to_string()))?,
        ),
        (role, None) => Opens::Workspace(
            KeyRole::parse(role).ok_or_else(|| damaged(format!("it has no role {role:?}")))?,
        ),
        _ => return Err(damaged("what it opens is unclear".to_owned())),
    };
    Ok(ApiKey {
        opens,
        id: ApiKeyId::parse(row.text(0)?).map_err(|error| damaged(error.to_string()))?,
        workspace: WorkspaceId::parse(row.text(1)?).map_err(|error| damaged(error.to_string()))?,
        name: body.name,
        hint: body.hint,
        created_at: row.time(3)?,
        revoked_at: row.optional_time(4)?,
    })
}
