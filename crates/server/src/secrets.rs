//! The secrets of sessions, as the egress proxy asks for them (security CRED-4, CRED-8; runtime VA-7, VA-9 to VA-12).
//!
//! Nothing is remembered of a credential: every request reads the store, so that what was rotated, archived, deleted or narrowed is
//! so for the next one. The audit row comes before the secret.

mod hosts;
mod repositories;

pub(crate) use hosts::Asker;
pub(crate) use repositories::token_place;

use async_trait::async_trait;
use manyhands_egress::host::Pattern;
use manyhands_egress::secrets::{
    Asked, Attached, Credential, Hosts, Passage, Place, Secrets, Unavailable, Visit,
};
use manyhands_protocol::SessionId;
use manyhands_protocol::vault::{CredentialAuth, CredentialNetworking};
use manyhands_store::Store;
use manyhands_store::audit::{Act, Action, Actor};
use manyhands_store::vault::CredentialRecord;
use manyhands_vault::{Field, Uses, Vaults};
use secrecy::SecretString;

/// The vaults, as the proxy sees them.
pub(crate) struct Holder {
    vaults: Vaults,
    uses: Uses,
}

impl Holder {
    pub(crate) fn new(vaults: Vaults, uses: Uses) -> Self {
        Self { vaults, uses }
    }

    fn store(&self) -> &Store {
        self.vaults.store()
    }

    /// The secret of a credential that may be used for this, once that is noted down.
    async fn open(
        &self,
        record: &CredentialRecord,
        session: &SessionId,
        host: &str,
    ) -> Result<Option<SecretString>, Unavailable> {
        let opened = self.vaults.open_field(record, Field::SecretValue).await;
        let Some(secret) = opened.map_err(unavailable)? else {
            return Ok(None);
        };
        let (credential, actor) = (&record.credential, Actor::Session(session.clone()));
        let act = Act::new(&record.workspace, actor, Action::CredentialRelease)
            .to_credential(&credential.vault_id, &credential.id)
            .towards(session, host);
        self.uses.note(act).await.map_err(unavailable)?;
        Ok(Some(secret))
    }
}

#[async_trait]
impl Secrets for Holder {
    async fn attached(&self, session: &str) -> Result<Attached, Unavailable> {
        // Sandboxes that build packages have doors and no session.
        let Ok(session) = SessionId::parse(session) else {
            return Ok(Attached::default());
        };
        let credentials = self.store().credentials_in_use(&session).await;
        let credentials = credentials.map_err(unavailable)?;
        let repositories = self.repositories_of(&session).await?;
        Ok(Attached {
            credentials: credentials.iter().filter_map(credential).collect(),
            repositories,
        })
    }

    async fn release(&self, asked: &Asked<'_>) -> Result<Option<SecretString>, Unavailable> {
        let Ok(session) = SessionId::parse(asked.session) else {
            return Ok(None);
        };
        let found = self.store().placeholder(&session, asked.placeholder).await;
        let Some(record) = found.map_err(unavailable)? else {
            return Ok(None);
        };
        let Some(credential) = credential(&record) else {
            return Ok(None);
        };
        let enabled = match asked.place {
            Place::Header => credential.header,
            Place::Body => credential.body,
        };
        if !enabled || !credential.hosts.admit(&asked.target.host) {
            return Ok(None);
        }
        self.open(&record, &session, asked.target.host.as_str())
            .await
    }

    async fn repository(&self, visit: &Visit<'_>) -> Result<Option<Passage>, Unavailable> {
        self.passage(visit).await
    }
}

/// Where a credential may go; `None` for the kinds that no sandbox has.
fn credential(record: &CredentialRecord) -> Option<Credential> {
    let CredentialAuth::EnvironmentVariable {
        networking,
        injection_location,
        ..
    } = &record.credential.auth
    else {
        return None;
    };
    let hosts = match networking {
        CredentialNetworking::Unrestricted {} => Hosts::Any,
        // An address is no host that the proxy goes to: what is no name admits none.
        CredentialNetworking::Limited { allowed_hosts } => Hosts::Listed(
            allowed_hosts
                .iter()
                .filter_map(|host| Pattern::parse(host).ok())
                .collect(),
        ),
    };
    Some(Credential {
        hosts,
        header: injection_location.header,
        body: injection_location.body,
    })
}

/// What the sandbox is told of a failure: that there is one. The log has the rest.
fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> Unavailable {
    let error = anyhow::Error::new(error);
    tracing::warn!(
        error = format!("{error:#}"),
        "a session's secrets cannot be looked up"
    );
    Unavailable("try again later, or ask who runs this server".to_owned())
}

#[cfg(test)]
mod tests;
