//! The rows of credentials: read, locked, written and removed.

use std::collections::BTreeMap;

use manyhands_protocol::vault::Credential;
use manyhands_protocol::{CredentialId, Timestamp, VaultId, WorkspaceId};
use serde::{Deserialize, Serialize};

use super::{CredentialRecord, Refusal};
use crate::body;
use crate::db::{Lock, Row, Tx, values};
use crate::error::Error;
use crate::log::json;

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

/// One credential by its id, its vault and its workspace.
pub(super) const SELECT_ONE: &str = concat!(
    "SELECT ",
    credential_columns!(),
    " FROM credentials c WHERE c.id = $1 AND c.vault_id = $2 AND c.workspace = $3"
);

/// Reads a credential from its columns, of which this is the first.
pub(crate) fn credential_of(row: &Row, first: usize) -> Result<CredentialRecord, Error> {
    let id = row.text(first + 1)?;
    let damaged = |reason: String| Error::Damaged {
        item: format!("credential {id}"),
        reason,
    };
    let text = body::intact(row, id, first, first + 2).map_err(damaged)?;
    let body: Body = serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
    let workspace = WorkspaceId::parse(row.text(first + 3)?);
    Ok(CredentialRecord {
        workspace: workspace.map_err(|error| damaged(error.to_string()))?,
        credential: body.credential,
        key: row.text(first + 4)?.to_owned(),
        secrets: body.secrets,
        refused: body.refused,
        generation: row.int(first + 5)?,
        refreshing_until: row.optional_time(first + 6)?,
    })
}

/// A credential, locked.
pub(super) async fn lock(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    vault: &VaultId,
    id: &CredentialId,
) -> Result<Option<CredentialRecord>, Error> {
    let values = values![id.as_str(), vault.as_str(), workspace.as_str()];
    let rows = tx.locked(Lock::Update, SELECT_ONE, values).await?;
    rows.first().map(|row| credential_of(row, 0)).transpose()
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
    let rows = tx
        .locked(Lock::Update, sql, values![vault.as_str()])
        .await?;
    rows.iter().map(|row| credential_of(row, 0)).collect()
}

/// The ids of all credentials of a vault, locked.
pub(super) async fn lock_ids(tx: &mut Tx, vault: &VaultId) -> Result<Vec<CredentialId>, Error> {
    let sql = "SELECT id FROM credentials WHERE vault_id = $1 ORDER BY id";
    let rows = tx
        .locked(Lock::Update, sql, values![vault.as_str()])
        .await?;
    let parse = |text: &str| {
        CredentialId::parse(text).map_err(|error| Error::Damaged {
            item: format!("a credential of vault {vault}"),
            reason: error.to_string(),
        })
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

/// Writes a row whose lock is held; gives what it is then.
pub(super) async fn write(
    tx: &mut Tx,
    record: CredentialRecord,
) -> Result<CredentialRecord, Error> {
    let body = body_of(&record)?;
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
    .await?;
    Ok(record)
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
    write(tx, archived).await
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
