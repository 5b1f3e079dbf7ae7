//! What a credential may be, by its kind: checked, completed and merged (api §16.2, §16.3, runtime VA-2, VA-4, VA-5, VA-10,
//! VA-11). Pure. No refusal quotes what was sent: it may be a secret in the wrong place (security CRED-2).

mod checks;
mod update;

use manyhands_protocol::Timestamp;
use manyhands_protocol::patch::Patch;
use manyhands_protocol::vault::{
    CredentialAuth, CredentialAuthParams, InjectionLocation, OauthRefresh, OauthRefreshParams,
    TokenEndpointAuth, TokenEndpointAuthParams,
};
use manyhands_vault::Field;
use secrecy::SecretString;

use self::checks::{
    check_networking, in_the_future, is_required, merged_location, no_location, optional,
    plain_text, required, required_secret, secret, server_url, token, variable_name,
};
pub(super) use self::update::updated;
use crate::api::error::ApiError;

/// Secrets that a request brings, by their fields.
pub(super) type Secrets = Vec<(Field, SecretString)>;

/// What a new credential consists of.
#[derive(Debug)]
pub(super) struct Given {
    /// As shown.
    pub(super) auth: CredentialAuth,
    /// What it is found by.
    pub(super) key: String,
    /// Its secrets.
    pub(super) secrets: Secrets,
}

/// What is unique among a vault's active credentials, by the member's name.
pub(super) fn key_name(auth: &CredentialAuth) -> &'static str {
    match auth {
        CredentialAuth::McpOauth { .. } | CredentialAuth::StaticBearer { .. } => "mcp_server_url",
        CredentialAuth::EnvironmentVariable { .. } => "secret_name",
    }
}

/// The auth of a new credential.
pub(super) fn created(params: CredentialAuthParams, now: Timestamp) -> Result<Given, ApiError> {
    let kind = Kind::of(&params)?;
    kind.only(&params)?;
    match kind {
        Kind::McpOauth => {
            let mcp_server_url = required("auth.mcp_server_url", params.mcp_server_url)?;
            let url = server_url("auth.mcp_server_url", &mcp_server_url)?;
            let access = token("auth.access_token", params.access_token)?;
            let mut secrets = vec![(
                Field::AccessToken,
                required_secret("auth.access_token", access)?,
            )];
            let refresh = match params.refresh {
                Patch::Set(refresh) => Some(created_refresh(refresh, &mut secrets)?),
                Patch::Keep | Patch::Clear => None,
            };
            let expires_at = params.expires_at.apply(None);
            in_the_future(expires_at, now)?;
            Ok(Given {
                auth: CredentialAuth::McpOauth {
                    mcp_server_url,
                    expires_at,
                    refresh,
                },
                key: url.key(),
                secrets,
            })
        }
        Kind::StaticBearer => {
            let mcp_server_url = required("auth.mcp_server_url", params.mcp_server_url)?;
            let url = server_url("auth.mcp_server_url", &mcp_server_url)?;
            let bearer = required_secret("auth.token", token("auth.token", params.token)?)?;
            Ok(Given {
                auth: CredentialAuth::StaticBearer { mcp_server_url },
                key: url.key(),
                secrets: vec![(Field::Token, bearer)],
            })
        }
        Kind::EnvironmentVariable => {
            let secret_name = required("auth.secret_name", params.secret_name)?;
            variable_name(&secret_name)?;
            let value = secret("auth.secret_value", params.secret_value)?;
            let value = required_secret("auth.secret_value", value)?;
            let networking = required("auth.networking", params.networking)?;
            check_networking(&networking)?;
            let injection_location = match params.injection_location {
                Patch::Keep => InjectionLocation {
                    body: true,
                    header: true,
                },
                Patch::Clear => return Err(no_location()),
                Patch::Set(given) => merged_location(
                    InjectionLocation {
                        body: false,
                        header: false,
                    },
                    &given,
                )?,
            };
            let key = format!("env {secret_name}");
            Ok(Given {
                auth: CredentialAuth::EnvironmentVariable {
                    secret_name,
                    networking,
                    injection_location,
                },
                key,
                secrets: vec![(Field::SecretValue, value)],
            })
        }
    }
}

fn created_refresh(
    params: OauthRefreshParams,
    secrets: &mut Secrets,
) -> Result<OauthRefresh, ApiError> {
    let at = |name: &str| format!("auth.refresh.{name}");
    let client_id = required(at("client_id"), params.client_id)?;
    plain_text(&at("client_id"), &client_id)?;
    let refresh_token = secret(&at("refresh_token"), params.refresh_token)?;
    let refresh_token = required_secret(&at("refresh_token"), refresh_token)?;
    secrets.push((Field::RefreshToken, refresh_token));
    let token_endpoint = required(at("token_endpoint"), params.token_endpoint)?;
    server_url(&at("token_endpoint"), &token_endpoint)?;
    let given = required(at("token_endpoint_auth"), params.token_endpoint_auth)?;
    let TokenEndpointAuthParams {
        kind,
        client_secret,
    } = given;
    let client_secret = secret(&at("token_endpoint_auth.client_secret"), client_secret)?;
    let token_endpoint_auth = match kind.as_deref() {
        Some("none") => TokenEndpointAuth::None {},
        Some("client_secret_basic") => TokenEndpointAuth::ClientSecretBasic {},
        Some("client_secret_post") => TokenEndpointAuth::ClientSecretPost {},
        Some(_) => {
            return Err(ApiError::field(
                at("token_endpoint_auth.type"),
                "expected none, client_secret_basic or client_secret_post",
            ));
        }
        None => return Err(is_required(at("token_endpoint_auth.type"))),
    };
    match (token_endpoint_auth, client_secret) {
        (TokenEndpointAuth::None {}, None) => {}
        (TokenEndpointAuth::None {}, Some(_)) => {
            return Err(ApiError::field(
                at("token_endpoint_auth.client_secret"),
                "does not belong to the type none",
            ));
        }
        (_, Some(client_secret)) => secrets.push((Field::ClientSecret, client_secret)),
        (_, None) => return Err(is_required(at("token_endpoint_auth.client_secret"))),
    }
    Ok(OauthRefresh {
        client_id,
        token_endpoint,
        token_endpoint_auth,
        resource: optional(at("resource"), params.resource)?,
        scope: optional(at("scope"), params.scope)?,
    })
}

/// The kinds of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    McpOauth,
    StaticBearer,
    EnvironmentVariable,
}

impl Kind {
    fn of(params: &CredentialAuthParams) -> Result<Self, ApiError> {
        let all = [
            Self::McpOauth,
            Self::StaticBearer,
            Self::EnvironmentVariable,
        ];
        let given = params.kind.as_deref();
        let given = given.ok_or_else(|| is_required("auth.type"))?;
        let known = all.into_iter().find(|kind| kind.name() == given);
        known.ok_or_else(|| {
            ApiError::field(
                "auth.type",
                "expected mcp_oauth, static_bearer or environment_variable",
            )
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::McpOauth => "mcp_oauth",
            Self::StaticBearer => "static_bearer",
            Self::EnvironmentVariable => "environment_variable",
        }
    }

    /// Refuses members of another kind: a secret in the wrong one would be lost without a word.
    fn only(self, params: &CredentialAuthParams) -> Result<(), ApiError> {
        use Kind::{EnvironmentVariable, McpOauth, StaticBearer};
        let members: [(&str, bool, &[Kind]); 9] = [
            (
                "mcp_server_url",
                params.mcp_server_url.is_sent(),
                &[McpOauth, StaticBearer],
            ),
            ("access_token", params.access_token.is_sent(), &[McpOauth]),
            ("expires_at", params.expires_at.is_sent(), &[McpOauth]),
            ("refresh", params.refresh.is_sent(), &[McpOauth]),
            ("token", params.token.is_sent(), &[StaticBearer]),
            (
                "secret_name",
                params.secret_name.is_sent(),
                &[EnvironmentVariable],
            ),
            (
                "secret_value",
                params.secret_value.is_sent(),
                &[EnvironmentVariable],
            ),
            (
                "networking",
                params.networking.is_sent(),
                &[EnvironmentVariable],
            ),
            (
                "injection_location",
                params.injection_location.is_sent(),
                &[EnvironmentVariable],
            ),
        ];
        for (name, sent, kinds) in members {
            if sent && !kinds.contains(&self) {
                let problem = format!("does not belong to {}", self.name());
                return Err(ApiError::field(format!("auth.{name}"), problem));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
