//! Vaults of the session, and credentials in them. Nobody opens any here.

use manyhands_protocol::id::ApiKeyId;
use manyhands_protocol::time::{Clock as _, SystemClock};
use manyhands_protocol::vault::CredentialNetworking;
use manyhands_protocol::{CredentialId, VaultId, WorkspaceId};
use manyhands_store::Store;
use manyhands_store::audit::{Act, Action, Actor};
use manyhands_store::vault::{CredentialRecord, Inserted};
use manyhands_testkit::resources;

use super::Bed;

fn act(workspace: &WorkspaceId, action: Action) -> Act {
    let key = ApiKeyId::parse("apikey_1").unwrap();
    Act::new(workspace, Actor::Key(key), action)
}

/// Makes a vault with nothing in it.
pub(super) async fn insert(store: &Store, workspace: &WorkspaceId, id: &VaultId) {
    let vault = resources::vault(id, SystemClock.now());
    let act = act(workspace, Action::VaultCreate).to_vault(id);
    store.insert_vault(act, &vault).await.unwrap();
}

impl Bed {
    /// Adds a variable to a vault, for these hosts alone.
    pub(crate) async fn add_variable(
        &self,
        vault: &VaultId,
        secret_name: &str,
        hosts: &[&str],
    ) -> CredentialId {
        let allowed_hosts = hosts.iter().map(|&host| host.to_owned()).collect();
        let networking = CredentialNetworking::Limited { allowed_hosts };
        let auth = resources::variable(secret_name, networking);
        let credential = resources::credential(vault, auth, SystemClock.now());
        let id = credential.id.clone();
        let record = CredentialRecord {
            workspace: self.workspace.clone(),
            credential,
            key: format!("env {secret_name}"),
            secrets: [("secret_value".to_owned(), "sealed".to_owned())].into(),
            refused: None,
            generation: 0,
            refreshing_until: None,
        };
        let act = act(&self.workspace, Action::CredentialCreate).to_credential(vault, &id);
        let inserted = self.store.insert_credential(act, record).await;
        assert_eq!(inserted.unwrap(), Inserted::Done);
        id
    }
}
