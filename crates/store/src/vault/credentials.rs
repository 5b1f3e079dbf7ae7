//! Credentials: what is shown of them, and their secrets, sealed.

use std::collections::BTreeMap;

use manyhands_protocol::vault::{Credential, Vault};
use manyhands_protocol::{CredentialId, Timestamp, VaultId, WorkspaceId};
use serde::{Deserialize, Serialize};

use super::rows::{archive, credential_columns, credential_of, delete, insert};
use crate::audit::{self, Act};
use crate::db::{Row, Scope, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::listing::{Query, Range};
use crate::reserve::Purpose;
use crate::resource::{Place, Resource, is_locked};
use crate::store::Store;

/// How many active credentials a vault may have (runtime VA-1).
pub const CREDENTIALS: usize = 20;

/// A credential's row.
#[derive(Clone, Debug, PartialEq)]
pub struct CredentialRecord {
    /// Whose it is.
    pub workspace: WorkspaceId,
    /// As shown in responses.
    pub credential: Credential,
    /// What it is found by: of the active ones in a vault no two have the same.
    pub key: String,
    /// Its secrets by the names of their fields, each sealed. None once it is archived.
    pub secrets: BTreeMap<String, String>,
    /// Whether, and why, whoever gave it no longer takes it.
    pub refused: Option<Refusal>,
    /// Goes up with every change.
    pub generation: i64,
    /// Until when somebody refreshes it.
    pub refreshing_until: Option<Timestamp>,
}

/// That a credential is no longer taken: until a client changes it, nobody need try it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Since when.
    pub at: Timestamp,
    /// Why, in short and without anything secret, such as `invalid_grant`.
    pub reason: String,
}

/// What became of a credential that was to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is there.
    Done,
    /// There is no such vault.
    NoVault,
    /// The vault is archived.
    Archived,
    /// The vault has [`CREDENTIALS`] already.
    Full,
    /// An active credential of the vault has the same key.
    Taken,
}

impl Store {
    /// Adds a credential to its vault, whose limits hold at once for all who add. Nothing is written unless it is done.
    pub async fn insert_credential(
        &self,
        act: Act,
        record: CredentialRecord,
    ) -> Result<Inserted, Error> {
        let services = self.inner.services.clone();
        let scope = Scope::of(record.credential.vault_id.as_str());
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    let vault_id = record.credential.vault_id.clone();
                    let place = Place::new(&record.workspace, vault_id.as_str());
                    let Some(vault) = Vault::lock(tx, &place).await? else {
                        return Ok(Inserted::NoVault);
                    };
                    if vault.archived_at.is_some() {
                        return Ok(Inserted::Archived);
                    }
                    let active = tx
                        .all(
                            "SELECT match_key FROM credentials WHERE vault_id = $1 AND archived_at IS NULL",
                            values![vault_id.as_str()],
                        )
                        .await?;
                    for row in &active {
                        if row.text(0)? == record.key {
                            return Ok(Inserted::Taken);
                        }
                    }
                    if active.len() >= CREDENTIALS {
                        return Ok(Inserted::Full);
                    }
                    audit::append(tx, &services, &act).await?;
                    insert(tx, record).await?;
                    failpoint!("store::credential::inserted");
                    Ok(Inserted::Done)
                })
            })
            .await
    }

    /// A credential.
    pub async fn credential(
        &self,
        workspace: &WorkspaceId,
        vault: &VaultId,
        id: &CredentialId,
    ) -> Result<Option<CredentialRecord>, Error> {
        self.find(place_of(workspace, vault, id)).await
    }

    /// Changes a credential under its lock; as [`update_agent`](Self::update_agent). Its key and its vault stay as they are.
    /// The generation goes up; who refreshes it has lost that right when its secrets change. The row of the audit log is
    /// written when something changes.
    pub async fn update_credential<R: Send + 'static>(
        &self,
        act: Act,
        vault: &VaultId,
        id: &CredentialId,
        decide: impl FnOnce(&CredentialRecord) -> Result<Option<CredentialRecord>, R> + Send + 'static,
    ) -> Result<Option<Result<CredentialRecord, R>>, Error> {
        let place = place_of(&act.workspace, vault, id);
        self.update(place, Some(act), decide).await
    }

    /// Archives a credential, whose secrets are gone and whose key is free then (runtime VA-16). Repeating it changes nothing.
    /// `None` when there is no such credential.
    pub async fn archive_credential(
        &self,
        act: Act,
        vault: &VaultId,
        id: &CredentialId,
    ) -> Result<Option<Credential>, Error> {
        let services = self.inner.services.clone();
        let place = place_of(&act.workspace, vault, id);
        let scope = Scope::of(id.as_str()).with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    let Some(record) = CredentialRecord::lock(tx, &place).await? else {
                        return Ok(None);
                    };
                    if record.credential.archived_at.is_some() {
                        return Ok(Some(record.credential));
                    }
                    audit::append(tx, &services, &act).await?;
                    let archived = archive(tx, record, services.clock.now()).await?;
                    failpoint!("store::credential::archived");
                    Ok(Some(archived.credential))
                })
            })
            .await
    }

    /// Deletes a credential; false when there is no such credential.
    pub async fn delete_credential(
        &self,
        act: Act,
        vault: &VaultId,
        id: &CredentialId,
    ) -> Result<bool, Error> {
        let services = self.inner.services.clone();
        let (place, id) = (place_of(&act.workspace, vault, id), id.clone());
        let scope = Scope::of(id.as_str()).with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    if !is_locked::<CredentialRecord>(tx, &place).await? {
                        return Ok(false);
                    }
                    audit::append(tx, &services, &act).await?;
                    delete(tx, &id).await?;
                    failpoint!("store::credential::deleted");
                    Ok(true)
                })
            })
            .await
    }

    /// A page of a vault's credentials.
    pub async fn list_credentials(
        &self,
        workspace: &WorkspaceId,
        vault: &VaultId,
        include_archived: bool,
        range: &Range,
    ) -> Result<Vec<Credential>, Error> {
        let mut query = Query::new(concat!(
            "SELECT ",
            credential_columns!(),
            " FROM credentials c WHERE c.vault_id = "
        ));
        query.bind(vault.as_str());
        query.and("c.workspace = ", workspace.as_str());
        if !include_archived {
            query.push(" AND c.archived_at IS NULL");
        }
        query.page("c.created_at", "c.id", range);
        let shown = |row: &Row| credential_of(row).map(|record| record.credential);
        self.inner.db.list(query.sql, query.values, shown).await
    }

    /// The active credential with this key in the first of these vaults that has one (runtime VA-8, MC-6).
    pub async fn first_credential(
        &self,
        workspace: &WorkspaceId,
        vaults: &[VaultId],
        key: &str,
    ) -> Result<Option<CredentialRecord>, Error> {
        let mut query = active(workspace, vaults);
        query.and("c.match_key = ", key);
        let found = self.in_order(query, vaults).await?;
        Ok(found.into_iter().next())
    }

    /// The active credentials of these vaults whose keys begin with `kind` (ASCII, four characters), in the order of the vaults.
    pub(super) async fn active_credentials(
        &self,
        workspace: &WorkspaceId,
        vaults: &[VaultId],
        kind: &str,
    ) -> Result<Vec<CredentialRecord>, Error> {
        let mut query = active(workspace, vaults);
        query.and("substr(c.match_key, 1, 4) = ", kind);
        self.in_order(query, vaults).await
    }

    async fn in_order(
        &self,
        query: Query,
        vaults: &[VaultId],
    ) -> Result<Vec<CredentialRecord>, Error> {
        if vaults.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = self
            .inner
            .db
            .list(query.sql, query.values, credential_of)
            .await?;
        let place = |record: &CredentialRecord| {
            let vault = &record.credential.vault_id;
            vaults.iter().position(|known| known == vault)
        };
        found.sort_by_key(place);
        Ok(found)
    }
}

fn active(workspace: &WorkspaceId, vaults: &[VaultId]) -> Query {
    let mut query = Query::new(concat!(
        "SELECT ",
        credential_columns!(),
        " FROM credentials c WHERE c.archived_at IS NULL AND c.workspace = "
    ));
    query.bind(workspace.as_str());
    query.and_in("c.vault_id", vaults.iter().map(VaultId::as_str));
    query
}

fn place_of(workspace: &WorkspaceId, vault: &VaultId, id: &CredentialId) -> Place {
    Place::new(workspace, id.as_str()).within(vault.as_str())
}
