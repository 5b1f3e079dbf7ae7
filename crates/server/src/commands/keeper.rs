//! Who keeps keys and workspaces now: the running server when there is one, else this process on the store itself.
//!
//! A SQLite store belongs to one process, so the data directory's lock says which it is.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use manyhands_protocol::WorkspaceId;
use manyhands_protocol::error::ErrorBody;
use manyhands_protocol::id::ApiKeyId;
use manyhands_protocol::time::{SharedClock, SystemClock};
use manyhands_store::audit::Actor;
use manyhands_store::workspace::Workspace;
use manyhands_store::{Error, Replica, Role, Store};
use reqwest::Method;
use secrecy::ExposeSecret;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::error::ApiError;
use crate::api::keys::{KeyCreateParams, ShownKey, ShownKeys, absent};
use crate::api::workspaces::{ShownWorkspace, ShownWorkspaces, WorkspaceParams};
use crate::config::{Config, Flags};
use crate::failure::Failure;
use crate::keys;
use crate::server::address_file;

/// Who keeps them.
pub(super) enum Keeper {
    Store(Store, SharedClock),
    Server(Remote),
}

impl Keeper {
    /// Finds out who.
    pub(super) async fn open(flags: Flags) -> anyhow::Result<Self> {
        let config = Config::without_services(flags)?;
        if !config.data_dir.exists() {
            bail!(Failure::new(
                format!(
                    "there is no data directory at {}",
                    config.data_dir.display()
                ),
                "name the server's with --data-dir, or run `manyhands serve` first",
            ));
        }
        let clock: SharedClock = Arc::new(SystemClock);
        let opened = Store::open(manyhands_store::Config {
            database: config.database.clone(),
            clock: Arc::clone(&clock),
            replica: Replica {
                role: Role::Api,
                ..Replica::default()
            },
        })
        .await;
        match opened {
            Ok(store) => Ok(Self::Store(store, clock)),
            Err(Error::InUse { .. }) => Ok(Self::Server(Remote::of(&config)?)),
            Err(error) => {
                Err(Failure::of_store(&error, "`manyhands doctor` looks at all of it").into())
            }
        }
    }

    /// Makes a key.
    pub(super) async fn create_key(self, params: KeyCreateParams) -> anyhow::Result<ShownKey> {
        match self {
            Self::Server(remote) => remote.post("keys", &params).await,
            Self::Store(store, clock) => {
                let opens = params.opens().map_err(refused)?;
                let workspace = place(&store, params.workspace_id.as_deref()).await?;
                let (key, record, hash) = keys::mint(&workspace, opens, params.name, clock.now())?;
                let made = store.insert_key(Actor::Operator, &record, &hash).await?;
                store.close().await;
                if !made {
                    bail!("{} not found", absent(&record.opens));
                }
                Ok(ShownKey {
                    key: Some(key.expose_secret().to_owned()),
                    ..record.into()
                })
            }
        }
    }

    /// All keys of a workspace; without one, of the first.
    pub(super) async fn list_keys(self, workspace: Option<&str>) -> anyhow::Result<Vec<ShownKey>> {
        match self {
            Self::Server(remote) => {
                let path = format!("keys{}", of(workspace));
                let keys: ShownKeys = remote.call(Method::GET, &path, None).await?;
                Ok(keys.data)
            }
            Self::Store(store, _) => {
                let workspace = place(&store, workspace).await?;
                let keys = store.list_keys(&workspace).await?;
                store.close().await;
                Ok(keys.into_iter().map(ShownKey::from).collect())
            }
        }
    }

    /// Revokes a key.
    pub(super) async fn revoke_key(
        self,
        id: &ApiKeyId,
        workspace: Option<&str>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Server(remote) => {
                let path = format!("keys/{id}{}", of(workspace));
                let _: ShownKey = remote.call(Method::DELETE, &path, None).await?;
            }
            Self::Store(store, _) => {
                let workspace = place(&store, workspace).await?;
                let known = store.revoke_key(Actor::Operator, &workspace, id).await?;
                store.close().await;
                if !known {
                    bail!("there is no key {id}");
                }
            }
        }
        Ok(())
    }

    /// Makes a workspace.
    pub(super) async fn create_workspace(self, name: String) -> anyhow::Result<ShownWorkspace> {
        match self {
            Self::Server(remote) => remote.post("workspaces", &WorkspaceParams { name }).await,
            Self::Store(store, clock) => {
                let workspace = Workspace {
                    id: WorkspaceId::generate(),
                    name,
                    created_at: clock.now(),
                };
                store.insert_workspace(Actor::Operator, &workspace).await?;
                store.close().await;
                Ok(workspace.into())
            }
        }
    }

    /// All workspaces.
    pub(super) async fn list_workspaces(self) -> anyhow::Result<Vec<ShownWorkspace>> {
        match self {
            Self::Server(remote) => {
                let all: ShownWorkspaces = remote.call(Method::GET, "workspaces", None).await?;
                Ok(all.data)
            }
            Self::Store(store, _) => {
                let all = store.list_workspaces().await?;
                store.close().await;
                Ok(all.into_iter().map(ShownWorkspace::from).collect())
            }
        }
    }

    /// Gives a workspace another name.
    pub(super) async fn rename_workspace(
        self,
        id: &WorkspaceId,
        name: String,
    ) -> anyhow::Result<ShownWorkspace> {
        match self {
            Self::Server(remote) => {
                let path = format!("workspaces/{id}");
                remote.post(&path, &WorkspaceParams { name }).await
            }
            Self::Store(store, _) => {
                let renamed = store.rename_workspace(Actor::Operator, id, &name).await?;
                store.close().await;
                renamed
                    .map(ShownWorkspace::from)
                    .with_context(|| format!("there is no workspace {id}"))
            }
        }
    }
}

/// The workspace of this id; without one, the first.
async fn place(store: &Store, workspace: Option<&str>) -> anyhow::Result<WorkspaceId> {
    match workspace {
        Some(id) => Ok(WorkspaceId::parse(id)?),
        None => Ok(store.default_workspace().await?),
    }
}

/// What names the workspace in a query.
fn of(workspace: Option<&str>) -> String {
    workspace.map_or(String::new(), |id| {
        let encoded: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
        format!("?workspace_id={encoded}")
    })
}

fn refused(error: ApiError) -> anyhow::Error {
    anyhow::anyhow!("{}", error.message())
}

/// The server that holds the data directory.
pub(super) struct Remote {
    client: reqwest::Client,
    url: String,
    key: secrecy::SecretString,
}

impl Remote {
    /// The server that left its address in the data directory.
    pub(super) fn of(config: &Config) -> anyhow::Result<Self> {
        let path = address_file(&config.data_dir);
        let url = fs::read_to_string(&path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        let key = keys::read(&config.data_dir).with_context(|| {
            format!("{} cannot be read", keys::path(&config.data_dir).display())
        })?;
        let timeouts = manyhands_egress::Timeouts {
            connect: Duration::from_secs(2),
            read: Duration::from_secs(10),
        };
        Ok(Self {
            client: manyhands_egress::client(timeouts)?,
            url: url.trim().to_owned(),
            key,
        })
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.call(Method::POST, path, Some(serde_json::to_vec(body)?))
            .await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> anyhow::Result<T> {
        let mut request = self
            .client
            .request(method, format!("{}/v1/manyhands/{path}", self.url));
        request = request
            .header("x-api-key", self.key.expose_secret())
            .header("content-type", "application/json");
        if let Some(body) = body {
            request = request.body(body);
        }
        let answer = request
            .send()
            .await
            .with_context(|| format!("the server at {} does not answer", self.url))?;
        let status = answer.status();
        let bytes = answer
            .bytes()
            .await
            .context("the server's answer broke off")?;
        if status.is_success() {
            return serde_json::from_slice(&bytes).context("the server's answer makes no sense");
        }
        match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(body) => bail!("{}", body.error.message),
            Err(_) => bail!("the server answered {status}"),
        }
    }

    /// What `/readyz` says: whether it is ready, and its checks.
    pub(super) async fn ready(&self) -> anyhow::Result<(bool, serde_json::Value)> {
        let answer = self
            .client
            .get(format!("{}/readyz", self.url))
            .send()
            .await?;
        let ready = answer.status().is_success();
        Ok((ready, serde_json::from_slice(&answer.bytes().await?)?))
    }
}
