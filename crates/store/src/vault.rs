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
use crate::db::{Row, Scope, Tx, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::listing::{Filter, Query, Range};
use crate::log::json;
use crate::quota::{self, Thing};
use crate::reserve::Purpose;
use crate::resource::{Place, Resource, is_locked};
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
        self.find(Place::new(workspace, id.as_str())).await
    }

    /// Changes a vault under its lock; as [`update_agent`](Self::update_agent). The row of the audit log is written when
    /// something changes.
    pub async fn update_vault<R: Send + 'static>(
        &self,
        act: Act,
        id: &VaultId,
        decide: impl FnOnce(&Vault) -> Result<Option<Vault>, R> + Send + 'static,
    ) -> Result<Option<Result<Vault, R>>, Error> {
        let place = Place::new(&act.workspace, id.as_str());
        self.update(place, Some(act), decide).await
    }

    /// Archives a vault and all its credentials, whose secrets are gone then (runtime VA-16). Repeating it changes nothing.
    /// `None` when there is no such vault.
    pub async fn archive_vault(&self, act: Act, id: &VaultId) -> Result<Option<Vault>, Error> {
        let (services, id) = (self.inner.services.clone(), id.clone());
        let place = Place::new(&act.workspace, id.as_str());
        let scope = Scope::of(id.as_str()).with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    let Some(vault) = Vault::lock(tx, &place).await? else {
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
        let place = Place::new(&act.workspace, id.as_str());
        let scope = Scope::of(id.as_str()).with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    if !is_locked::<Vault>(tx, &place).await? {
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
        let query = Query::listed(
            "SELECT body, id, checksum FROM vaults WHERE workspace = ",
            workspace,
            &Filter::archived_too(include_archived),
            range,
        );
        self.inner.db.list(query.sql, query.values, Vault::of).await
    }
}

/// What is done to a credential because it is done to its vault.
fn cascaded(act: &Act, action: Action, credential: &CredentialId) -> Act {
    Act {
        action,
        credential: Some(credential.clone()),
        ..act.clone()
    }
}

impl Resource for Vault {
    const SELECT: &'static str =
        "SELECT body, id, checksum FROM vaults WHERE id = $1 AND workspace = $2";

    fn of(row: &Row) -> Result<Self, Error> {
        body::parsed(row, "vault")
    }

    async fn write(tx: &mut Tx, _: &Place, _: Self, new: Self) -> Result<Self, Error> {
        write(tx, &new).await?;
        failpoint!("store::vault::updated");
        Ok(new)
    }
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
