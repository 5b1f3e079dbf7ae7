//! What a credential may be, by its kind: checked, completed and merged (api §16.2, §16.3, runtime VA-2, VA-4, VA-5, VA-10,
//! VA-11). Pure. No refusal quotes what was sent: it may be a secret in the wrong place (security CRED-2).

use std::net::Ipv4Addr;

use manyhands_egress::host::Pattern;
use manyhands_protocol::Timestamp;
use manyhands_protocol::patch::Patch;
use manyhands_protocol::vault::{
    CredentialAuth, CredentialAuthParams, CredentialNetworking, InjectionLocation,
    InjectionLocationParams, OauthRefresh, OauthRefreshParams, TokenEndpointAuth,
    TokenEndpointAuthParams,
};
use manyhands_vault::seal::LONGEST;
use manyhands_vault::{Field, ServerUrl};
use secrecy::{ExposeSecret as _, SecretString};

use crate::api::error::ApiError;

/// Secrets that a request brings, by their fields.
pub(super) type Secrets = Vec<(Field, SecretString)>;

/// How many hosts a credential may list (runtime VA-10).
const HOSTS: usize = 16;
/// The longest text that is no secret: a client's id, a scope, a resource.
const TEXT: usize = 2048;
/// The longest name of a variable.
const NAME: usize = 255;

/// Variables that a sandbox has of its own, or that change what its programs load or where they connect to.
const RESERVED: [&str; 17] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "PWD",
    "OLDPWD",
    "IFS",
    "ENV",
    "BASH_ENV",
    "TMPDIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

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

/// The auth after an update, and the secrets it replaces. Null keeps what cannot be absent.
pub(super) fn updated(
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

fn is_required(at: impl AsRef<str>) -> ApiError {
    ApiError::field(at, "is required")
}

fn required<T>(at: impl AsRef<str>, given: Patch<T>) -> Result<T, ApiError> {
    match given {
        Patch::Set(value) => Ok(value),
        Patch::Keep | Patch::Clear => Err(is_required(at)),
    }
}

fn required_secret(at: &str, given: Option<SecretString>) -> Result<SecretString, ApiError> {
    given.ok_or_else(|| is_required(at))
}

/// A secret that is sent, of a length that can be kept.
fn secret(at: &str, given: Patch<SecretString>) -> Result<Option<SecretString>, ApiError> {
    let Patch::Set(given) = given else {
        return Ok(None);
    };
    match given.expose_secret().len() {
        0 => Err(ApiError::field(at, "must not be empty")),
        1..=LONGEST => Ok(Some(given)),
        _ => Err(ApiError::field(
            at,
            format!("has more than {LONGEST} bytes"),
        )),
    }
}

/// A secret that goes into a header as it is.
fn token(at: &str, given: Patch<SecretString>) -> Result<Option<SecretString>, ApiError> {
    let given = secret(at, given)?;
    let fits = |text: &SecretString| {
        let bytes = text.expose_secret().as_bytes();
        bytes.iter().all(|byte| matches!(byte, b'!'..=b'~'))
    };
    if given.as_ref().is_some_and(|given| !fits(given)) {
        return Err(ApiError::field(
            at,
            "has a space or another character that no token in a header has",
        ));
    }
    Ok(given)
}

fn plain_text(at: &str, text: &str) -> Result<(), ApiError> {
    if text.is_empty() {
        return Err(ApiError::field(at, "must not be empty"));
    }
    if text.chars().count() > TEXT || text.chars().any(char::is_control) {
        let problem = format!("must have at most {TEXT} characters and no control character");
        return Err(ApiError::field(at, problem));
    }
    Ok(())
}

/// A text that may be absent, as an empty one counts.
fn optional(at: String, given: Patch<String>) -> Result<Option<String>, ApiError> {
    let given = given.apply(None).filter(|text| !text.is_empty());
    if let Some(text) = &given {
        plain_text(&at, text)?;
    }
    Ok(given)
}

fn server_url(at: &str, text: &str) -> Result<ServerUrl, ApiError> {
    ServerUrl::parse(text).map_err(|error| ApiError::field(at, error.to_string()))
}

/// A member that an update may repeat and not change.
fn unchanged(at: &str, given: &Patch<String>, current: &str) -> Result<(), ApiError> {
    match given {
        Patch::Keep => Ok(()),
        Patch::Set(given) if given == current => Ok(()),
        Patch::Set(_) | Patch::Clear => Err(ApiError::field(at, "cannot be changed")),
    }
}

fn in_the_future(expires_at: Option<Timestamp>, now: Timestamp) -> Result<(), ApiError> {
    match expires_at {
        Some(at) if at <= now => Err(ApiError::field("auth.expires_at", "must be in the future")),
        _ => Ok(()),
    }
}

fn variable_name(name: &str) -> Result<(), ApiError> {
    let refuse = |problem: &str| Err(ApiError::field("auth.secret_name", problem));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let begins = name
        .bytes()
        .next()
        .is_some_and(|byte| !byte.is_ascii_digit());
    if !begins || name.len() > NAME || !name.bytes().all(plain) {
        return refuse(
            "must be a variable's name: 1 to 255 letters, digits and underscores, and no digit first",
        );
    }
    let upper = name.to_ascii_uppercase();
    if RESERVED.contains(&upper.as_str()) || upper.starts_with("LD_") {
        return refuse("is a variable that sandboxes have already");
    }
    Ok(())
}

fn check_networking(networking: &CredentialNetworking) -> Result<(), ApiError> {
    let CredentialNetworking::Limited { allowed_hosts } = networking else {
        return Ok(());
    };
    let at = "auth.networking.allowed_hosts";
    if allowed_hosts.len() > HOSTS {
        let problem = format!("must have at most {HOSTS} entries");
        return Err(ApiError::field(at, problem));
    }
    for (index, host) in allowed_hosts.iter().enumerate() {
        if host.parse::<Ipv4Addr>().is_ok() {
            continue;
        }
        Pattern::parse(host).map_err(|error| {
            let problem = format!(
                "must be a host like api.example.com, an IPv4 address, or *.example.com: {error}"
            );
            ApiError::field(format!("{at}[{index}]"), problem)
        })?;
    }
    Ok(())
}

fn no_location() -> ApiError {
    ApiError::field(
        "auth.injection_location",
        "must not be null; leave it out instead",
    )
}

/// The locations with those that are given, of which one must be enabled.
fn merged_location(
    current: InjectionLocation,
    given: &InjectionLocationParams,
) -> Result<InjectionLocation, ApiError> {
    let member = |name: &str, given: &Patch<bool>, current: bool| match given {
        Patch::Keep => Ok(current),
        Patch::Set(enabled) => Ok(*enabled),
        Patch::Clear => Err(ApiError::field(
            format!("auth.injection_location.{name}"),
            "must not be null; leave it out instead",
        )),
    };
    let merged = InjectionLocation {
        body: member("body", &given.body, current.body)?,
        header: member("header", &given.header, current.header)?,
    };
    if !merged.body && !merged.header {
        return Err(ApiError::field(
            "auth.injection_location",
            "must enable body, header, or both",
        ));
    }
    Ok(merged)
}

#[cfg(test)]
mod tests;
