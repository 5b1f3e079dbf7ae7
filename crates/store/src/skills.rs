//! Skills and their versions (runtime SK-1): a row each, and the version's files as one blob that is kept elsewhere. What is
//! written here last points to a blob that is durable; what is removed notes its blob down for removal.
//!
//! Skills that come with the server are in no workspace, and all of them see those. A version that a session has is never
//! taken from it: one that is deleted is hidden at once, and goes with the last session that has it.

mod held;
mod write;

use manyhands_protocol::skill::{Origin, Skill, SkillVersion};
use manyhands_protocol::{EnvironmentId, SessionId, SkillId, SkillVersionId, WorkspaceId};
use serde::{Deserialize, Serialize};

pub(crate) use held::{hold, remove_of_session};
pub use write::{Added, Deletion, NewVersion};

use crate::body;
use crate::db::{Row, values};
use crate::error::Error;
use crate::listing::{Query, Range};
use crate::store::Store;

/// A session has at most so many skills (runtime SK-4).
pub const SKILLS: usize = 500;

/// The workspace of what comes with the server.
const BUILT_IN: &str = "";

/// A skill, with what its responses leave out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkillRecord {
    /// As shown in responses.
    pub skill: Skill,
    /// The name that all its versions have.
    pub name: String,
    /// The epoch of its newest version.
    pub latest_epoch: i64,
}

/// A version of a skill, and where its files are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// As shown in responses.
    pub version: SkillVersion,
    /// What old clients name it by: microseconds since 1970, unlike those of the skill's other versions, and the newest
    /// version's the highest.
    pub epoch: i64,
    /// The name of the blob that its archive is.
    pub blob: String,
    /// Bytes of the archive.
    pub size: u64,
    /// SHA-256 of the archive, in hex.
    pub sha256: String,
}

/// What names a version of a skill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionName {
    /// The newest one.
    Latest,
    /// Its id.
    Id(SkillVersionId),
    /// Its epoch, as old clients say.
    Epoch(i64),
}

impl VersionName {
    /// Reads `latest`, an id or an epoch; `None` when it is none of them.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Self::Latest);
        }
        if let Ok(id) = SkillVersionId::parse(text) {
            return Some(Self::Id(id));
        }
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| digits).map(Self::Epoch)
    }
}

impl Store {
    /// A skill of the workspace, or one that comes with the server.
    pub async fn skill(
        &self,
        workspace: &WorkspaceId,
        id: &SkillId,
    ) -> Result<Option<SkillRecord>, Error> {
        let values = values![id.as_str(), workspace.as_str()];
        self.inner.db.find(SELECT_SKILL, values, skill_of).await
    }

    /// A page of the skills of the workspace and of those that come with the server, or of one kind.
    pub async fn list_skills(
        &self,
        workspace: &WorkspaceId,
        origin: Option<Origin>,
        range: &Range,
    ) -> Result<Vec<SkillRecord>, Error> {
        let workspaces = match origin {
            None => vec![BUILT_IN, workspace.as_str()],
            Some(Origin::Custom) => vec![workspace.as_str()],
            Some(Origin::Anthropic) => vec![BUILT_IN],
        };
        let mut query = Query::new("SELECT body, id, checksum FROM skills WHERE 1 = 1");
        query.and_in("workspace", workspaces);
        query.page("created_at", "id", range);
        self.inner.db.list(query.sql, query.values, skill_of).await
    }

    /// A version of a skill; `None` as well when it is deleted.
    pub async fn skill_version(
        &self,
        workspace: &WorkspaceId,
        skill: &SkillId,
        name: &VersionName,
    ) -> Result<Option<VersionRecord>, Error> {
        let mut query = of_skill(skill, workspace);
        match name {
            VersionName::Latest => {}
            VersionName::Id(id) => query.and("id = ", id.as_str()),
            VersionName::Epoch(epoch) => query.and("epoch = ", *epoch),
        }
        query.push(" ORDER BY epoch DESC LIMIT 1");
        self.inner
            .db
            .find(query.sql, query.values, version_of)
            .await
    }

    /// A page of a skill's versions.
    pub async fn list_skill_versions(
        &self,
        workspace: &WorkspaceId,
        skill: &SkillId,
        range: &Range,
    ) -> Result<Vec<VersionRecord>, Error> {
        let mut query = of_skill(skill, workspace);
        query.page("created_at", "id", range);
        self.inner
            .db
            .list(query.sql, query.values, version_of)
            .await
    }

    /// Whether a session of this environment has the version (security API-1).
    pub async fn has_skill_version(
        &self,
        workspace: &WorkspaceId,
        environment: &EnvironmentId,
        version: &str,
    ) -> Result<bool, Error> {
        let sql = "SELECT 1 FROM session_skills h JOIN sessions s ON s.id = h.session_id
                   WHERE h.version_id = $1 AND s.workspace = $2 AND s.environment_id = $3 LIMIT 1";
        let values = values![version, workspace.as_str(), environment.as_str()];
        let row = self.inner.db.read_one(sql, values).await?;
        Ok(row.is_some())
    }

    /// The versions that a session has, by their names; also those that were deleted since.
    pub async fn session_skills(&self, session: &SessionId) -> Result<Vec<VersionRecord>, Error> {
        let rows = self
            .inner
            .db
            .read(
                "SELECT v.body, v.id, v.checksum FROM session_skills s
                 JOIN skill_versions v ON v.id = s.version_id WHERE s.session_id = $1 ORDER BY v.id",
                values![session.as_str()],
            )
            .await?;
        let versions = rows.iter().map(version_of).collect::<Result<Vec<_>, _>>();
        versions.map(|mut versions| {
            versions.sort_by(|one, other| one.version.name.cmp(&other.version.name));
            versions
        })
    }
}

const SELECT_SKILL: &str =
    "SELECT body, id, checksum FROM skills WHERE id = $1 AND workspace IN ($2, '')";

/// The versions of a skill that are not deleted, for a workspace that sees it.
fn of_skill(skill: &SkillId, workspace: &WorkspaceId) -> Query {
    let mut query =
        Query::new("SELECT body, id, checksum FROM skill_versions WHERE deleted_at IS NULL");
    query.and("skill_id = ", skill.as_str());
    query.and_in("workspace", [BUILT_IN, workspace.as_str()]);
    query
}

/// Reads a skill from `body, id, checksum`.
pub(crate) fn skill_of(row: &Row) -> Result<SkillRecord, Error> {
    body::parsed(row, "skill")
}

/// Reads a version from `body, id, checksum`.
pub(crate) fn version_of(row: &Row) -> Result<VersionRecord, Error> {
    body::parsed(row, "skill version")
}
