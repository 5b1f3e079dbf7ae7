//! The rows of credentials: read, locked, written and removed.

use std::collections::BTreeMap;

use manyhands_protocol::vault::Credential;
use manyhands_protocol::{CredentialId, Timestamp, VaultId, WorkspaceId};
use serde::{Deserialize, Serialize};

use super::{CredentialRecord, Refusal};
use crate::body;
use crate::db::{Lock, Row, Tx, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::log::json;
use crate::reserve::Purpose;
use crate::resource::{Place, Resource};

/// The columns of a credential, as [`credential_of`] takes them.
macro_rules! credential_columns {
    () => {
        "c.body, c.id, c.checksum, c.workspace, c.match_key, c.generation, c.refreshing_until"
    };
}
pub(crate) use credential_columns;

/// What a row's body holds.
#[derive(Serialize, Deserialize)]
struct Body {
    credential: Credential,
    secrets: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<Refusal>,
}

/// Reads a credential from its columns.
pub(crate) fn credential_of(row: &Row) -> Result<CredentialRecord, Error> {
    let id = row.text(1)?;
    let body: Body = body::parsed(row, "credential")?;
    let workspace = WorkspaceId::parse(row.text(3)?)
        .map_err(|error| Error::damaged(format!("credential {id}"), error))?;
    Ok(CredentialRecord {
        workspace,
        credential: body.credential,
        key: row.text(4)?.to_owned(),
        secrets: body.secrets,
        refused: body.refused,
        generation: row.int(5)?,
        refreshing_until: row.optional_time(6)?,
    })
}

/// The active credentials of a vault, locked.
pub(super) async fn lock_active(
    tx: &mut Tx,
    vault: &VaultId,
) -> Result<Vec<CredentialRecord>, Error> {
    let sql = concat!(
        "SELECT ",
        credential_columns!(),
        " FROM credentials c WHERE c.vault_id = $1 AND c.archived_at IS NULL ORDER BY c.id"
    );
    tx.lock_all(Lock::Update, sql, values![vault.as_str()], credential_of)
        .await
}

/// The ids of all credentials of a vault, locked.
pub(super) async fn lock_ids(tx: &mut Tx, vault: &VaultId) -> Result<Vec<CredentialId>, Error> {
    let sql = "SELECT id FROM credentials WHERE vault_id = $1 ORDER BY id";
    let rows = tx
        .locked(Lock::Update, sql, values![vault.as_str()])
        .await?;
    let parse = |text: &str| {
        CredentialId::parse(text)
            .map_err(|error| Error::damaged(format!("a credential of vault {vault}"), error))
    };
    rows.iter().map(|row| parse(row.text(0)?)).collect()
}

fn body_of(record: &CredentialRecord) -> Result<String, Error> {
    json(&Body {
        credential: record.credential.clone(),
        secrets: record.secrets.clone(),
        refused: record.refused.clone(),
    })
}

/// Adds a row.
pub(super) async fn insert(tx: &mut Tx, record: CredentialRecord) -> Result<(), Error> {
    let body = body_of(&record)?;
    let credential = &record.credential;
    tx.run(
        "INSERT INTO credentials (id, vault_id, workspace, match_key, body, checksum, generation, created_at, archived_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        values![
            credential.id.as_str(),
            credential.vault_id.as_str(),
            record.workspace.as_str(),
            record.key.as_str(),
            body.as_str(),
            body::checksum(credential.id.as_str(), &body),
            record.generation,
            credential.created_at,
            credential.archived_at,
        ],
    )
    .await
}

impl Resource for CredentialRecord {
    const SELECT: &'static str = concat!(
        "SELECT ",
        credential_columns!(),
        " FROM credentials c WHERE c.id = $1 AND c.workspace = $2 AND c.vault_id = $3"
    );

    /// A token that was refreshed must be kept: its predecessor may be worth nothing any more.
    const CHANGED_FOR: Purpose = Purpose::Ends;

    fn of(row: &Row) -> Result<Self, Error> {
        credential_of(row)
    }

    async fn write(tx: &mut Tx, _: &Place, old: Self, new: Self) -> Result<Self, Error> {
        // The name may change while new tokens are fetched; nobody else is to fetch them too.
        let settled = new.secrets != old.secrets || new.refused != old.refused;
        let written = Self {
            generation: old.generation + 1,
            refreshing_until: old.refreshing_until.filter(|_| !settled),
            ..new
        };
        write(tx, &written).await?;
        failpoint!("store::credential::updated");
        Ok(written)
    }
}

/// Writes a row whose lock is held.
async fn write(tx: &mut Tx, record: &CredentialRecord) -> Result<(), Error> {
    let body = body_of(record)?;
    let credential = &record.credential;
    tx.run(
        "UPDATE credentials SET body = $2, checksum = $3, generation = $4, refreshing_until = $5, archived_at = $6
         WHERE id = $1",
        values![
            credential.id.as_str(),
            body.as_str(),
            body::checksum(credential.id.as_str(), &body),
            record.generation,
            record.refreshing_until,
            credential.archived_at,
        ],
    )
    .await
}

/// Archives a credential whose row is locked: its secrets go.
pub(super) async fn archive(
    tx: &mut Tx,
    record: CredentialRecord,
    now: Timestamp,
) -> Result<CredentialRecord, Error> {
    let credential = Credential {
        archived_at: Some(now),
        ..record.credential
    };
    let archived = CredentialRecord {
        credential,
        secrets: BTreeMap::new(),
        refused: None,
        generation: record.generation + 1,
        refreshing_until: None,
        ..record
    };
    write(tx, &archived).await?;
    Ok(archived)
}

/// Deletes a credential whose row is locked, and what sandboxes see in its place.
pub(super) async fn delete(tx: &mut Tx, id: &CredentialId) -> Result<(), Error> {
    for sql in [
        "DELETE FROM placeholders WHERE credential_id = $1",
        "DELETE FROM credentials WHERE id = $1",
    ] {
        tx.run(sql, values![id.as_str()]).await?;
    }
    Ok(())
}
