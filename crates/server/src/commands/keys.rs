//! `manyhands keys`: API keys, and the master key.

use std::path::PathBuf;
use std::sync::Arc;

use manyhands_protocol::id::ApiKeyId;
use manyhands_protocol::time::SystemClock;
use manyhands_store::{Error, Replica, Role, Store};
use manyhands_vault::master;
use manyhands_vault::rotate::{self, NotRotated};

use super::keeper::Keeper;
use super::out::{Out, aside};
use crate::api::keys::{KeyCreateParams, ShownKey};
use crate::config::{Config, Flags, MasterKey};
use crate::failure::Failure;

/// Whose keys are meant, and on which server.
#[derive(Clone, Debug, clap::Args)]
pub struct Whose {
    /// Whose [default: the first workspace's].
    #[arg(long, value_name = "ID")]
    workspace: Option<String>,
    /// Which server.
    #[command(flatten)]
    flags: Flags,
}

impl Whose {
    /// All their keys.
    pub(super) async fn keys(self) -> anyhow::Result<Vec<ShownKey>> {
        let keeper = Keeper::open(self.flags).await?;
        keeper.list_keys(self.workspace.as_deref()).await
    }
}

/// The key that is to be revoked.
#[derive(Clone, Debug, clap::Args)]
pub struct Revoked {
    /// Its id, apikey_…, as `list` shows it.
    id: String,
    /// Where it is.
    #[command(flatten)]
    whose: Whose,
}

/// What `manyhands keys` is told: what to do with keys.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Make a key and print it, once.
    Create {
        /// What to call it.
        #[arg(default_value = "unnamed")]
        name: String,
        /// What it may do: admin, developer (everything but keys) or read_only.
        #[arg(value_name = "ROLE", default_value = "developer")]
        key_role: String,
        /// The workspace it opens, wrkspc_… [default: the first one].
        #[arg(long, value_name = "ID")]
        workspace: Option<String>,
        /// Which server.
        #[command(flatten)]
        flags: Flags,
    },
    /// List all keys, without the keys themselves.
    List(Whose),
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
    Revoke(Revoked),
}

/// Does it and prints what came of it.
///
/// # Errors
/// When there is no such key, or neither the server nor the store can be reached.
pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Create {
            name,
            key_role,
            workspace,
            flags,
        } => {
            let params = KeyCreateParams {
                name,
                role: Some(key_role),
                workspace_id: workspace,
                ..KeyCreateParams::default()
            };
            made(&Keeper::open(flags).await?.create_key(params).await?)
        }
        Command::List(whose) => {
            let mut out = Out::standard();
            for key in whose.keys().await? {
                out.line(line(&key));
            }
            out.finish()
        }
        Command::RotateMaster {
            new_key_file,
            flags,
        } => rotate_master(new_key_file, Config::without_services(flags)?).await,
        Command::Revoke(key) => revoke(key).await,
    }
}

/// Prints a key that was made, alone on its line, and about it on the other stream.
pub(super) fn made(key: &ShownKey) -> anyhow::Result<()> {
    let mut out = Out::standard();
    out.line(key.key.as_deref().unwrap_or_default());
    let opens = key.environment_id.as_ref().unwrap_or(&key.workspace_id);
    aside(format_args!(
        "made {} ({}): {} in {opens}; the key is not shown again",
        key.id, key.name, key.role
    ));
    out.finish()
}

/// A key as a line, without the key itself.
pub(super) fn line(key: &ShownKey) -> String {
    let state = key
        .revoked_at
        .map_or("valid".to_owned(), |at| format!("revoked {at}"));
    let environment = key.environment_id.as_deref();
    let environment = environment.map_or(String::new(), |id| format!(" of {id}"));
    format!(
        "{}  {}…  {}  {}{environment}  {}  {}",
        key.id, key.hint, key.created_at, key.role, state, key.name
    )
}

/// Revokes a key.
pub(super) async fn revoke(key: Revoked) -> anyhow::Result<()> {
    let id = ApiKeyId::parse(&key.id)?;
    let keeper = Keeper::open(key.whose.flags).await?;
    let workspace = key.whose.workspace.as_deref();
    keeper.revoke_key(&id, workspace).await?;
    let mut out = Out::standard();
    out.line(format_args!("revoked {id}"));
    out.finish()
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
    let mut out = Out::standard();
    out.line(format_args!(
        "the master key is now {}; data keys wrapped anew: {}",
        done.fingerprint, done.keys
    ));
    out.line(match config.master_key {
        MasterKey::Environment(_) => {
            "set MANYHANDS_MASTER_KEY to the new key; with the old one servers start sealed"
        }
        MasterKey::Made(_) | MasterKey::File(_) => {
            "servers with another data directory need the new file, and start sealed without it"
        }
    });
    out.line("backups that were made before need the old key, of which no copy was kept here");
    out.finish()
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
