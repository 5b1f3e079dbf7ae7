//! Skills and versions, made and deleted. A skill's row is locked by whatever changes its list of versions.

use manyhands_protocol::skill::{Origin, Skill, SkillVersion, Source};
use manyhands_protocol::{SkillId, SkillVersionId, Timestamp, WorkspaceId};

use super::held;
use super::{BUILT_IN, SkillRecord, VersionRecord, skill_of, version_of};
use crate::body;
use crate::db::{Lock, Scope, Tx, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::log::json;
use crate::quota::{self, Thing};
use crate::reserve::Purpose;
use crate::store::Store;

/// A version that is to be made; its blob is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewVersion {
    /// Its id.
    pub id: SkillVersionId,
    /// The name in its `SKILL.md`.
    pub name: String,
    /// The description there.
    pub description: String,
    /// The name of the blob that its archive is.
    pub blob: String,
    /// Bytes of the archive.
    pub size: u64,
    /// SHA-256 of the archive, in hex.
    pub sha256: String,
}

/// What became of a new version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is the skill's newest one.
    Done(VersionRecord),
    /// There is no such skill in the workspace.
    Missing,
    /// The skill comes with the server.
    BuiltIn,
    /// The skill's versions have this other name.
    OtherName(String),
}

/// What became of a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// It is gone.
    Done,
    /// There is none.
    Missing,
    /// It comes with the server.
    BuiltIn,
    /// It is the skill's only version.
    Only,
}

impl Store {
    /// Adds a skill of a workspace, with its first version.
    pub async fn insert_skill(
        &self,
        workspace: &WorkspaceId,
        id: &SkillId,
        display_name: String,
        version: NewVersion,
    ) -> Result<SkillRecord, Error> {
        let (workspace, id) = (workspace.clone(), id.clone());
        let services = self.inner.services.clone();
        self.inner
            .db
            .write(Scope::of(id.as_str()), move |tx| {
                Box::pin(async move {
                    quota::one_more(tx, &services, &workspace, Thing::Skill).await?;
                    let now = services.clock.now();
                    let record = first(id, Origin::Custom, display_name, &version, now);
                    insert_skill(tx, workspace.as_str(), &record).await?;
                    let version = stamped(tx, &record, version, now).await?;
                    quota::more_bytes(tx, &services, &workspace, version.size).await?;
                    insert_version(tx, workspace.as_str(), &version).await?;
                    failpoint!("store::skill::inserted");
                    Ok(record)
                })
            })
            .await
    }

    /// Brings a skill that comes with the server up to this version, whose id says its content. False when it was there
    /// already, perhaps behind a newer one: then the blob is not needed.
    pub async fn install_skill(
        &self,
        id: &SkillId,
        display_name: String,
        version: NewVersion,
    ) -> Result<bool, Error> {
        let id = id.clone();
        let clock = self.inner.services.clock.clone();
        self.inner
            .db
            .write(Scope::of(id.as_str()), move |tx| {
                Box::pin(async move {
                    let now = clock.now();
                    let mut record = first(id, Origin::Anthropic, display_name, &version, now);
                    // Whoever of several servers comes second waits here for the first.
                    let body = json(&record)?;
                    tx.run(
                        "INSERT INTO skills (id, workspace, body, checksum, created_at)
                         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
                        values![
                            record.skill.id.as_str(),
                            BUILT_IN,
                            body.as_str(),
                            body::checksum(record.skill.id.as_str(), &body),
                            now,
                        ],
                    )
                    .await?;
                    let locked = lock(tx, BUILT_IN, &record.skill.id).await?;
                    record = locked.unwrap_or(record);
                    let known = "SELECT id FROM skill_versions WHERE id = $1";
                    if tx.one(known, values![version.id.as_str()]).await?.is_some() {
                        return Ok(false);
                    }
                    let version = stamped(tx, &record, version, now).await?;
                    insert_version(tx, BUILT_IN, &version).await?;
                    let record = newest(record, &version, now);
                    update_skill(tx, &record).await?;
                    failpoint!("store::skill::installed");
                    Ok(true)
                })
            })
            .await
    }

    /// Those of these versions that there are, deleted or not.
    pub async fn known_skill_versions(
        &self,
        ids: &[SkillVersionId],
    ) -> Result<Vec<SkillVersionId>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = crate::listing::Query::new("SELECT id FROM skill_versions WHERE 1 = 1");
        query.and_in("id", ids.iter().map(SkillVersionId::as_str));
        let rows = self.inner.db.read(query.sql, query.values).await?;
        let mut known = Vec::with_capacity(rows.len());
        for row in &rows {
            let id = row.text(0)?;
            known.extend(ids.iter().find(|known| known.as_str() == id).cloned());
        }
        Ok(known)
    }

    /// Adds a version to a skill of the workspace.
    pub async fn insert_skill_version(
        &self,
        workspace: &WorkspaceId,
        skill: &SkillId,
        version: NewVersion,
    ) -> Result<Added, Error> {
        let (workspace, skill) = (workspace.clone(), skill.clone());
        let services = self.inner.services.clone();
        self.inner
            .db
            .write(Scope::of(skill.as_str()), move |tx| {
                Box::pin(async move {
                    quota::hold(tx, &services, &workspace).await?;
                    let refusals = [Added::Missing, Added::BuiltIn];
                    let record = match lock_own(tx, &workspace, &skill, refusals).await? {
                        Ok(record) => record,
                        Err(refused) => return Ok(refused),
                    };
                    if record.name != version.name {
                        return Ok(Added::OtherName(record.name));
                    }
                    let now = services.clock.now();
                    let version = stamped(tx, &record, version, now).await?;
                    quota::more_bytes(tx, &services, &workspace, version.size).await?;
                    insert_version(tx, workspace.as_str(), &version).await?;
                    update_skill(tx, &newest(record, &version, now)).await?;
                    failpoint!("store::skill::versioned");
                    Ok(Added::Done(version))
                })
            })
            .await
    }

    /// Deletes a skill with all its versions (api §19).
    pub async fn delete_skill(
        &self,
        workspace: &WorkspaceId,
        id: &SkillId,
    ) -> Result<Deletion, Error> {
        let (workspace, id) = (workspace.clone(), id.clone());
        let (clock, loosened) = (
            self.inner.services.clock.clone(),
            self.inner.services.loosened.clone(),
        );
        let scope = Scope::of(id.as_str()).with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    let refusals = [Deletion::Missing, Deletion::BuiltIn];
                    if let Err(refused) = lock_own(tx, &workspace, &id, refusals).await? {
                        return Ok(refused);
                    }
                    let sql =
                        "SELECT id FROM skill_versions WHERE skill_id = $1 AND deleted_at IS NULL ORDER BY id";
                    for row in tx.locked(Lock::Update, sql, values![id.as_str()]).await? {
                        held::let_go(tx, row.text(0)?, clock.now()).await?;
                    }
                    let sql = "DELETE FROM skills WHERE id = $1";
                    tx.run(sql, values![id.as_str()]).await?;
                    failpoint!("store::skill::deleted");
                    tx.after_commit(move || loosened.notify_one());
                    Ok(Deletion::Done)
                })
            })
            .await
    }

    /// Deletes a version of a skill, unless it is the only one: a skill has one at least (api §19).
    pub async fn delete_skill_version(
        &self,
        workspace: &WorkspaceId,
        skill: &SkillId,
        id: &SkillVersionId,
    ) -> Result<Deletion, Error> {
        let (workspace, skill, id) = (workspace.clone(), skill.clone(), id.clone());
        let (clock, loosened) = (
            self.inner.services.clock.clone(),
            self.inner.services.loosened.clone(),
        );
        let scope = Scope::of(skill.as_str()).with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    let refusals = [Deletion::Missing, Deletion::BuiltIn];
                    let record = match lock_own(tx, &workspace, &skill, refusals).await? {
                        Ok(record) => record,
                        Err(refused) => return Ok(refused),
                    };
                    let sql = "SELECT body, id, checksum FROM skill_versions
                               WHERE skill_id = $1 AND deleted_at IS NULL ORDER BY id";
                    let values = values![skill.as_str()];
                    let versions = tx.lock_all(Lock::Update, sql, values, version_of).await?;
                    if !versions.iter().any(|it| it.version.id == id) {
                        return Ok(Deletion::Missing);
                    }
                    let others = versions.iter().filter(|it| it.version.id != id);
                    let Some(latest) = others.max_by_key(|it| it.epoch) else {
                        return Ok(Deletion::Only);
                    };
                    let now = clock.now();
                    held::let_go(tx, id.as_str(), now).await?;
                    update_skill(tx, &newest(record, latest, now)).await?;
                    failpoint!("store::skill::version_deleted");
                    tx.after_commit(move || loosened.notify_one());
                    Ok(Deletion::Done)
                })
            })
            .await
    }
}

/// A skill with this first version.
fn first(
    id: SkillId,
    kind: Origin,
    display_name: String,
    version: &NewVersion,
    now: Timestamp,
) -> SkillRecord {
    SkillRecord {
        skill: Skill {
            id,
            kind: Default::default(),
            display_name,
            latest_version_id: version.id.clone(),
            source: Source { kind },
            created_at: now,
            updated_at: now,
        },
        name: version.name.clone(),
        latest_epoch: now.as_micros(),
    }
}

/// A version with an epoch above those before it, also those that are deleted; a skill's first one has the skill's.
async fn stamped(
    tx: &mut Tx,
    record: &SkillRecord,
    version: NewVersion,
    now: Timestamp,
) -> Result<VersionRecord, Error> {
    let sql = "SELECT MAX(epoch) FROM skill_versions WHERE skill_id = $1";
    let row = tx.one(sql, values![record.skill.id.as_str()]).await?;
    let before = row.map(|row| row.optional_int(0)).transpose()?.flatten();
    let epoch = before.map_or(record.latest_epoch, |before| {
        now.as_micros().max(before + 1)
    });
    Ok(VersionRecord {
        version: SkillVersion {
            id: version.id,
            kind: Default::default(),
            skill_id: record.skill.id.clone(),
            name: version.name,
            description: version.description,
            created_at: now,
        },
        epoch,
        blob: version.blob,
        size: version.size,
        sha256: version.sha256,
    })
}

/// The skill with this version as its newest.
fn newest(record: SkillRecord, version: &VersionRecord, now: Timestamp) -> SkillRecord {
    SkillRecord {
        skill: Skill {
            latest_version_id: version.version.id.clone(),
            updated_at: now,
            ..record.skill
        },
        name: record.name,
        latest_epoch: version.epoch,
    }
}

/// A skill that the workspace may change, locked; or what to answer when it is missing, or comes with the server.
async fn lock_own<T>(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    id: &SkillId,
    [missing, built_in]: [T; 2],
) -> Result<Result<SkillRecord, T>, Error> {
    Ok(match lock(tx, workspace.as_str(), id).await? {
        None => Err(missing),
        Some(record) if record.skill.source.kind == Origin::Anthropic => Err(built_in),
        Some(record) => Ok(record),
    })
}

/// A skill that the workspace sees, locked.
async fn lock(tx: &mut Tx, workspace: &str, id: &SkillId) -> Result<Option<SkillRecord>, Error> {
    let values = values![id.as_str(), workspace];
    tx.lock(Lock::Update, super::SELECT_SKILL, values, skill_of)
        .await
}

async fn insert_skill(tx: &mut Tx, workspace: &str, record: &SkillRecord) -> Result<(), Error> {
    let (id, body) = (record.skill.id.as_str(), json(record)?);
    tx.run(
        "INSERT INTO skills (id, workspace, body, checksum, created_at) VALUES ($1, $2, $3, $4, $5)",
        values![
            id,
            workspace,
            body.as_str(),
            body::checksum(id, &body),
            record.skill.created_at,
        ],
    )
    .await
}

async fn update_skill(tx: &mut Tx, record: &SkillRecord) -> Result<(), Error> {
    let (id, body) = (record.skill.id.as_str(), json(record)?);
    tx.run(
        "UPDATE skills SET body = $2, checksum = $3 WHERE id = $1",
        values![id, body.as_str(), body::checksum(id, &body)],
    )
    .await
}

async fn insert_version(tx: &mut Tx, workspace: &str, record: &VersionRecord) -> Result<(), Error> {
    let (id, body) = (record.version.id.as_str(), json(record)?);
    tx.run(
        "INSERT INTO skill_versions (id, skill_id, workspace, epoch, blob, size, body, checksum, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        values![
            id,
            record.version.skill_id.as_str(),
            workspace,
            record.epoch,
            record.blob.as_str(),
            i64::try_from(record.size).unwrap_or(i64::MAX),
            body.as_str(),
            body::checksum(id, &body),
            record.version.created_at,
        ],
    )
    .await
}
