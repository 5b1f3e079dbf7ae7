//! The holder over a store: what is released, to whom, and what is written down of it.

use std::sync::Arc;

use manyhands_egress::host::Target;
use manyhands_protocol::agent::{Agent, SessionAgent};
use manyhands_protocol::environment::Environment;
use manyhands_protocol::repository::Checkout;
use manyhands_protocol::time::SystemClock;
use manyhands_protocol::vault::{Credential as Shown, InjectionLocation, Vault};
use manyhands_protocol::{
    AgentId, CredentialId, EnvironmentId, ResourceId, ThreadId, VaultId, WorkspaceId,
};
use manyhands_store::audit::AuditFilter;
use manyhands_store::repositories::NewRepository;
use manyhands_store::vault::Inserted;
use manyhands_store::{Change, Config, Created, Database, NewSession, Replica};
use manyhands_vault::{Place as Sealed, Source};
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::*;
use crate::secrets::repositories::token_place;

mod repositories;

const MASTER: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const SECRET: &str = "sk-live-0123456789";

struct World {
    holder: Holder,
    vaults: Vaults,
    workspace: WorkspaceId,
    vault: VaultId,
    record: CredentialRecord,
    _directory: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a folder");
        let store = Store::open(Config {
            database: Database::Sqlite {
                directory: directory.path().join("data"),
            },
            clock: Arc::new(SystemClock),
            replica: Replica::default(),
        });
        let store = store.await.expect("a store");
        let workspace = store.default_workspace().await.expect("a workspace");
        let source = Source::Text(SecretString::from(MASTER));
        let vaults = Vaults::open(store.clone(), source).await.expect("vaults");
        let vault: Vault = serde_json::from_value(json!({
            "id": VaultId::generate(), "type": "vault", "display_name": "keys", "metadata": {},
            "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
            "archived_at": null
        }))
        .expect("a vault");
        let act = Act::new(&workspace, Actor::Operator, Action::VaultCreate);
        store.insert_vault(act, &vault).await.expect("inserted");
        let networking = CredentialNetworking::Limited {
            allowed_hosts: vec!["*.example.com".to_owned(), "192.0.2.1".to_owned()],
        };
        let record = Self::credential(&vaults, &workspace, &vault.id, networking).await;
        Self {
            holder: Holder::new(vaults.clone(), Uses::new(store)),
            vaults,
            workspace,
            vault: vault.id,
            record,
            _directory: directory,
        }
    }

    async fn credential(
        vaults: &Vaults,
        workspace: &WorkspaceId,
        vault: &VaultId,
        networking: CredentialNetworking,
    ) -> CredentialRecord {
        let auth = CredentialAuth::EnvironmentVariable {
            secret_name: "API_KEY".to_owned(),
            networking,
            injection_location: InjectionLocation {
                body: false,
                header: true,
            },
        };
        let shown: Shown = serde_json::from_value(json!({
            "id": CredentialId::generate(), "type": "vault_credential", "vault_id": vault,
            "display_name": null, "auth": auth, "metadata": {}, "archived_at": null,
            "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"
        }))
        .expect("a credential");
        let sealer = vaults.sealer(workspace).await.expect("a key");
        let sealed = sealer
            .seal_field(workspace, &shown, Field::SecretValue, &SECRET.into())
            .expect("sealed");
        let record = CredentialRecord {
            workspace: workspace.clone(),
            key: "env API_KEY".to_owned(),
            secrets: [("secret_value".to_owned(), sealed)].into(),
            refused: None,
            generation: 0,
            refreshing_until: None,
            credential: shown,
        };
        let act = Act::new(workspace, Actor::Operator, Action::CredentialCreate);
        let inserted = vaults.store().insert_credential(act, record.clone()).await;
        assert_eq!(inserted.expect("an answer"), Inserted::Done);
        record
    }

    async fn session(&self, repositories: Vec<NewRepository>) -> SessionId {
        let agent: Agent = serde_json::from_value(json!({
            "id": AgentId::generate(), "type": "agent", "version": 1,
            "name": "helper", "description": null, "system": null,
            "model": {"id": "scripted", "effort": {"type": "high"}, "speed": "standard"}, "tools": [], "mcp_servers": [],
            "skills": [], "multiagent": null, "metadata": {}, "archived_at": null,
            "execution_identity": {"type": "service_account"},
            "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"
        }))
        .expect("an agent");
        let environment = Environment {
            id: EnvironmentId::generate(),
            kind: Default::default(),
            name: format!("environment of {}", agent.id),
            description: None,
            config: Default::default(),
            metadata: Default::default(),
            scope: Default::default(),
            created_at: agent.created_at,
            updated_at: agent.updated_at,
            archived_at: None,
        };
        let store = self.holder.store();
        store
            .insert_agent(&self.workspace, &agent)
            .await
            .expect("inserted");
        store
            .insert_environment(&self.workspace, &environment)
            .await
            .expect("inserted");
        let id = SessionId::generate();
        let session = NewSession {
            workspace: self.workspace.clone(),
            id: id.clone(),
            thread_id: ThreadId::generate(),
            environment_id: environment.id,
            agent: SessionAgent {
                id: agent.id,
                kind: Default::default(),
                version: 1,
                definition: agent.definition,
            },
            title: None,
            metadata: Default::default(),
            budget: None,
            vault_ids: vec![self.vault.clone()],
            change: Change::default(),
        };
        let belongings = manyhands_store::Belongings {
            repositories,
            ..Default::default()
        };
        let made = store.create_session_with(session, belongings);
        assert_eq!(made.await.expect("an answer"), Created::Done);
        id
    }

    async fn placeholder(&self, session: &SessionId) -> String {
        let store = self.holder.store();
        let all = store.placeholders(&self.workspace, session).await;
        all.expect("an answer").remove(0).placeholder
    }

    /// Changes the credential.
    async fn change(&self, change: impl FnOnce(&mut CredentialRecord) + Send + 'static) {
        let act = Act::new(&self.workspace, Actor::Operator, Action::CredentialUpdate);
        let id = &self.record.credential.id;
        let changed = self
            .holder
            .store()
            .update_credential(act, &self.vault, id, |record| {
                let mut record = record.clone();
                change(&mut record);
                Ok::<_, ()>(Some(record))
            });
        changed
            .await
            .expect("an answer")
            .expect("it is there")
            .expect("no refusal");
    }

    async fn release(
        &self,
        session: &str,
        placeholder: &str,
        host: &str,
        place: Place,
    ) -> Option<String> {
        let target = Target::parse(host, Some(443)).expect(host);
        let asked = Asked {
            session,
            placeholder,
            target: &target,
            place,
        };
        let released = self.holder.release(&asked).await.expect("an answer");
        released.map(|secret| secret.expose_secret().to_owned())
    }

    async fn rows(&self, action: Action) -> Vec<(Option<String>, Option<String>)> {
        let store = self.holder.store();
        let rows = store.list_audit(&AuditFilter::default(), 100).await;
        let rows = rows.expect("rows").into_iter();
        let rows = rows.filter(|row| row.action == action.as_str());
        rows.map(|row| (row.host, row.session.map(|id| id.to_string())))
            .collect()
    }
}

/// security CRED-4, CRED-8; runtime VA-9 to VA-12: all conditions hold, or nothing is released, and a release has a row.
#[tokio::test]
async fn cred_4_a_secret_is_released_only_if_all_holds() {
    let world = World::new().await;
    let session = world.session(Vec::new()).await;
    let other = world.session(Vec::new()).await;
    let placeholder = world.placeholder(&session).await;
    let of_other = world.placeholder(&other).await;
    assert_ne!(placeholder, of_other);
    let attached = world.holder.attached(session.as_str()).await;
    let attached = attached.expect("an answer");
    assert_eq!(attached.credentials.len(), 1);
    assert!(attached.credentials[0].header && !attached.credentials[0].body);
    assert_eq!(world.rows(Action::CredentialRelease).await, []);
    let own = session.as_str();
    for (session, placeholder, host, place, released) in [
        (own, &placeholder, "api.example.com", Place::Header, true),
        (
            own,
            &placeholder,
            "api.example.com:8443",
            Place::Header,
            true,
        ),
        (own, &placeholder, "api.example.com", Place::Body, false),
        (own, &placeholder, "example.com", Place::Header, false),
        (own, &placeholder, "api.example.org", Place::Header, false),
        (own, &of_other, "api.example.com", Place::Header, false),
        (
            other.as_str(),
            &placeholder,
            "api.example.com",
            Place::Header,
            false,
        ),
        (
            "pool-1",
            &placeholder,
            "api.example.com",
            Place::Header,
            false,
        ),
        (
            own,
            &"mhp_x".to_owned(),
            "api.example.com",
            Place::Header,
            false,
        ),
    ] {
        let secret = world.release(session, placeholder, host, place).await;
        let expected = released.then(|| SECRET.to_owned());
        assert_eq!(secret, expected, "{session} {host} {place:?}");
    }
    // Both uses within a minute are one row.
    let row = (Some("api.example.com".to_owned()), Some(own.to_owned()));
    assert_eq!(world.rows(Action::CredentialRelease).await, [row]);
    world
        .release(own, &placeholder, "b.example.com", Place::Header)
        .await;
    assert_eq!(world.rows(Action::CredentialRelease).await.len(), 2);
}

/// security CRED-8: what is changed, archived or deleted is so for the next request.
#[tokio::test]
async fn cred_8_changes_count_from_the_next_request_on() {
    let world = World::new().await;
    let session = world.session(Vec::new()).await;
    let placeholder = world.placeholder(&session).await;
    let (own, host) = (session.as_str(), "api.example.com");
    let store = world.holder.store();
    let (vault, id) = (&world.vault, &world.record.credential.id);
    let rotated = world.vaults.sealer(&world.workspace).await.expect("a key");
    let rotated = rotated
        .seal_field(
            &world.workspace,
            &world.record.credential,
            Field::SecretValue,
            &"rotated".into(),
        )
        .expect("sealed");
    let rotate = |record: &mut CredentialRecord| {
        record.secrets.insert("secret_value".to_owned(), rotated);
    };
    world.change(rotate).await;
    let secret = world.release(own, &placeholder, host, Place::Header).await;
    assert_eq!(secret.as_deref(), Some("rotated"));
    let into_bodies = |record: &mut CredentialRecord| {
        if let CredentialAuth::EnvironmentVariable {
            injection_location, ..
        } = &mut record.credential.auth
        {
            *injection_location = InjectionLocation {
                body: true,
                header: false,
            };
        }
    };
    world.change(into_bodies).await;
    assert_eq!(
        world.release(own, &placeholder, host, Place::Header).await,
        None
    );
    let secret = world.release(own, &placeholder, host, Place::Body).await;
    assert_eq!(secret.as_deref(), Some("rotated"));
    let act = Act::new(&world.workspace, Actor::Operator, Action::CredentialArchive);
    let archived = store.archive_credential(act, vault, id).await;
    archived.expect("an answer").expect("it is there");
    assert_eq!(
        world.release(own, &placeholder, host, Place::Body).await,
        None
    );
    let attached = world.holder.attached(own).await.expect("an answer");
    assert_eq!(attached, Attached::default());
}

/// security CRED-1, invariant I9: without the master key nothing is released, and nobody takes that for a refusal.
#[tokio::test]
async fn cred_1_sealed_vaults_release_nothing() {
    let world = World::new().await;
    let session = world.session(Vec::new()).await;
    let placeholder = world.placeholder(&session).await;
    let store = world.holder.store().clone();
    let sealed = Vaults::open(store.clone(), Source::Nowhere)
        .await
        .expect("vaults");
    let holder = Holder::new(sealed, Uses::new(store));
    let target = Target::parse("api.example.com:443", None).expect("a target");
    let asked = Asked {
        session: session.as_str(),
        placeholder: &placeholder,
        target: &target,
        place: Place::Header,
    };
    let error = holder
        .release(&asked)
        .await
        .expect_err("it is sealed")
        .to_string();
    assert!(!error.contains("mhp_") && !error.contains("crd"), "{error}");
    assert_eq!(world.rows(Action::CredentialRelease).await, []);
}
