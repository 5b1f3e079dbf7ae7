//! `manyhands keys`: through the running server when there is one, else on the store itself.
//!
//! A SQLite store belongs to one process, so the data directory's lock says which it is.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use manyhands_protocol::error::ErrorBody;
use manyhands_protocol::id::ApiKeyId;
use manyhands_protocol::time::{SharedClock, SystemClock};
use manyhands_store::audit::Actor;
use manyhands_store::{Error, Replica, Role, Store};
use manyhands_vault::master;
use manyhands_vault::rotate::{self, NotRotated};
use reqwest::Method;
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;

use crate::api::keys::{KeyCreateParams, ShownKey, ShownKeys};
use crate::config::{Config, Flags, MasterKey};
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
    /// Replace the master key, which seals all secrets, by a new one.
    RotateMaster {
        /// A file with the new key, where the present one comes from MANYHANDS_MASTER_KEY: 32 bytes in base64, mode 600.
        #[arg(long, value_name = "FILE")]
        new_key_file: Option<PathBuf>,
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
        Command::RotateMaster {
            new_key_file,
            flags,
        } => rotate_master(new_key_file, Config::load(flags)?).await?,
        Command::Revoke { id, flags } => {
            let id = ApiKeyId::parse(&id)?;
            Keeper::open(flags).await?.revoke(&id).await?;
            println!("revoked {id}");
        }
    }
    Ok(())
}

/// Replaces the master key (security CRED-1). A file's key is replaced in the file; the operator replaces one that the
/// environment has, and holds both of them meanwhile.
async fn rotate_master(new_key_file: Option<PathBuf>, config: Config) -> anyhow::Result<()> {
    #[cfg(feature = "failpoints")]
    let _armed = crate::failpoint::arm()?;
    let opened = Store::open(manyhands_store::Config {
        database: config.database.clone(),
        clock: Arc::new(SystemClock),
        replica: Replica {
            role: Role::Api,
            ..Replica::default()
        },
    });
    let store = opened.await.map_err(|error| match error {
        Error::InUse { .. } => Failure::new(
            error.to_string(),
            "stop the server first: with SQLite the master key is replaced while nothing runs",
        )
        .into(),
        error => anyhow::Error::from(error),
    })?;
    let done = match (&config.master_key, new_key_file) {
        (MasterKey::Made(path) | MasterKey::File(path), None) => {
            rotate::rotate_file(&store, path).await.map_err(not_rotated)
        }
        (MasterKey::Made(path) | MasterKey::File(path), Some(_)) => Err(Failure::new(
            format!("the master key is in {}, and a new one is made there", path.display()),
            "leave --new-key-file out",
        )
        .into()),
        (MasterKey::Environment(_), None) => Err(Failure::new(
            "the master key comes from MANYHANDS_MASTER_KEY, and this command cannot change that",
            "make a new key with `(umask 077; head -c 32 /dev/urandom | base64 > FILE)` and name it with --new-key-file",
        )
        .into()),
        (MasterKey::Environment(_), Some(file)) => match master::MasterKey::read(&file) {
            Ok(new) => rotate::rotate(&store, &config.master_key.source(), &new)
                .await
                .map_err(not_rotated),
            Err(error) => Err(error.into()),
        },
    };
    store.close().await;
    let done = done?;
    println!(
        "the master key is now {}; data keys wrapped anew: {}",
        done.fingerprint, done.keys
    );
    match config.master_key {
        MasterKey::Environment(_) => {
            println!(
                "set MANYHANDS_MASTER_KEY to the new key; with the old one servers start sealed"
            );
        }
        MasterKey::Made(_) | MasterKey::File(_) => {
            println!(
                "servers with another data directory need the new file, and start sealed without it"
            );
        }
    }
    println!("backups that were made before need the old key, of which no copy was kept here");
    Ok(())
}

fn not_rotated(error: NotRotated) -> anyhow::Error {
    let hint = match &error {
        NotRotated::Never => "the first start of a server makes one",
        NotRotated::Sealed(_) => "give this command the key that is in use",
        NotRotated::New(_) | NotRotated::Same => {
            "name a file with another key that only you can read"
        }
        NotRotated::Raced => "look at `manyhands audit` for who did",
        NotRotated::Failed(_) => "nothing was changed; `manyhands verify` looks for damage",
    };
    Failure::new(format!("{:#}", anyhow::Error::new(error)), hint).into()
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
                store.insert_key(Actor::Operator, &record, &hash).await?;
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
                let known = store.revoke_key(Actor::Operator, &workspace, id).await?;
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
