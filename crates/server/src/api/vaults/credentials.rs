//! The credentials of a vault (api §16.2 to §16.4, runtime VA-2 to VA-5, VA-16). Their secrets come in and never go out.

use std::collections::BTreeMap;

use axum::Json as Reply;
use axum::extract::State;
use manyhands_protocol::page::{Order, Page};
use manyhands_protocol::vault::{
    Credential, CredentialCreateParams, CredentialDeleted, CredentialUpdateParams,
};
use manyhands_protocol::{CredentialId, Timestamp, VaultId, WorkspaceId};
use manyhands_store::audit::{Act, Action};
use manyhands_store::vault::{CREDENTIALS, CredentialRecord, Inserted};
use manyhands_vault::Sealer;

use super::auth::{self, Secrets};
use super::{NAME, act};
use crate::api::agents::definition;
use crate::api::auth::Principal;
use crate::api::cursor::Paging;
use crate::api::error::ApiError;
use crate::api::json::SecretJson;
use crate::api::query::{Ids, Query};
use crate::app::App;

/// `POST /v1/vaults/{vault_id}/credentials`: stored as it is; whether it works is not asked (runtime VA-4).
pub(crate) async fn create_credential(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    SecretJson(params): SecretJson<CredentialCreateParams>,
) -> Result<Reply<Credential>, ApiError> {
    let (vault_id, now) = (ids.vault()?, app.now());
    let given = auth::created(params.auth, now)?;
    if let Some(name) = &params.display_name {
        definition::text("display_name", name, 0, NAME)?;
    }
    let credential = Credential {
        id: CredentialId::generate(),
        kind: Default::default(),
        vault_id,
        display_name: params.display_name,
        auth: given.auth,
        metadata: definition::metadata(params.metadata.unwrap_or_default())?,
        created_at: now,
        updated_at: now,
        archived_at: None,
    };
    let sealer = app.vaults.sealer(&principal.workspace).await?;
    let secrets = sealed(&sealer, &principal.workspace, &credential, given.secrets)?;
    let record = CredentialRecord {
        workspace: principal.workspace.clone(),
        credential: credential.clone(),
        key: given.key,
        secrets,
        refused: None,
        generation: 0,
        refreshing_until: None,
    };
    let act = act(&principal, Action::CredentialCreate)
        .to_credential(&credential.vault_id, &credential.id);
    match app.store.insert_credential(act, record).await? {
        Inserted::Done => Ok(Reply(credential)),
        Inserted::NoVault => Err(ApiError::not_found("vault")),
        Inserted::Archived => Err(super::archived()),
        Inserted::Full => Err(ApiError::invalid(format!(
            "the vault has {CREDENTIALS} credentials, and no vault has more: archive one, or use another vault"
        ))),
        Inserted::Taken => Err(ApiError::conflict(format!(
            "the vault has an active credential with the same {}: update or archive that one",
            auth::key_name(&credential.auth)
        ))),
    }
}

/// `GET /v1/vaults/{vault_id}/credentials/{credential_id}`
pub(crate) async fn retrieve_credential(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<Credential>, ApiError> {
    let (vault, id) = (ids.vault()?, ids.credential()?);
    app.vaults.require_open().await?;
    let found = app.store.credential(&principal.workspace, &vault, &id);
    let found = found.await?.ok_or_else(missing)?;
    Ok(Reply(found.credential))
}

/// `POST /v1/vaults/{vault_id}/credentials/{credential_id}`
pub(crate) async fn update_credential(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    SecretJson(params): SecretJson<CredentialUpdateParams>,
) -> Result<Reply<Credential>, ApiError> {
    let (vault, id, now) = (ids.vault()?, ids.credential()?, app.now());
    let sealer = app.vaults.sealer(&principal.workspace).await?;
    let act = act(&principal, Action::CredentialUpdate).to_credential(&vault, &id);
    let updated = app
        .store
        .update_credential(act, &vault, &id, move |current| {
            updated(current, params, &sealer, now)
        })
        .await?;
    let updated = updated.ok_or_else(missing)??;
    Ok(Reply(updated.credential))
}

/// The credential after an update (runtime VA-5), or `None` when nothing changes.
fn updated(
    current: &CredentialRecord,
    params: CredentialUpdateParams,
    sealer: &Sealer,
    now: Timestamp,
) -> Result<Option<CredentialRecord>, ApiError> {
    if current.credential.archived_at.is_some() {
        return Err(ApiError::invalid(
            "the credential is archived and can no longer be changed",
        ));
    }
    let (auth, secrets) = match params.auth {
        Some(given) => auth::updated(&current.credential.auth, given, now)?,
        None => (current.credential.auth.clone(), Secrets::new()),
    };
    if let Some(name) = params.display_name.value() {
        definition::text("display_name", name, 1, NAME)?;
    }
    let shown = &current.credential;
    let next = Credential {
        auth,
        display_name: params.display_name.apply(shown.display_name.clone()),
        metadata: definition::merge_metadata(&shown.metadata, params.metadata.unwrap_or_default())?,
        ..shown.clone()
    };
    if next == *shown && secrets.is_empty() {
        return Ok(None);
    }
    let refused = match secrets.is_empty() {
        true => current.refused.clone(),
        // Whoever refused the old secret has not seen the new one.
        false => None,
    };
    let mut all = current.secrets.clone();
    all.extend(sealed(sealer, &current.workspace, &next, secrets)?);
    Ok(Some(CredentialRecord {
        credential: Credential {
            updated_at: now,
            ..next
        },
        secrets: all,
        refused,
        ..current.clone()
    }))
}

/// `GET /v1/vaults/{vault_id}/credentials`: newest first.
pub(crate) async fn list_credentials(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    query: Query,
) -> Result<Reply<Page<Credential>>, ApiError> {
    let archived = query.flag("include_archived")?;
    let paging = Paging::read("credentials", &query, Order::Desc, (20, 100))?;
    let vault = ids.vault()?;
    app.vaults.require_open().await?;
    let known = app.store.vault(&principal.workspace, &vault).await?;
    known.ok_or_else(|| ApiError::not_found("vault"))?;
    let found = app
        .store
        .list_credentials(&principal.workspace, &vault, archived, &paging.range())
        .await?;
    Ok(Reply(paging.page(found, |credential| {
        (credential.created_at, credential.id.to_string())
    })))
}

/// Which credential a request ends, and what it does for the audit log; refused while the vaults are sealed.
async fn ended(
    app: &App,
    principal: &Principal,
    ids: &Ids,
    action: Action,
) -> Result<(VaultId, CredentialId, Act), ApiError> {
    let (vault, id) = (ids.vault()?, ids.credential()?);
    app.vaults.require_open().await?;
    let act = act(principal, action).to_credential(&vault, &id);
    Ok((vault, id, act))
}

/// `DELETE /v1/vaults/{vault_id}/credentials/{credential_id}`: for good (runtime VA-16).
pub(crate) async fn delete_credential(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<CredentialDeleted>, ApiError> {
    let (vault, id, act) = ended(&app, &principal, &ids, Action::CredentialDelete).await?;
    if !app.store.delete_credential(act, &vault, &id).await? {
        return Err(missing());
    }
    Ok(Reply(CredentialDeleted {
        id,
        kind: Default::default(),
    }))
}

/// `POST /v1/vaults/{vault_id}/credentials/{credential_id}/archive`: the secrets go, the record stays, the key is free
/// (runtime VA-16). Repeating it changes nothing.
pub(crate) async fn archive_credential(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<Credential>, ApiError> {
    let (vault, id, act) = ended(&app, &principal, &ids, Action::CredentialArchive).await?;
    let archived = app.store.archive_credential(act, &vault, &id).await?;
    archived.map(Reply).ok_or_else(missing)
}

pub(super) fn missing() -> ApiError {
    ApiError::not_found("credential")
}

fn sealed(
    sealer: &Sealer,
    workspace: &WorkspaceId,
    credential: &Credential,
    secrets: Secrets,
) -> Result<BTreeMap<String, String>, ApiError> {
    let seal = |(field, secret)| {
        let sealed = sealer.seal_field(workspace, credential, field, &secret)?;
        Ok((field.as_str().to_owned(), sealed))
    };
    secrets.into_iter().map(seal).collect()
}
