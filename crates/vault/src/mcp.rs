//! Which token goes to which MCP server (runtime MC-6, VA-7, VA-8; security CRED-9).

use async_trait::async_trait;
use manyhands_mcp::{Authorization, Caller, Denied, Token};
use manyhands_protocol::vault::CredentialAuth;
use manyhands_store::audit::{Act, Action, Actor};
use manyhands_store::vault::CredentialRecord;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::oauth::{Refresher, unopened};
use crate::server_url::ServerUrl;
use crate::uses::Uses;
use crate::vaults::{Field, Vaults};

/// The vaults, as MCP connections ask them. Nothing is remembered between two requests: what is rotated, archived or deleted
/// is so for the next one.
#[derive(Clone)]
pub struct McpTokens {
    vaults: Vaults,
    refresher: Refresher,
    uses: Uses,
}

impl McpTokens {
    /// Over these vaults.
    pub fn new(vaults: Vaults, refresher: Refresher, uses: Uses) -> Self {
        Self {
            vaults,
            refresher,
            uses,
        }
    }

    /// The secret of a credential as it was just read.
    async fn secret(
        &self,
        record: &CredentialRecord,
        refused: Option<&SecretString>,
    ) -> Result<Option<SecretString>, Denied> {
        let denied = |why: &dyn std::fmt::Display| Denied(why.to_string());
        match &record.credential.auth {
            CredentialAuth::McpOauth { .. } => {
                let token = self.refresher.access_token(record.clone(), refused).await;
                token.map(Some).map_err(|error| denied(&error))
            }
            CredentialAuth::StaticBearer { .. } => {
                let id = &record.credential.id;
                let opened = self.vaults.open_field(record, Field::Token).await;
                let token = opened.map_err(|error| denied(&unopened(id.clone(), &error)))?;
                let is_refused = |token: &SecretString| {
                    refused.is_some_and(|refused| refused.expose_secret() == token.expose_secret())
                };
                if token.as_ref().is_some_and(is_refused) {
                    return Err(Denied(format!("credential {id} was refused by the server")));
                }
                Ok(token)
            }
            CredentialAuth::EnvironmentVariable { .. } => Ok(None),
        }
    }
}

#[async_trait]
impl Authorization for McpTokens {
    async fn token(
        &self,
        caller: &Caller,
        url: &Url,
        refused: Option<&Token>,
    ) -> Result<Option<Token>, Denied> {
        // No credential is for a URL that has more than one reading.
        let Ok(server) = ServerUrl::parse(url.as_str()) else {
            return Ok(None);
        };
        let found = self
            .vaults
            .matching_mcp(&caller.workspace, &caller.vaults, &server)
            .await;
        let unreadable = |error: &dyn std::fmt::Display| {
            tracing::warn!(session.id = %caller.session, %error, "the vaults cannot be asked for a token");
            Denied("the vaults cannot be read now".to_owned())
        };
        let Some(record) = found.map_err(|error| unreadable(&error))? else {
            return Ok(None);
        };
        let credential = record.credential.id.clone();
        let refused = refused.filter(|refused| refused.credential == credential);
        let refused = refused.map(|refused| &refused.secret);
        let Some(secret) = self.secret(&record, refused).await? else {
            return Ok(None);
        };
        let session = caller.session.clone();
        let act = Act::new(
            &caller.workspace,
            Actor::Session(session),
            Action::CredentialUse,
        )
        .to_credential(&record.credential.vault_id, &credential)
        .towards(&caller.session, server.host());
        self.uses
            .note(act)
            .await
            .map_err(|error| unreadable(&error))?;
        Ok(Some(Token { credential, secret }))
    }
}
