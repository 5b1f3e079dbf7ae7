//! What an update makes of a credential (api §16.3, runtime VA-5).

use manyhands_protocol::Timestamp;
use manyhands_protocol::patch::Patch;
use manyhands_protocol::vault::{
    CredentialAuth, CredentialAuthParams, OauthRefresh, OauthRefreshParams, TokenEndpointAuth,
};
use manyhands_vault::Field;
use secrecy::SecretString;

use super::checks::{
    check_networking, in_the_future, is_required, merged_location, no_location, optional, secret,
    token, unchanged,
};
use super::{Kind, Secrets};
use crate::api::error::ApiError;

/// The auth after an update, and the secrets it replaces. Null keeps what cannot be absent.
pub(in crate::api::vaults) fn updated(
    current: &CredentialAuth,
    params: CredentialAuthParams,
    now: Timestamp,
) -> Result<(CredentialAuth, Secrets), ApiError> {
    let kind = Kind::of(&params)?;
    if kind.name() != current.type_name() {
        let problem = format!("cannot be changed; it is {}", current.type_name());
        return Err(ApiError::field("auth.type", problem));
    }
    kind.only(&params)?;
    let mut secrets = Secrets::new();
    let mut replace = |field, secret: Option<SecretString>| {
        if let Some(secret) = secret {
            secrets.push((field, secret));
        }
    };
    let next = match current {
        CredentialAuth::McpOauth {
            mcp_server_url,
            expires_at,
            refresh,
        } => {
            unchanged(
                "auth.mcp_server_url",
                &params.mcp_server_url,
                mcp_server_url,
            )?;
            replace(
                Field::AccessToken,
                token("auth.access_token", params.access_token)?,
            );
            if params.expires_at.is_sent() {
                in_the_future(params.expires_at.value().copied(), now)?;
            }
            let refresh = match (refresh, params.refresh) {
                (refresh, Patch::Keep | Patch::Clear) => refresh.clone(),
                (None, Patch::Set(_)) => {
                    return Err(ApiError::field(
                        "auth.refresh",
                        "this credential has none, and cannot get one: make a new credential",
                    ));
                }
                (Some(refresh), Patch::Set(given)) => {
                    Some(updated_refresh(refresh, given, &mut replace)?)
                }
            };
            CredentialAuth::McpOauth {
                mcp_server_url: mcp_server_url.clone(),
                expires_at: params.expires_at.apply(*expires_at),
                refresh,
            }
        }
        CredentialAuth::StaticBearer { mcp_server_url } => {
            unchanged(
                "auth.mcp_server_url",
                &params.mcp_server_url,
                mcp_server_url,
            )?;
            replace(Field::Token, token("auth.token", params.token)?);
            current.clone()
        }
        CredentialAuth::EnvironmentVariable {
            secret_name,
            networking,
            injection_location,
        } => {
            unchanged("auth.secret_name", &params.secret_name, secret_name)?;
            replace(
                Field::SecretValue,
                secret("auth.secret_value", params.secret_value)?,
            );
            let networking = match params.networking {
                Patch::Keep | Patch::Clear => networking.clone(),
                Patch::Set(given) => {
                    check_networking(&given)?;
                    given
                }
            };
            let injection_location = match params.injection_location {
                Patch::Keep => *injection_location,
                Patch::Clear => return Err(no_location()),
                Patch::Set(given) => merged_location(*injection_location, &given)?,
            };
            CredentialAuth::EnvironmentVariable {
                secret_name: secret_name.clone(),
                networking,
                injection_location,
            }
        }
    };
    Ok((next, secrets))
}

fn updated_refresh(
    current: &OauthRefresh,
    params: OauthRefreshParams,
    replace: &mut impl FnMut(Field, Option<SecretString>),
) -> Result<OauthRefresh, ApiError> {
    let at = |name: &str| format!("auth.refresh.{name}");
    unchanged(&at("client_id"), &params.client_id, &current.client_id)?;
    unchanged(
        &at("token_endpoint"),
        &params.token_endpoint,
        &current.token_endpoint,
    )?;
    let resource = current.resource.as_deref().unwrap_or_default();
    unchanged(&at("resource"), &params.resource, resource)?;
    replace(
        Field::RefreshToken,
        secret(&at("refresh_token"), params.refresh_token)?,
    );
    if let Patch::Set(given) = params.token_endpoint_auth {
        match given.kind.as_deref() {
            // It keeps its stored type, whichever of the two is sent (runtime VA-5).
            Some("client_secret_basic" | "client_secret_post") => {}
            Some(_) => {
                return Err(ApiError::field(
                    at("token_endpoint_auth.type"),
                    "expected client_secret_basic or client_secret_post",
                ));
            }
            None => return Err(is_required(at("token_endpoint_auth.type"))),
        }
        if current.token_endpoint_auth == (TokenEndpointAuth::None {}) {
            return Err(ApiError::field(
                at("token_endpoint_auth"),
                "cannot be changed; its type is none",
            ));
        }
        let client_secret = secret(
            &at("token_endpoint_auth.client_secret"),
            given.client_secret,
        )?;
        replace(Field::ClientSecret, client_secret);
    }
    let scope = match params.scope {
        Patch::Keep | Patch::Clear => current.scope.clone(),
        given => optional(at("scope"), given)?,
    };
    Ok(OauthRefresh {
        scope,
        ..current.clone()
    })
}
