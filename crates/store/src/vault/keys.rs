//! The keys that seal secrets, wrapped (security CRED-1). One per workspace; all are wrapped by the master key whose fingerprint
//! is kept here.

use std::collections::BTreeMap;

use manyhands_protocol::WorkspaceId;
use manyhands_protocol::id::DataKeyId;

use crate::audit::{self, Act};
use crate::db::{Lock, Row, Scope, Tx, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::reserve::Purpose;
use crate::store::Store;

/// A key that seals a workspace's secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataKey {
    /// Its id.
    pub id: DataKeyId,
    /// Whose secrets it seals.
    pub workspace: WorkspaceId,
    /// The key, wrapped by the master key.
    pub wrapped: String,
}

/// What became of the wrapping of all keys anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewrapped {
    /// It is done.
    Done,
    /// Another master key is in use than the one that was to be replaced. Nothing is written.
    OtherMaster,
    /// There are other data keys than those that were wrapped anew. Nothing is written: to be tried again.
    OtherKeys,
}

const SELECT: &str = "SELECT id, workspace, wrapped FROM data_keys";
const MASTER: &str = "SELECT fingerprint FROM master_key WHERE slot = 'default'";

impl Store {
    /// The fingerprint of the master key in use; `None` while there never was one.
    pub async fn master_key(&self) -> Result<Option<String>, Error> {
        let row = self.inner.db.read_one(MASTER, Vec::new()).await?;
        row.map(|row| row.text(0).map(str::to_owned)).transpose()
    }

    /// Makes a master key the one in use where there never was one. Gives the one that is in use then.
    pub async fn adopt_master_key(&self, fingerprint: &str) -> Result<String, Error> {
        let fingerprint = fingerprint.to_owned();
        self.inner
            .db
            .write(Scope::of("master key"), move |tx| {
                Box::pin(async move {
                    tx.run(
                        "INSERT INTO master_key (slot, fingerprint) VALUES ('default', $1) ON CONFLICT (slot) DO NOTHING",
                        values![fingerprint.as_str()],
                    )
                    .await?;
                    failpoint!("store::vault::adopted");
                    let row = tx.one(MASTER, Vec::new()).await?;
                    row.map_or(Ok(fingerprint), |row| row.text(0).map(str::to_owned))
                })
            })
            .await
    }

    /// A workspace's key.
    pub async fn data_key(&self, workspace: &WorkspaceId) -> Result<Option<DataKey>, Error> {
        let sql = "SELECT id, workspace, wrapped FROM data_keys WHERE workspace = $1";
        self.inner
            .db
            .find(sql, values![workspace.as_str()], data_key_of)
            .await
    }

    /// Adds a workspace's key, wrapped by the master key with this fingerprint. Gives the one that the workspace has then, which
    /// may be another's; `None`, and nothing is written, when another master key is in use.
    pub async fn insert_data_key(
        &self,
        key: DataKey,
        master: &str,
    ) -> Result<Option<DataKey>, Error> {
        let (services, master) = (self.inner.services.clone(), master.to_owned());
        self.inner
            .db
            .write(Scope::of("master key"), move |tx| {
                Box::pin(async move {
                    if master_in_use(tx).await?.as_deref() != Some(master.as_str()) {
                        return Ok(None);
                    }
                    tx.run(
                        "INSERT INTO data_keys (id, workspace, wrapped, created_at) VALUES ($1, $2, $3, $4)
                         ON CONFLICT (workspace) DO NOTHING",
                        values![
                            key.id.as_str(),
                            key.workspace.as_str(),
                            key.wrapped.as_str(),
                            services.clock.now(),
                        ],
                    )
                    .await?;
                    failpoint!("store::vault::key_inserted");
                    let sql = "SELECT id, workspace, wrapped FROM data_keys WHERE workspace = $1";
                    tx.find(sql, values![key.workspace.as_str()], data_key_of).await
                })
            })
            .await
    }

    /// All keys of all workspaces.
    pub async fn data_keys(&self) -> Result<Vec<DataKey>, Error> {
        self.inner.db.list(SELECT, Vec::new(), data_key_of).await
    }

    /// Puts all keys, wrapped by another master key, in the place of the present ones, and makes that master key the one in use:
    /// one transaction, all or nothing.
    pub async fn replace_master_key(
        &self,
        act: Act,
        old: &str,
        new: &str,
        keys: Vec<DataKey>,
    ) -> Result<Rewrapped, Error> {
        let services = self.inner.services.clone();
        let (old, new) = (old.to_owned(), new.to_owned());
        let scope = Scope::of("master key").with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    if master_in_use(tx).await?.as_deref() != Some(old.as_str()) {
                        return Ok(Rewrapped::OtherMaster);
                    }
                    let mut wrapped: BTreeMap<DataKeyId, String> =
                        keys.into_iter().map(|key| (key.id, key.wrapped)).collect();
                    let present = tx.locked(Lock::Update, SELECT, Vec::new()).await?;
                    if present.len() != wrapped.len() {
                        return Ok(Rewrapped::OtherKeys);
                    }
                    audit::append(tx, &services, &act).await?;
                    for row in &present {
                        let id = data_key_of(row)?.id;
                        let Some(wrapped) = wrapped.remove(&id) else {
                            return Err(Error::Invalid {
                                operation: "replacing the master key",
                                reason: format!("{id} was not wrapped anew"),
                            });
                        };
                        tx.run(
                            "UPDATE data_keys SET wrapped = $2 WHERE id = $1",
                            values![id.as_str(), wrapped.as_str()],
                        )
                        .await?;
                        failpoint!("store::vault::rewrapped");
                    }
                    tx.run(
                        "UPDATE master_key SET fingerprint = $1 WHERE slot = 'default'",
                        values![new.as_str()],
                    )
                    .await?;
                    failpoint!("store::vault::replaced");
                    Ok(Rewrapped::Done)
                })
            })
            .await
    }
}

/// The master key in use, locked: until the end of the transaction nobody replaces it.
async fn master_in_use(tx: &mut Tx) -> Result<Option<String>, Error> {
    let fingerprint = |row: &Row| row.text(0).map(str::to_owned);
    tx.lock(Lock::Update, MASTER, Vec::new(), fingerprint).await
}

/// Reads a key from its columns.
pub(crate) fn data_key_of(row: &Row) -> Result<DataKey, Error> {
    let damaged =
        |reason: String| Error::damaged(format!("data key {}", row.text(0).unwrap_or("?")), reason);
    Ok(DataKey {
        id: DataKeyId::parse(row.text(0)?).map_err(|error| damaged(error.to_string()))?,
        workspace: WorkspaceId::parse(row.text(1)?).map_err(|error| damaged(error.to_string()))?,
        wrapped: row.text(2)?.to_owned(),
    })
}
