//! What was configured: workspaces, keys, agents and environments, each read as the server would read it.

use manyhands_protocol::agent::Agent;
use manyhands_protocol::environment::Environment;
use manyhands_protocol::repository::Resource;
use manyhands_protocol::vault::Vault;
use manyhands_protocol::{AgentId, WorkspaceId};
use serde::de::DeserializeOwned;

use super::{PAGE, Verifier, memory};
use crate::audit::{self, audit_columns};
use crate::body;
use crate::db::{Row, Value, values};
use crate::error::Error;
use crate::files::FileRecord;
use crate::key::{key_columns, key_of};
use crate::skills::{SkillRecord, VersionRecord};
use crate::user_profiles::ProfileRecord;
use crate::vault::{credential_columns, credential_of, data_key_of};

/// A kind of resource: how its rows are read and judged. The first columns of a row are its key.
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// Takes the last row's key, and how many rows.
    pub(super) sql: &'static str,
    /// What every key comes after.
    pub(super) start: fn() -> Vec<Value>,
    pub(super) key: fn(&Row) -> Result<Vec<Value>, Error>,
    pub(super) item: fn(&Row) -> Result<String, Error>,
    pub(super) judge: fn(&Row) -> Result<(), String>,
}

const KINDS: &[Kind] = &[
    Kind {
        name: "workspaces",
        sql: "SELECT id FROM workspaces WHERE id > $1 ORDER BY id LIMIT $2",
        start: text_start,
        key: text_key,
        item: |row| Ok(format!("workspace {}", row.text(0)?)),
        judge: |row| parsed(WorkspaceId::parse(text(row, 0)?)),
    },
    Kind {
        name: "API keys",
        sql: concat!(
            "SELECT ",
            key_columns!(),
            ", CAST(LENGTH(hash) AS BIGINT) FROM api_keys WHERE id > $1 ORDER BY id LIMIT $2"
        ),
        start: text_start,
        key: text_key,
        item: |row| Ok(format!("key {}", row.text(0)?)),
        judge: |row| {
            key_of(row).map_err(|error| reason(&error))?;
            match row.int(7) {
                Ok(32) => Ok(()),
                _ => Err("its hash is not one of 32 bytes".to_owned()),
            }
        },
    },
    Kind {
        name: "agents",
        sql: "SELECT a.id, a.version, v.version FROM agents a
              LEFT JOIN agent_versions v ON v.agent_id = a.id AND v.version = a.version
              WHERE a.id > $1 ORDER BY a.id LIMIT $2",
        start: text_start,
        key: text_key,
        item: |row| Ok(format!("agent {}", row.text(0)?)),
        judge: |row| {
            parsed(AgentId::parse(text(row, 0)?))?;
            match row.optional_int(2) {
                Ok(Some(_)) => Ok(()),
                _ => Err("its latest version is missing".to_owned()),
            }
        },
    },
    Kind {
        name: "versions of agents",
        sql: "SELECT v.agent_id, v.version, v.body, a.id, v.checksum FROM agent_versions v
              LEFT JOIN agents a ON a.id = v.agent_id
              WHERE (v.agent_id, v.version) > ($1, $2) ORDER BY v.agent_id, v.version LIMIT $3",
        start: || values!["", i64::MIN],
        key: |row| Ok(values![row.text(0)?, row.int(1)?]),
        item: |row| Ok(format!("version {} of agent {}", row.int(1)?, row.text(0)?)),
        judge: |row| {
            let version = row.int(1).map_err(|error| reason(&error))?;
            let owner = body::version_of(text(row, 0)?, version);
            let agent: Agent = body::read(row, &owner, 2, 4)?;
            if agent.id.as_str() != text(row, 0)? || row.int(1) != Ok(i64::from(agent.version)) {
                return Err("its body is that of another version".to_owned());
            }
            match row.optional_text(3) {
                Ok(Some(_)) => Ok(()),
                _ => Err("its agent is missing".to_owned()),
            }
        },
    },
    Kind {
        name: "environments",
        sql: "SELECT id, body, checksum FROM environments WHERE id > $1 ORDER BY id LIMIT $2",
        start: text_start,
        key: text_key,
        item: |row| Ok(format!("environment {}", row.text(0)?)),
        judge: |row| own(row, |environment: &Environment| environment.id.as_str(), "environment").map(drop),
    },
    Kind {
        name: "files",
        sql: "SELECT id, body, checksum, blob FROM files WHERE id > $1 ORDER BY id LIMIT $2",
        start: text_start,
        key: text_key,
        item: |row| Ok(format!("file {}", row.text(0)?)),
        judge: |row| {
            let record = own(row, |record: &FileRecord| record.file.id.as_str(), "file")?;
            // A file that has expired has given its blob up.
            match text(row, 3)? {
                "" if record.file.expires_at.is_some() => Ok(()),
                blob if blob == record.blob => Ok(()),
                _ => Err("its blob is that of another file".to_owned()),
            }
        },
    },
    Kind {
        name: "resources of sessions",
        sql: "SELECT r.id, r.body, r.checksum, f.id FROM session_resources r LEFT JOIN files f ON f.id = r.file_id
              WHERE r.id > $1 ORDER BY r.id LIMIT $2",
        start: text_start,
        key: text_key,
        item: |row| Ok(format!("resource {}", row.text(0)?)),
        judge: |row| {
            let resource = own(row, |resource: &Resource| resource.id().as_str(), "resource")?;
            match (resource, row.optional_text(3)) {
                (Resource::Repository(_), _) | (Resource::File(_), Ok(Some(_))) => Ok(()),
                _ => Err("its file is missing".to_owned()),
            }
        },
    },
    Kind {
        name: "data keys",
        sql: "SELECT id, workspace, wrapped FROM data_keys WHERE id > $1 ORDER BY id LIMIT $2",
        start: text_start,
        key: text_key,
        item: |row| Ok(format!("data key {}", row.text(0)?)),
        judge: |row| data_key_of(row).map(drop).map_err(|error| reason(&error)),
    },
    Kind {
        name: "vaults",
        sql: "SELECT id, body, checksum FROM vaults WHERE id > $1 ORDER BY id LIMIT $2",
        start: text_start,
        key: text_key,
        item: |row| Ok(format!("vault {}", row.text(0)?)),
        judge: |row| own(row, |vault: &Vault| vault.id.as_str(), "vault").map(drop),
    },
    Kind {
        name: "credentials",
        sql: concat!(
            "SELECT ",
            credential_columns!(),
            ", v.id FROM credentials c LEFT JOIN vaults v ON v.id = c.vault_id WHERE c.id > $1 ORDER BY c.id LIMIT $2"
        ),
        start: text_start,
        key: second_text_key,
        item: |row| Ok(format!("credential {}", row.text(1)?)),
        judge: |row| {
            let record = credential_of(row).map_err(|error| reason(&error))?;
            if record.credential.id.as_str() != text(row, 1)? {
                return Err("its body is that of another credential".to_owned());
            }
            if row.optional_text(7).map_err(|error| reason(&error))? != Some(record.credential.vault_id.as_str()) {
                return Err("its vault is missing".to_owned());
            }
            match record.credential.archived_at {
                Some(_) if !record.secrets.is_empty() => Err("it is archived and has secrets".to_owned()),
                None if record.secrets.is_empty() => Err("its secrets are missing".to_owned()),
                _ => Ok(()),
            }
        },
    },
    Kind {
        name: "user profiles",
        sql: "SELECT id, body, checksum FROM user_profiles WHERE id > $1 ORDER BY id LIMIT $2",
        start: text_start,
        key: text_key,
        item: |row| Ok(format!("user profile {}", row.text(0)?)),
        judge: |row| own(row, |profile: &ProfileRecord| profile.id.as_str(), "profile").map(drop),
    },
    Kind {
        name: "skills",
        sql: "SELECT s.id, s.body, s.checksum, v.id FROM skills s
              LEFT JOIN skill_versions v ON v.skill_id = s.id AND v.deleted_at IS NULL
                  AND v.epoch = (SELECT MAX(epoch) FROM skill_versions WHERE skill_id = s.id AND deleted_at IS NULL)
              WHERE s.id > $1 ORDER BY s.id LIMIT $2",
        start: text_start,
        key: text_key,
        item: |row| Ok(format!("skill {}", row.text(0)?)),
        judge: |row| {
            let record = own(row, |record: &SkillRecord| record.skill.id.as_str(), "skill")?;
            match row.optional_text(3) {
                Ok(Some(latest)) if latest == record.skill.latest_version_id.as_str() => Ok(()),
                _ => Err("its latest version is missing".to_owned()),
            }
        },
    },
    Kind {
        name: "versions of skills",
        sql: "SELECT v.id, v.body, v.checksum, v.blob, v.skill_id FROM skill_versions v WHERE v.id > $1 ORDER BY v.id LIMIT $2",
        start: text_start,
        key: text_key,
        item: |row| Ok(format!("skill version {}", row.text(0)?)),
        judge: |row| {
            let record = own(row, |record: &VersionRecord| record.version.id.as_str(), "version")?;
            if record.version.skill_id.as_str() != text(row, 4)? {
                return Err("its body is that of another version".to_owned());
            }
            if record.blob != text(row, 3)? {
                return Err("its blob is that of another version".to_owned());
            }
            Ok(())
        },
    },
    Kind {
        name: "rows of the audit log",
        sql: concat!(
            "SELECT ",
            audit_columns!(),
            " FROM audit WHERE id > $1 ORDER BY id LIMIT $2"
        ),
        start: text_start,
        key: text_key,
        item: |row| Ok(format!("row {} of the audit log", row.text(0)?)),
        judge: |row| audit::record_of(row).map(drop).map_err(|error| reason(&error)),
    },
];

pub(super) fn text_start() -> Vec<Value> {
    values![""]
}

fn text_key(row: &Row) -> Result<Vec<Value>, Error> {
    Ok(values![row.text(0)?])
}

/// Of rows that begin with a body.
pub(super) fn second_text_key(row: &Row) -> Result<Vec<Value>, Error> {
    Ok(values![row.text(1)?])
}

fn text(row: &Row, column: usize) -> Result<&str, String> {
    row.text(column).map_err(|error| error.to_string())
}

/// A body that is its row's own, whose first columns are its id, the body and the checksum.
fn own<T: DeserializeOwned>(row: &Row, id: fn(&T) -> &str, kind: &str) -> Result<T, String> {
    let item: T = body::read(row, text(row, 0)?, 1, 2)?;
    if id(&item) == text(row, 0)? {
        Ok(item)
    } else {
        Err(format!("its body is that of another {kind}"))
    }
}

fn parsed<T, E: ToString>(parsed: Result<T, E>) -> Result<(), String> {
    parsed.map(drop).map_err(|error| error.to_string())
}

/// An error's own words, without the item it names.
pub(super) fn reason(error: &Error) -> String {
    match error {
        Error::Damaged { reason, .. } => reason.clone(),
        error => error.to_string(),
    }
}

/// Reads all resources.
pub(super) async fn verify(verifier: &mut Verifier<'_>) -> Result<(), Error> {
    for kind in KINDS.iter().chain(&memory::KINDS) {
        let mut after = (kind.start)();
        loop {
            let mut values = after.clone();
            values.push(PAGE.into());
            let rows = verifier.reader.all(kind.sql, values).await;
            let Some(rows) = verifier.heed(kind.name, rows)? else {
                break;
            };
            let Some(last) = rows.last() else { break };
            after = (kind.key)(last)?;
            for row in &rows {
                verifier.counts.resources += 1;
                if let Err(reason) = (kind.judge)(row) {
                    verifier.damaged((kind.item)(row)?, reason);
                }
            }
            verifier.progress();
        }
    }
    Ok(())
}
