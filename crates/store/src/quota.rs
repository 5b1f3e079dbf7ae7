//! Quotas: how much a workspace may keep (security STORE-4, API-4). They are looked at in the transaction of the write that adds,
//! under the workspace's lock, so that they hold exactly for all who add at once. Without quotas nothing is looked at.

use manyhands_protocol::WorkspaceId;

use crate::db::{Lock, Tx, values};
use crate::error::Error;
use crate::store::{Services, Store};

/// How much each workspace may keep; `None` without bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Bytes of the files that clients have sent, of skills, and of memories with their kept versions.
    pub bytes: Option<u64>,
    /// Agents, archived ones too.
    pub agents: Option<u64>,
    /// Environments, archived ones too.
    pub environments: Option<u64>,
    /// Sessions, archived ones too.
    pub sessions: Option<u64>,
    /// Files that clients have sent.
    pub files: Option<u64>,
    /// Vaults, archived ones too.
    pub vaults: Option<u64>,
    /// Skills of the workspace's own.
    pub skills: Option<u64>,
    /// Memory stores, archived ones too.
    pub memory_stores: Option<u64>,
}

/// A kind of thing that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    Agent,
    Environment,
    Session,
    File,
    Vault,
    Skill,
    MemoryStore,
}

impl Thing {
    fn quota(self, quotas: &Quotas) -> Option<u64> {
        match self {
            Self::Agent => quotas.agents,
            Self::Environment => quotas.environments,
            Self::Session => quotas.sessions,
            Self::File => quotas.files,
            Self::Vault => quotas.vaults,
            Self::Skill => quotas.skills,
            Self::MemoryStore => quotas.memory_stores,
        }
    }

    /// What a refusal calls them.
    fn words(self) -> &'static str {
        match self {
            Self::Agent => "agents",
            Self::Environment => "environments",
            Self::Session => "sessions",
            Self::File => "files",
            Self::Vault => "vaults",
            Self::Skill => "skills",
            Self::MemoryStore => "memory stores",
        }
    }

    /// How many there are.
    fn count(self) -> &'static str {
        match self {
            Self::Agent => "SELECT COUNT(*) FROM agents WHERE workspace = $1",
            Self::Environment => "SELECT COUNT(*) FROM environments WHERE workspace = $1",
            Self::Session => "SELECT COUNT(*) FROM sessions WHERE workspace = $1",
            Self::File => {
                "SELECT COUNT(*) FROM files WHERE workspace = $1 AND session_id IS NULL AND blob <> ''"
            }
            Self::Vault => "SELECT COUNT(*) FROM vaults WHERE workspace = $1",
            Self::Skill => "SELECT COUNT(*) FROM skills WHERE workspace = $1",
            Self::MemoryStore => "SELECT COUNT(*) FROM memory_stores WHERE workspace = $1",
        }
    }
}

/// The bytes that count, of all kinds.
const BYTES: &str = "SELECT CAST(
     (SELECT COALESCE(SUM(size), 0) FROM files WHERE workspace = $1 AND session_id IS NULL AND blob <> '')
     + (SELECT COALESCE(SUM(size), 0) FROM skill_versions WHERE workspace = $1)
     + (SELECT COALESCE(SUM(OCTET_LENGTH(v.content)), 0) FROM memory_versions v
        JOIN memory_stores s ON s.id = v.store_id WHERE s.workspace = $1)
     AS BIGINT)";

impl Store {
    /// Holds every workspace to these from now on. Counts once: the first call of a store's life.
    pub fn hold_to(&self, quotas: Quotas) {
        // Whoever calls it a second time keeps the first ones: quotas do not change while a server runs.
        let _ = self.inner.services.quotas.set(quotas);
    }
}

/// Refuses one more of a kind, when there is a quota that it would go over.
pub(crate) async fn one_more(
    tx: &mut Tx,
    services: &Services,
    workspace: &WorkspaceId,
    thing: Thing,
) -> Result<(), Error> {
    let Some(quota) = services.quotas().and_then(|quotas| thing.quota(quotas)) else {
        return Ok(());
    };
    check(tx, workspace, thing.words(), quota, 1, thing.count()).await
}

/// Refuses so many more bytes, when there is a quota that they would go over.
pub(crate) async fn more_bytes(
    tx: &mut Tx,
    services: &Services,
    workspace: &WorkspaceId,
    more: u64,
) -> Result<(), Error> {
    // What needs no room is done however much is used: it may be what makes some.
    let quota = services.quotas().and_then(|quotas| quotas.bytes);
    let Some(quota) = quota.filter(|_| more > 0) else {
        return Ok(());
    };
    check(tx, workspace, "bytes", quota, more, BYTES).await
}

/// Takes the workspace's lock now, where bytes have a quota. Whoever asks for room only behind the lock of something in the
/// workspace calls this before it: all take the workspace first, and no two wait for each other.
pub(crate) async fn hold(
    tx: &mut Tx,
    services: &Services,
    workspace: &WorkspaceId,
) -> Result<(), Error> {
    match services.quotas().and_then(|quotas| quotas.bytes) {
        Some(_) => lock(tx, workspace).await,
        None => Ok(()),
    }
}

/// Makes those who add to a workspace at the same time wait for each other, so that they see each other's bytes.
pub(crate) async fn lock(tx: &mut Tx, workspace: &WorkspaceId) -> Result<(), Error> {
    let sql = "SELECT id FROM workspaces WHERE id = $1";
    tx.locked(Lock::Update, sql, values![workspace.as_str()])
        .await
        .map(drop)
}

async fn check(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    what: &'static str,
    quota: u64,
    more: u64,
    used: &'static str,
) -> Result<(), Error> {
    let used = used_now(tx, workspace, used).await?;
    if used.saturating_add(more) > quota {
        return Err(Error::OverQuota { what, quota, used });
    }
    Ok(())
}

/// How much of something a workspace has, by a statement that counts it. Those who add to it wait for each other from here on.
pub(crate) async fn used_now(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    count: &'static str,
) -> Result<u64, Error> {
    lock(tx, workspace).await?;
    let used = tx.one(count, values![workspace.as_str()]).await?;
    let used = used.map_or(Ok(0), |row| row.int(0))?;
    Ok(u64::try_from(used).unwrap_or(u64::MAX))
}
