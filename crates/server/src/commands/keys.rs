//! `manyhands keys`: through the running server when there is one, else on the store itself.
//!
//! A SQLite store belongs to one process, so the data directory's lock says which it is.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use manyhands_protocol::error::ErrorBody;
use manyhands_protocol::id::ApiKeyId;
use manyhands_protocol::time::{SharedClock, SystemClock};
use manyhands_store::{Error, Replica, Role, Store};
use reqwest::Method;
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;

use crate::api::keys::{KeyCreateParams, ShownKey, ShownKeys};
use crate::config::{Config, Flags};
use crate::failure::Failure;
use crate::keys;
use crate::server::address_file;

/// What `manyhands keys` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done with keys.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Make a key and print it, once.
    Create {
        /// What to call it.
        #[arg(default_value = "unnamed")]
        name: String,
        /// Which server.
        #[command(flatten)]
        flags: Flags,
    },
    /// List all keys, without the keys themselves.
    List {
        /// Which server.
        #[command(flatten)]
        flags: Flags,
    },
    /// Revoke a key by its id: from the next request on.
    Revoke {
        /// Its id, apikey_…, as `list` shows it.
        id: String,
        /// Which server.
        #[command(flatten)]
        flags: Flags,
    },
}

/// Does it and prints what came of it.
///
/// # Errors
/// When there is no such key, or neither the server nor the store can be reached.
pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Create { name, flags } => {
            let key = Keeper::open(flags).await?.create(name).await?;
            println!("{}", key.key.as_deref().unwrap_or_default());
            eprintln!("made {} ({}); the key is not shown again", key.id, key.name);
        }
        Command::List { flags } => {
            for key in Keeper::open(flags).await?.list().await?.data {
                let state = key
                    .revoked_at
                    .map_or("valid".to_owned(), |at| format!("revoked {at}"));
                println!(
                    "{}  {}…  {}  {}  {}",
                    key.id, key.hint, key.created_at, state, key.name
                );
            }
        }
        Command::Revoke { id, flags } => {
            let id = ApiKeyId::parse(&id)?;
            Keeper::open(flags).await?.revoke(&id).await?;
            println!("revoked {id}");
        }
    }
    Ok(())
}

/// Who keeps the keys now.
enum Keeper {
    Store(Store, SharedClock),
    Server(Remote),
}

impl Keeper {
    async fn open(flags: Flags) -> anyhow::Result<Self> {
        let config = Config::load(flags)?;
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
            Err(error) => Err(error.into()),
        }
    }

    async fn create(self, name: String) -> anyhow::Result<ShownKey> {
        match self {
            Self::Server(remote) => {
                let body = serde_json::to_vec(&KeyCreateParams { name })?;
                remote.call(Method::POST, "", Some(body)).await
            }
            Self::Store(store, clock) => {
                let workspace = store.default_workspace().await?;
                let (key, record, hash) = keys::mint(&workspace, name, clock.now())?;
                store.insert_key(&record, &hash).await?;
                store.close().await;
                Ok(ShownKey {
                    key: Some(key.expose_secret().to_owned()),
                    ..record.into()
                })
            }
        }
    }

    async fn list(self) -> anyhow::Result<ShownKeys> {
        match self {
            Self::Server(remote) => remote.call(Method::GET, "", None).await,
            Self::Store(store, _) => {
                let workspace = store.default_workspace().await?;
                let keys = store.list_keys(&workspace).await?;
                store.close().await;
                Ok(ShownKeys {
                    data: keys.into_iter().map(ShownKey::from).collect(),
                })
            }
        }
    }

    async fn revoke(self, id: &ApiKeyId) -> anyhow::Result<()> {
        match self {
            Self::Server(remote) => {
                let _: ShownKey = remote.call(Method::DELETE, &format!("/{id}"), None).await?;
            }
            Self::Store(store, _) => {
                let workspace = store.default_workspace().await?;
                let known = store.revoke_key(&workspace, id).await?;
                store.close().await;
                if !known {
                    bail!("there is no key {id}");
                }
            }
        }
        Ok(())
    }
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

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> anyhow::Result<T> {
        let mut request = self
            .client
            .request(method, format!("{}/v1/manyhands/keys{path}", self.url));
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
