//! Vaults and the credentials in them (api §16). What goes out has no member for a secret; what comes in keeps its secrets in
//! [`SecretString`], which is neither printed nor serialised (security CRED-2).

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::patch::Patch;
use crate::{CredentialId, Metadata, Timestamp, VaultId, tag};

/// A vault, as shown in responses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Vault {
    /// Its id.
    pub id: VaultId,
    /// Always `"vault"`.
    #[serde(rename = "type")]
    pub kind: tag::Vault,
    /// Its name.
    pub display_name: String,
    /// The client's own pairs.
    pub metadata: Metadata,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
}

/// Body of a vault create.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct VaultCreateParams {
    /// Required, 1 to 255 characters.
    pub display_name: String,
    /// Optional.
    #[serde(default)]
    pub metadata: Option<Metadata>,
}

/// Body of a vault update: omitted fields keep their value.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct VaultUpdateParams {
    /// Null keeps.
    pub display_name: Option<String>,
    /// Per key; null deletes.
    pub metadata: Option<std::collections::BTreeMap<String, Option<String>>>,
}

/// The answer to a delete of a vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VaultDeleted {
    /// The vault that is gone.
    pub id: VaultId,
    /// Always `"vault_deleted"`.
    #[serde(rename = "type")]
    pub kind: tag::VaultDeleted,
}

/// A credential, as shown in responses: without its secrets (runtime VA-3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Credential {
    /// Its id.
    pub id: CredentialId,
    /// Always `"vault_credential"`.
    #[serde(rename = "type")]
    pub kind: tag::VaultCredential,
    /// The vault it is in.
    pub vault_id: VaultId,
    /// Its name.
    pub display_name: Option<String>,
    /// What it is for.
    pub auth: CredentialAuth,
    /// The client's own pairs.
    pub metadata: Metadata,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was archived; its secrets are gone since.
    pub archived_at: Option<Timestamp>,
}

/// What a credential is for, by its kind (runtime VA-2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum CredentialAuth {
    /// An OAuth access token for an MCP server, perhaps with what refreshes it.
    McpOauth {
        /// The server, as the client wrote it.
        mcp_server_url: String,
        /// When the access token expires, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<Timestamp>,
        /// How it is refreshed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refresh: Option<OauthRefresh>,
    },
    /// A token that is sent as it is to an MCP server.
    StaticBearer {
        /// The server, as the client wrote it.
        mcp_server_url: String,
    },
    /// A secret that requests from a sandbox carry, in whose place the sandbox sees a placeholder.
    EnvironmentVariable {
        /// The variable's name.
        secret_name: String,
        /// Where requests may carry it to.
        networking: CredentialNetworking,
        /// Where in a request it may stand.
        injection_location: InjectionLocation,
    },
}

impl CredentialAuth {
    /// The wire name of the kind.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::McpOauth { .. } => "mcp_oauth",
            Self::StaticBearer { .. } => "static_bearer",
            Self::EnvironmentVariable { .. } => "environment_variable",
        }
    }
}

/// How an access token is refreshed, without the secrets of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OauthRefresh {
    /// The client's id at the token endpoint.
    pub client_id: String,
    /// Where refresh requests go.
    pub token_endpoint: String,
    /// How the client proves who it is.
    pub token_endpoint_auth: TokenEndpointAuth,
    /// The resource indicator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The scope that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

/// How the client proves who it is at a token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TokenEndpointAuth {
    /// It does not.
    None {},
    /// HTTP Basic.
    ClientSecretBasic {},
    /// In the form.
    ClientSecretPost {},
}

/// Which hosts a secret may be carried to (runtime VA-10). The environment must admit them as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum CredentialNetworking {
    /// Every host that the environment admits.
    Unrestricted {},
    /// These alone.
    Limited {
        /// Bare hosts, IPv4 addresses, or `*.` wildcards; at most 16.
        allowed_hosts: Vec<String>,
    },
}

/// Where in a request a secret may stand (runtime VA-11). One of the two at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InjectionLocation {
    /// In the body.
    pub body: bool,
    /// In the values of headers.
    pub header: bool,
}

/// Body of a credential create.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct CredentialCreateParams {
    /// Required.
    pub auth: CredentialAuthParams,
    /// Optional, 1 to 255 characters.
    #[serde(default)]
    pub display_name: Option<String>,
    /// Optional.
    #[serde(default)]
    pub metadata: Option<Metadata>,
}

/// Body of a credential update: omitted fields keep their value.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CredentialUpdateParams {
    /// Null keeps. The type is the stored one.
    pub auth: Option<CredentialAuthParams>,
    /// Null clears.
    pub display_name: Patch<String>,
    /// Per key; null deletes.
    pub metadata: Option<std::collections::BTreeMap<String, Option<String>>>,
}

/// The `auth` of a request: the members of all kinds in one, so that each wrong one is told by its path and nothing of the
/// request is kept aside while the kind is found out. Which member belongs to which kind is checked by whoever reads it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CredentialAuthParams {
    /// The kind. Required.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// `mcp_oauth`, `static_bearer`.
    pub mcp_server_url: Patch<String>,
    /// `mcp_oauth`.
    #[schemars(with = "Patch<String>")]
    pub access_token: Patch<SecretString>,
    /// `mcp_oauth`: RFC 3339.
    pub expires_at: Patch<Timestamp>,
    /// `mcp_oauth`.
    pub refresh: Patch<OauthRefreshParams>,
    /// `static_bearer`.
    #[schemars(with = "Patch<String>")]
    pub token: Patch<SecretString>,
    /// `environment_variable`.
    pub secret_name: Patch<String>,
    /// `environment_variable`.
    #[schemars(with = "Patch<String>")]
    pub secret_value: Patch<SecretString>,
    /// `environment_variable`.
    pub networking: Patch<CredentialNetworking>,
    /// `environment_variable`.
    pub injection_location: Patch<InjectionLocationParams>,
}

/// The `refresh` of a request.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct OauthRefreshParams {
    /// Required in a create, not in an update.
    pub client_id: Patch<String>,
    /// Required in a create.
    #[schemars(with = "Patch<String>")]
    pub refresh_token: Patch<SecretString>,
    /// Required in a create, not in an update.
    pub token_endpoint: Patch<String>,
    /// Required in a create.
    pub token_endpoint_auth: Patch<TokenEndpointAuthParams>,
    /// The resource indicator; not in an update.
    pub resource: Patch<String>,
    /// The scope; `""` clears in an update.
    pub scope: Patch<String>,
}

/// The `token_endpoint_auth` of a request.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TokenEndpointAuthParams {
    /// `none`, `client_secret_basic` or `client_secret_post`. Required.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Of the latter two.
    #[schemars(with = "Patch<String>")]
    pub client_secret: Patch<SecretString>,
}

/// The `injection_location` of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct InjectionLocationParams {
    /// In the body.
    pub body: Patch<bool>,
    /// In the values of headers.
    pub header: Patch<bool>,
}

/// The answer to a delete of a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CredentialDeleted {
    /// The credential that is gone.
    pub id: CredentialId,
    /// Always `"vault_credential_deleted"`.
    #[serde(rename = "type")]
    pub kind: tag::VaultCredentialDeleted,
}

/// What came of trying a credential out (api §16.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CredentialValidation {
    /// Always `"vault_credential_validation"`.
    #[serde(rename = "type")]
    pub kind: tag::VaultCredentialValidation,
    /// The credential.
    pub credential_id: CredentialId,
    /// Its vault.
    pub vault_id: VaultId,
    /// In one word.
    pub status: ValidationStatus,
    /// Whether it can be refreshed.
    pub has_refresh_token: bool,
    /// When it was tried.
    pub validated_at: Timestamp,
    /// The step at which the MCP server did not go along; null when it did.
    pub mcp_probe: Option<McpProbe>,
    /// The refresh; null when none was needed.
    pub refresh: Option<RefreshReport>,
}

/// Whether a credential is good (runtime VA-17).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ValidationStatus {
    /// The MCP server takes it.
    Valid,
    /// It needs a new grant, or is not for this server.
    Invalid,
    /// That cannot be told now: worth another try later.
    Unknown,
}

/// The step at which an MCP server did not go along.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct McpProbe {
    /// `initialize` or `tools/list`.
    pub method: String,
    /// The server's answer, where there was one.
    pub http_response: Option<HttpResponse>,
}

/// How a refresh went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefreshReport {
    /// In one word.
    pub status: RefreshStatus,
    /// The token endpoint's answer, where it failed with one.
    pub http_response: Option<HttpResponse>,
}

/// How a refresh went, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefreshStatus {
    /// There are new tokens.
    Succeeded,
    /// The token endpoint answered with an error.
    Failed,
    /// The token endpoint could not be asked.
    ConnectError,
    /// There is nothing to refresh with.
    NoRefreshToken,
}

/// An answer over HTTP as it is shown: without secrets, and perhaps not whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HttpResponse {
    /// The status.
    pub status_code: u16,
    /// The `Content-Type`; empty where there was none.
    pub content_type: String,
    /// The body's beginning.
    pub body: String,
    /// Whether there was more.
    pub body_truncated: bool,
}
