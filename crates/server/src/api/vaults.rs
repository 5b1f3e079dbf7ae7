//! Vaults (api §16.1, runtime VA-1, VA-16), and the credentials in them.

mod auth;
pub(crate) mod credentials;
pub(crate) mod validate;

use std::time::Duration;

use axum::Json as Reply;
use axum::extract::State;
use manyhands_protocol::page::{Order, Page};
use manyhands_protocol::vault::{Vault, VaultCreateParams, VaultDeleted, VaultUpdateParams};
use manyhands_protocol::{Timestamp, VaultId};
use manyhands_store::audit::{Act, Action, Actor};

use crate::api::agents::definition;
use crate::api::auth::Principal;
use crate::api::cursor::Paging;
use crate::api::error::ApiError;
use crate::api::json::SecretJson;
use crate::api::query::{Ids, Query};
use crate::app::App;

const NAME: usize = 255;
/// How soon a client may come back to sealed vaults.
const SEALED: Duration = Duration::from_secs(60);
/// How soon a client may come back when the key service does not answer.
const SILENT: Duration = Duration::from_secs(5);

/// What the caller does, for the audit log (security OPS-3).
fn act(principal: &Principal, action: Action) -> Act {
    Act::new(
        &principal.workspace,
        Actor::Key(principal.key.clone()),
        action,
    )
}

/// `POST /v1/vaults`
pub(crate) async fn create_vault(
    State(app): State<App>,
    principal: Principal,
    SecretJson(params): SecretJson<VaultCreateParams>,
) -> Result<Reply<Vault>, ApiError> {
    definition::text("display_name", &params.display_name, 1, NAME)?;
    let now = app.now();
    let vault = Vault {
        id: VaultId::generate(),
        kind: Default::default(),
        display_name: params.display_name,
        metadata: definition::metadata(params.metadata.unwrap_or_default())?,
        created_at: now,
        updated_at: now,
        archived_at: None,
    };
    let act = act(&principal, Action::VaultCreate).to_vault(&vault.id);
    app.store.insert_vault(act, &vault).await?;
    Ok(Reply(vault))
}

/// `GET /v1/vaults/{vault_id}`
pub(crate) async fn retrieve_vault(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<Vault>, ApiError> {
    let vault = app.store.vault(&principal.workspace, &ids.vault()?).await?;
    vault.map(Reply).ok_or_else(|| ApiError::not_found("vault"))
}

/// `POST /v1/vaults/{vault_id}`
pub(crate) async fn update_vault(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    SecretJson(params): SecretJson<VaultUpdateParams>,
) -> Result<Reply<Vault>, ApiError> {
    let (id, now) = (ids.vault()?, app.now());
    let act = act(&principal, Action::VaultUpdate).to_vault(&id);
    let updated = app
        .store
        .update_vault(act, &id, move |current| updated(current, params, now))
        .await?;
    updated
        .ok_or_else(|| ApiError::not_found("vault"))?
        .map(Reply)
}

/// The vault after an update, or `None` when nothing changes.
fn updated(
    current: &Vault,
    params: VaultUpdateParams,
    now: Timestamp,
) -> Result<Option<Vault>, ApiError> {
    if current.archived_at.is_some() {
        return Err(archived());
    }
    let display_name = params
        .display_name
        .unwrap_or_else(|| current.display_name.clone());
    definition::text("display_name", &display_name, 1, NAME)?;
    let metadata =
        definition::merge_metadata(&current.metadata, params.metadata.unwrap_or_default())?;
    let next = Vault {
        display_name,
        metadata,
        ..current.clone()
    };
    Ok((next != *current).then_some(Vault {
        updated_at: now,
        ..next
    }))
}

fn archived() -> ApiError {
    ApiError::invalid("the vault is archived and can no longer be changed")
}

/// `GET /v1/vaults`: newest first.
pub(crate) async fn list_vaults(
    State(app): State<App>,
    principal: Principal,
    query: Query,
) -> Result<Reply<Page<Vault>>, ApiError> {
    let archived = query.flag("include_archived")?;
    let paging = Paging::read("vaults", &query, Order::Desc, (20, 100))?;
    let found = app
        .store
        .list_vaults(&principal.workspace, archived, &paging.range())
        .await?;
    Ok(Reply(paging.page(found, |vault| {
        (vault.created_at, vault.id.to_string())
    })))
}

/// `DELETE /v1/vaults/{vault_id}`: for good, with all its credentials (runtime VA-16).
pub(crate) async fn delete_vault(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<VaultDeleted>, ApiError> {
    let id = ids.vault()?;
    let act = act(&principal, Action::VaultDelete).to_vault(&id);
    if !app.store.delete_vault(act, &id).await? {
        return Err(ApiError::not_found("vault"));
    }
    Ok(Reply(VaultDeleted {
        id,
        kind: Default::default(),
    }))
}

/// `POST /v1/vaults/{vault_id}/archive`: its credentials lose their secrets (runtime VA-16). Repeating it changes nothing.
pub(crate) async fn archive_vault(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<Vault>, ApiError> {
    let id = ids.vault()?;
    let act = act(&principal, Action::VaultArchive).to_vault(&id);
    let archived = app.store.archive_vault(act, &id).await?;
    archived
        .map(Reply)
        .ok_or_else(|| ApiError::not_found("vault"))
}

impl From<manyhands_vault::Error> for ApiError {
    fn from(error: manyhands_vault::Error) -> Self {
        use manyhands_vault::Error as Vault;
        match error {
            Vault::Store(error) => error.into(),
            Vault::Sealed { why } => {
                tracing::warn!(why, "a request needs the vaults, which are sealed");
                let message = "the vaults are sealed: this server does not have the master key of their secrets";
                Self::unavailable(message, SEALED)
            }
            Vault::Unavailable { .. } => {
                tracing::warn!(%error, "a request needs the key service");
                Self::unavailable("the key service does not answer", SILENT)
            }
            Vault::Damaged { ref item, .. } => {
                tracing::error!(%error, "a stored secret is damaged");
                Self::damaged(item)
            }
            Vault::NotSealed(manyhands_vault::seal::NotSealed::Long) => {
                Self::invalid(error.to_string())
            }
            Vault::NotSealed(manyhands_vault::seal::NotSealed::NoRandomness) => {
                tracing::error!(%error, "a secret cannot be sealed");
                Self::internal()
            }
        }
    }
}
