//! What the tests stand on: a database, an authorization server, and one or more servers that share them.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use manyhands_egress::address::Allowed;
use manyhands_egress::dial::{Dialler, Resolve, Tcp, Timeouts};
use manyhands_egress::host::Host;
use manyhands_egress::outbound::Outbound;
use manyhands_protocol::time::Clock as _;
use manyhands_protocol::vault::{Credential, CredentialAuth, OauthRefresh, TokenEndpointAuth};
use manyhands_protocol::{Timestamp, VaultId, WorkspaceId};
use manyhands_store::audit::{Act, Action, Actor, AuditFilter};
use manyhands_store::vault::{CredentialRecord, Inserted};
use manyhands_store::{Config, Database, Replica, Store};
use manyhands_testkit::clock::TestClock;
use manyhands_testkit::gate::Gate;
use manyhands_testkit::oauth::{Authentication, AuthorizationServer, Grant, Misdeed, Registered};
use manyhands_testkit::{postgres, resources};
use manyhands_vault::oauth::{NoToken, Refresher, Settings};
use manyhands_vault::{Field, McpTokens, ServerUrl, Source, Uses, Vaults};
use secrecy::{ExposeSecret as _, SecretString};

pub(crate) const MCP: &str = "https://mcp.example.com/mcp";
/// The client's own secret.
pub(crate) const SECRET: &str = "client&secret é";
/// A master key: 32 bytes in base64.
const MASTER: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

pub(crate) fn master() -> Source {
    Source::Text(SecretString::from(MASTER))
}

pub(crate) struct Bed {
    pub(crate) database: Database,
    pub(crate) clock: TestClock,
    pub(crate) server: AuthorizationServer,
    pub(crate) workspace: WorkspaceId,
    pub(crate) settings: Settings,
    authentication: Authentication,
    _directory: Option<tempfile::TempDir>,
}

/// One server over the bed's database.
pub(crate) struct Server {
    pub(crate) store: Store,
    pub(crate) vaults: Vaults,
    pub(crate) refresher: Refresher,
    pub(crate) tokens: McpTokens,
    workspace: WorkspaceId,
    clock: TestClock,
}

impl Bed {
    pub(crate) async fn sqlite() -> Self {
        Self::with(Authentication::Basic).await
    }

    pub(crate) async fn with(authentication: Authentication) -> Self {
        let directory = tempfile::tempdir().expect("a folder");
        let database = Database::Sqlite {
            directory: directory.path().join("data"),
        };
        let bed = Self::on(database, authentication).await;
        Self {
            _directory: Some(directory),
            ..bed
        }
    }

    pub(crate) async fn postgres() -> Self {
        let database = postgres::Database::create().await;
        let url = database.url().into();
        Self::on(Database::Postgres { url }, Authentication::Post).await
    }

    async fn on(database: Database, authentication: Authentication) -> Self {
        let server = AuthorizationServer::start(Registered {
            id: "client:one".to_owned(),
            secret: (authentication != Authentication::None).then(|| SECRET.to_owned()),
            authentication,
        })
        .await;
        Self {
            database,
            clock: TestClock::default(),
            server,
            workspace: WorkspaceId::generate(),
            settings: Settings {
                plain_http: true,
                ..Settings::default()
            },
            authentication,
            _directory: None,
        }
    }

    pub(crate) async fn open(&self) -> Server {
        self.over(self.store().await, master()).await
    }

    /// A server of its own.
    async fn store(&self) -> Store {
        let store = Store::open(Config {
            database: self.database.clone(),
            clock: Arc::new(self.clock.clone()),
            replica: Replica::default(),
        });
        store.await.expect("a store")
    }

    /// As it is with another master key, or settings that have changed.
    pub(crate) async fn again(&self, server: &Server, source: Source) -> Server {
        self.over(server.store.clone(), source).await
    }

    async fn over(&self, store: Store, source: Source) -> Server {
        let vaults = Vaults::open(store.clone(), source).await.expect("vaults");
        let allowed = Allowed::parse(["127.0.0.1/32"]).expect("networks");
        let dialler = Dialler::new(Arc::new(Here), Arc::new(Tcp), allowed, Timeouts::default());
        let ports = [self.server.address().port(), 1];
        let outbound = Outbound::new(dialler, &ports).expect("a client");
        let clock = Arc::new(self.clock.clone());
        let refresher = Refresher::new(vaults.clone(), outbound, clock, self.settings);
        let uses = Uses::new(store.clone());
        Server {
            tokens: McpTokens::new(vaults.clone(), refresher.clone(), uses),
            store,
            vaults,
            refresher,
            workspace: self.workspace.clone(),
            clock: self.clock.clone(),
        }
    }

    /// A credential with this grant, whose access token lives for so long from now.
    pub(crate) async fn credential(
        &self,
        server: &Server,
        grant: &Grant,
        life: Option<Duration>,
    ) -> CredentialRecord {
        let refresh = OauthRefresh {
            client_id: "client:one".to_owned(),
            token_endpoint: self.server.token_endpoint("login.example.com"),
            token_endpoint_auth: match self.authentication {
                Authentication::None => TokenEndpointAuth::None {},
                Authentication::Basic => TokenEndpointAuth::ClientSecretBasic {},
                Authentication::Post => TokenEndpointAuth::ClientSecretPost {},
            },
            resource: Some("https://mcp.example.com".to_owned()),
            scope: Some("read write".to_owned()),
        };
        let auth = CredentialAuth::McpOauth {
            mcp_server_url: MCP.to_owned(),
            expires_at: life.map(|life| self.clock.now().after(life)),
            refresh: Some(refresh),
        };
        let mut secrets = vec![
            (Field::AccessToken, grant.access_token.as_str()),
            (Field::RefreshToken, grant.refresh_token.as_str()),
        ];
        if self.authentication != Authentication::None {
            secrets.push((Field::ClientSecret, SECRET));
        }
        let vault = server.vault().await;
        server.insert(&vault, auth, &secrets).await
    }

    /// What asking gives when this is done while the authorization server has the request and has not answered it.
    pub(crate) async fn while_asked<T>(
        &self,
        asking: impl Future<Output = T>,
        deed: impl Future<Output = ()>,
    ) -> T {
        let gate = Gate::new();
        self.server.misbehave(Misdeed::Hold(gate.clone()));
        let meanwhile = async {
            gate.reached().await;
            deed.await;
            gate.open();
        };
        let (answer, ()) = tokio::join!(asking, meanwhile);
        answer
    }

    /// A credential whose access token has ended.
    pub(crate) async fn expired(&self, server: &Server) -> (CredentialRecord, Grant) {
        let grant = self.server.grant();
        let life = Duration::from_secs(600);
        let record = self.credential(server, &grant, Some(life)).await;
        self.server.expire(&grant.access_token);
        self.clock.advance(life);
        (record, grant)
    }
}

impl Server {
    /// A new vault.
    pub(crate) async fn vault(&self) -> VaultId {
        let vault = resources::vault(&VaultId::generate(), self.clock.now());
        let act = self.act(Action::VaultCreate);
        self.store.insert_vault(act, &vault).await.expect("a vault");
        vault.id
    }

    /// A new credential in a vault.
    pub(crate) async fn insert(
        &self,
        vault: &VaultId,
        auth: CredentialAuth,
        secrets: &[(Field, &str)],
    ) -> CredentialRecord {
        let (CredentialAuth::McpOauth { mcp_server_url, .. }
        | CredentialAuth::StaticBearer { mcp_server_url }) = &auth
        else {
            panic!("not for an MCP server: {auth:?}");
        };
        let key = ServerUrl::parse(mcp_server_url).expect("a URL").key();
        let credential = resources::credential(vault, auth, self.clock.now());
        let record = CredentialRecord {
            workspace: self.workspace.clone(),
            secrets: self.sealed(&credential, secrets).await,
            credential,
            key,
            refused: None,
            generation: 1,
            refreshing_until: None,
        };
        let act = self.act(Action::CredentialCreate);
        let inserted = self.store.insert_credential(act, record.clone()).await;
        assert_eq!(inserted, Ok(Inserted::Done));
        record
    }

    pub(crate) async fn sealed(
        &self,
        credential: &Credential,
        secrets: &[(Field, &str)],
    ) -> BTreeMap<String, String> {
        let sealer = self.vaults.sealer(&self.workspace).await.expect("a key");
        let seal = |field, text: &str| {
            let secret = SecretString::from(text);
            sealer
                .seal_field(&self.workspace, credential, field, &secret)
                .expect("sealed")
        };
        let sealed = secrets
            .iter()
            .map(|(field, text)| (field.as_str().to_owned(), seal(*field, text)));
        sealed.collect()
    }

    /// A client's change.
    pub(crate) async fn change(
        &self,
        record: &CredentialRecord,
        change: impl FnOnce(&mut CredentialRecord) + Send + 'static,
    ) {
        let credential = &record.credential;
        let decide = |now: &CredentialRecord| {
            let mut new = now.clone();
            change(&mut new);
            Ok::<_, ()>(Some(new))
        };
        let act = self.act(Action::CredentialUpdate);
        let changed =
            self.store
                .update_credential(act, &credential.vault_id, &credential.id, decide);
        changed
            .await
            .expect("the store")
            .expect("a credential")
            .expect("accepted");
    }

    pub(crate) async fn archive(&self, record: &CredentialRecord) {
        let credential = &record.credential;
        let act = self.act(Action::CredentialArchive);
        let archived = self
            .store
            .archive_credential(act, &credential.vault_id, &credential.id);
        archived.await.expect("the store").expect("a credential");
    }

    /// The credential as it is now.
    pub(crate) async fn now(&self, record: &CredentialRecord) -> CredentialRecord {
        let credential = &record.credential;
        let found = self
            .store
            .credential(&self.workspace, &credential.vault_id, &credential.id);
        found.await.expect("the store").expect("a credential")
    }

    /// Its secret as it is now.
    pub(crate) async fn secret(&self, record: &CredentialRecord, field: Field) -> String {
        let now = self.now(record).await;
        let opened = self.vaults.open_field(&now, field).await.expect("opened");
        opened.expect("a secret").expose_secret().to_owned()
    }

    /// Its access token, asked for as of now.
    pub(crate) async fn access_token(&self, record: &CredentialRecord) -> Result<String, NoToken> {
        let now = self.now(record).await;
        let token = self.refresher.access_token(now, None).await;
        token.map(|token| token.expose_secret().to_owned())
    }

    /// The actions and ends of the rows about a credential, oldest first.
    pub(crate) async fn audit(&self, record: &CredentialRecord) -> Vec<(String, String)> {
        let filter = AuditFilter {
            credential: Some(record.credential.id.to_string()),
            ..AuditFilter::default()
        };
        let rows = self.store.list_audit(&filter, 1000).await.expect("rows");
        rows.into_iter()
            .map(|row| (row.action, row.outcome))
            .collect()
    }

    pub(crate) fn act(&self, action: Action) -> Act {
        Act::new(&self.workspace, Actor::Operator, action)
    }
}

pub(crate) fn expires_at(record: &CredentialRecord) -> Option<Timestamp> {
    match &record.credential.auth {
        CredentialAuth::McpOauth { expires_at, .. } => *expires_at,
        auth => panic!("{auth:?}"),
    }
}

/// All names are this machine.
struct Here;

#[async_trait]
impl Resolve for Here {
    async fn resolve(&self, _: &Host) -> io::Result<Vec<IpAddr>> {
        Ok(vec![IpAddr::from([127, 0, 0, 1])])
    }
}
