//! Vaults, and what hangs on them: credentials, the keys that seal them, and what sandboxes see in their place.
//!
//! This room sees secrets sealed only, and does not know how to open them. What changes a vault or a credential writes its row
//! of the audit log in the same transaction, before the change (security OPS-3).

mod credentials;
mod keys;
mod placeholders;
mod refresh;
mod rows;

use manyhands_protocol::vault::Vault;
use manyhands_protocol::{CredentialId, VaultId, WorkspaceId};

pub use credentials::{CREDENTIALS, CredentialRecord, Inserted, Refusal};
pub(crate) use keys::data_key_of;
pub use keys::{DataKey, Rewrapped};
pub(crate) use placeholders::remove_of_session;
pub use placeholders::{PREFIX, Placeholder};
pub use refresh::Claim;
pub(crate) use rows::{credential_columns, credential_of};

use crate::audit::{self, Act, Action};
use crate::body;
use crate::db::{Lock, Row, Scope, Tx, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::listing::{Query, Range};
use crate::log::json;
use crate::quota::{self, Thing};
use crate::reserve::Purpose;
use crate::store::Store;

impl Store {
    /// Adds a vault.
    pub async fn insert_vault(&self, act: Act, vault: &Vault) -> Result<(), Error> {
        let (services, vault) = (self.inner.services.clone(), vault.clone());
        self.inner
            .db
            .write(Scope::of(vault.id.as_str()), move |tx| {
                Box::pin(async move {
                    quota::one_more(tx, &services, &act.workspace, Thing::Vault).await?;
                    audit::append(tx, &services, &act).await?;
                    let body = json(&vault)?;
                    tx.run(
                        "INSERT INTO vaults (id, workspace, body, checksum, created_at, archived_at)
                         VALUES ($1, $2, $3, $4, $5, $6)",
                        values![
                            vault.id.as_str(),
                            act.workspace.as_str(),
                            body.as_str(),
                            body::checksum(vault.id.as_str(), &body),
                            vault.created_at,
                            vault.archived_at,
                        ],
                    )
                    .await?;
                    failpoint!("store::vault::inserted");
                    Ok(())
                })
            })
            .await
    }

    /// A vault.
    pub async fn vault(
        &self,
        workspace: &WorkspaceId,
        id: &VaultId,
    ) -> Result<Option<Vault>, Error> {
        let values = values![id.as_str(), workspace.as_str()];
        let row = self.inner.db.read_one(SELECT_ONE, values).await?;
        row.as_ref().map(vault_of).transpose()
    }

    /// Changes a vault under its lock; as [`update_agent`](Self::update_agent). The row of the audit log is written when
    /// something changes.
    pub async fn update_vault<R: Send + 'static>(
        &self,
        act: Act,
        id: &VaultId,
        decide: impl FnOnce(&Vault) -> Result<Option<Vault>, R> + Send + 'static,
    ) -> Result<Option<Result<Vault, R>>, Error> {
        let (services, id) = (self.inner.services.clone(), id.clone());
        self.inner
            .db
            .write(Scope::of(id.as_str()), move |tx| {
                Box::pin(async move {
                    let Some(vault) = lock_vault(tx, &act.workspace, &id).await? else {
                        return Ok(None);
                    };
                    let new = match decide(&vault) {
                        Ok(Some(new)) => new,
                        Ok(None) => return Ok(Some(Ok(vault))),
                        Err(refusal) => return Ok(Some(Err(refusal))),
                    };
                    audit::append(tx, &services, &act).await?;
                    write(tx, &new).await?;
                    failpoint!("store::vault::updated");
                    Ok(Some(Ok(new)))
                })
            })
            .await
    }

    /// Archives a vault and all its credentials, whose secrets are gone then (runtime VA-16). Repeating it changes nothing.
    /// `None` when there is no such vault.
    pub async fn archive_vault(&self, act: Act, id: &VaultId) -> Result<Option<Vault>, Error> {
        let (services, id) = (self.inner.services.clone(), id.clone());
        let scope = Scope::of(id.as_str()).with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    let Some(vault) = lock_vault(tx, &act.workspace, &id).await? else {
                        return Ok(None);
                    };
                    if vault.archived_at.is_some() {
                        return Ok(Some(vault));
                    }
                    audit::append(tx, &services, &act).await?;
                    let now = services.clock.now();
                    for record in rows::lock_active(tx, &id).await? {
                        let act = cascaded(&act, Action::CredentialArchive, &record.credential.id);
                        audit::append(tx, &services, &act).await?;
                        rows::archive(tx, record, now).await?;
                    }
                    let archived = Vault {
                        archived_at: Some(now),
                        ..vault
                    };
                    write(tx, &archived).await?;
                    failpoint!("store::vault::archived");
                    Ok(Some(archived))
                })
            })
            .await
    }

    /// Deletes a vault with all its credentials (runtime VA-16); false when there is no such vault.
    pub async fn delete_vault(&self, act: Act, id: &VaultId) -> Result<bool, Error> {
        let (services, id) = (self.inner.services.clone(), id.clone());
        let scope = Scope::of(id.as_str()).with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    // Also one whose body is damaged can be deleted.
                    let values = values![id.as_str(), act.workspace.as_str()];
                    if tx
                        .locked(Lock::Update, SELECT_ONE, values)
                        .await?
                        .is_empty()
                    {
                        return Ok(false);
                    }
                    audit::append(tx, &services, &act).await?;
                    for credential in rows::lock_ids(tx, &id).await? {
                        let act = cascaded(&act, Action::CredentialDelete, &credential);
                        audit::append(tx, &services, &act).await?;
                        rows::delete(tx, &credential).await?;
                    }
                    let sql = "DELETE FROM vaults WHERE id = $1";
                    tx.run(sql, values![id.as_str()]).await?;
                    failpoint!("store::vault::deleted");
                    Ok(true)
                })
            })
            .await
    }

    /// A page of vaults.
    pub async fn list_vaults(
        &self,
        workspace: &WorkspaceId,
        include_archived: bool,
        range: &Range,
    ) -> Result<Vec<Vault>, Error> {
        let mut query = Query::new("SELECT body, id, checksum FROM vaults WHERE workspace = ");
        query.bind(workspace.as_str());
        if !include_archived {
            query.push(" AND archived_at IS NULL");
        }
        query.page("created_at", "id", range);
        let rows = self.inner.db.read(query.sql, query.values).await?;
        rows.iter().map(vault_of).collect()
    }
}

const SELECT_ONE: &str = "SELECT body, id, checksum FROM vaults WHERE id = $1 AND workspace = $2";

/// What is done to a credential because it is done to its vault.
fn cascaded(act: &Act, action: Action, credential: &CredentialId) -> Act {
    Act {
        action,
        credential: Some(credential.clone()),
        ..act.clone()
    }
}

fn vault_of(row: &Row) -> Result<Vault, Error> {
    let id = row.text(1)?;
    let read = || -> Result<Vault, String> {
        let text = body::intact(row, id, 0, 2)?;
        serde_json::from_str(text).map_err(|error| error.to_string())
    };
    read().map_err(|reason| Error::Damaged {
        item: format!("vault {id}"),
        reason,
    })
}

async fn lock_vault(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    id: &VaultId,
) -> Result<Option<Vault>, Error> {
    let values = values![id.as_str(), workspace.as_str()];
    let rows = tx.locked(Lock::Update, SELECT_ONE, values).await?;
    rows.first().map(vault_of).transpose()
}

async fn write(tx: &mut Tx, vault: &Vault) -> Result<(), Error> {
    let body = json(vault)?;
    tx.run(
        "UPDATE vaults SET body = $2, archived_at = $3, checksum = $4 WHERE id = $1",
        values![
            vault.id.as_str(),
            body.as_str(),
            vault.archived_at,
            body::checksum(vault.id.as_str(), &body),
        ],
    )
    .await
}
