//! Settings: flags, then `MANYHANDS_*`, then `manyhands.toml` (architecture "Config").

mod blobs;
mod container;
mod egress;
mod environments;
mod file;
mod limits;
mod mcp;
mod models;
mod repositories;
mod server;
pub(crate) mod show;
mod vault;
mod web;

use std::env::VarError;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use manyhands_brain::models::ModelSpec;
use manyhands_hands::provider::namespace::ReadOnly;
use manyhands_store::{Database, Role};
use secrecy::{ExposeSecret, SecretString};

pub use blobs::{BlobPlace, Files};
pub use container::Container;
pub use egress::Egress;
pub use environments::Environments;
pub use limits::{Limits, Rates};
pub use repositories::Repositories;
use server::role;
pub use vault::MasterKey;
pub use web::{Search, Web};

const LISTEN: &str = "127.0.0.1:8787";
const DATA_DIR: &str = "./manyhands-data";
const FILE: &str = "manyhands.toml";

/// The settings that flags and the environment can give. A flag wins over its variable, both over the file.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// Configuration file; without this flag, manyhands.toml in the working directory, if there is one.
    #[arg(long, env = "MANYHANDS_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1:8787]; port 0 takes any free port.
    #[arg(long, env = "MANYHANDS_LISTEN", value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// Where everything is kept [default: ./manyhands-data].
    #[arg(long, env = "MANYHANDS_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// A PostgreSQL URL [default: SQLite in the data directory].
    #[arg(
        long,
        env = "MANYHANDS_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub database_url: Option<SecretString>,
    /// What this server does: all, api (requests and streams) or brain (sessions' work) [default: all].
    #[arg(long, env = "MANYHANDS_ROLE", value_name = "ROLE", value_parser = role)]
    pub role: Option<Role>,
    /// Where people reach this server, for links to it [default: as each request says].
    #[arg(long, env = "MANYHANDS_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// A script for the scripted model [default: the built-in one].
    #[arg(long, env = "MANYHANDS_SCRIPT", value_name = "FILE")]
    pub script: Option<PathBuf>,
}

/// The effective settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where everything is kept: the database file, the first key, sandboxes.
    pub data_dir: PathBuf,
    /// Which database.
    pub database: Database,
    /// What this server does.
    pub role: Role,
    /// For how long requests are still served after the order to stop, while balancers see that this server is not ready.
    pub drain: Duration,
    /// What links to this server begin with, without a slash at the end; `None` when each request says it.
    pub public_url: Option<String>,
    /// Which models, and who serves them.
    pub models: Vec<ModelSpec>,
    /// Whether all stream frames are named `message`, for old clients (runtime ST-4).
    pub legacy_event_names: bool,
    /// Sandboxes.
    pub sandbox: Sandbox,
    /// What sandboxes are made of.
    pub environments: Environments,
    /// The way out of sandboxes.
    pub egress: Egress,
    /// The web tools.
    pub web: Web,
    /// Limits towards MCP servers.
    pub mcp: manyhands_mcp::Settings,
    /// Where the master key of all secrets comes from.
    pub master_key: MasterKey,
    /// Where the bytes of files are.
    pub blobs: BlobPlace,
    /// Bounds of files.
    pub files: Files,
    /// What is kept of repositories between sessions.
    pub repositories: Repositories,
    /// How much at once, and how long a turn may go on.
    pub limits: Limits,
    /// The id of the model that judges calls under the policy `auto`; without one the client is asked (runtime TC-8).
    pub judge: Option<String>,
}

/// Seconds of a day.
const DAY: u64 = 24 * 3600;

/// How sandboxes are made and kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Sandbox {
    /// How containers are made, where sandboxes are containers; else they are name spaces of this host.
    pub container: Option<Container>,
    /// After how much idle time the processes end; files stay (architecture §3).
    pub idle: Duration,
    /// The first of the host's user ids that a server running as root gives to sandboxes.
    pub first_uid: u32,
    /// How many there are.
    pub uids: u32,
    /// What of the host every sandbox sees, and where.
    pub read_only: Vec<ReadOnly>,
    /// How long after it was made a sandbox is gone on with (runtime EN-18).
    pub retention: Duration,
    /// Below this much free space, in bytes, files of sandboxes at rest that a checkpoint holds are removed.
    pub spare: u64,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            container: None,
            idle: Duration::from_secs(300),
            first_uid: 2_000_000,
            uids: 1_000_000,
            read_only: Vec::new(),
            retention: Duration::from_secs(30 * DAY),
            spare: 2048 << 20,
        }
    }
}

/// What is wrong with the settings: stop, and tell the operator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("the configuration file {} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not as it should be.
    #[error("the configuration file {} is wrong: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Where and what.
        message: String,
    },
    /// A setting makes no sense.
    #[error("{setting}: {problem}")]
    Setting {
        /// Its name in the file or the environment.
        setting: String,
        /// What is wrong and what to do.
        problem: String,
    },
}

fn wrong(setting: impl Into<String>, problem: impl Into<String>) -> Error {
    Error::Setting {
        setting: setting.into(),
        problem: problem.into(),
    }
}

/// What the process's environment says beside the flags. Handed in, so that tests have one of their own.
pub(crate) type Environment<'e> = &'e dyn Fn(&str) -> Result<String, VarError>;

impl Config {
    /// The effective settings of this process.
    ///
    /// # Errors
    /// When a setting makes no sense; all of them name the setting.
    pub fn load(flags: Flags) -> Result<Self, Error> {
        let file = Self::file(&flags)?;
        Self::merge(flags, file, &|name| std::env::var(name))
    }

    /// The effective settings for a command that asks no model and searches nowhere: the keys for that are not looked for, and
    /// neither `models` nor `web` says what the file does.
    ///
    /// # Errors
    /// When another setting makes no sense; all of them name the setting.
    pub(crate) fn without_services(flags: Flags) -> Result<Self, Error> {
        let file = Self::file(&flags)?.without_services();
        Self::merge(flags, file, &|name| std::env::var(name))
    }

    fn file(flags: &Flags) -> Result<file::File, Error> {
        let path = flags.config.clone();
        let path = path.or_else(|| Path::new(FILE).exists().then(|| PathBuf::from(FILE)));
        match path {
            Some(path) => file::read(&path),
            None => Ok(file::File::default()),
        }
    }

    fn merge(flags: Flags, file: file::File, environment: Environment<'_>) -> Result<Self, Error> {
        let listen = match (flags.listen, file.listen) {
            (Some(listen), _) => listen,
            (None, Some(text)) => text
                .parse()
                .map_err(|_| wrong("listen", format!("{text:?} is not ADDR:PORT")))?,
            (None, None) => LISTEN
                .parse()
                .map_err(|_| wrong("listen", "the default is not ADDR:PORT"))?,
        };
        let data_dir = flags
            .data_dir
            .or(file.data_dir)
            .unwrap_or_else(|| DATA_DIR.into());
        let database = match flags.database_url.or(file.database.url) {
            None => Database::Sqlite {
                directory: data_dir.clone(),
            },
            Some(url) => postgres(url)?,
        };
        let alone = matches!(database, Database::Sqlite { .. });
        let serving = file.server.effective(flags.role, flags.public_url, alone)?;
        let sandbox = file.sandbox.effective(&data_dir, environment)?;
        let blobs = file.blobs.effective(&data_dir, environment)?;
        let master_key = file.vault.effective(&data_dir, environment)?;
        Ok(Self {
            listen,
            data_dir,
            database,
            role: serving.role,
            drain: serving.drain,
            public_url: serving.public_url,
            models: models::specs(file.models, flags.script.or(file.script), environment)?,
            legacy_event_names: file.stream.legacy_event_names,
            environments: file.environments.effective(sandbox.container.is_some())?,
            sandbox,
            egress: file.egress.effective()?,
            web: file.web.effective(environment)?,
            mcp: file.mcp.effective()?,
            master_key,
            blobs,
            files: file.files.effective(),
            repositories: file.repositories.effective()?,
            limits: file.limits.effective()?,
            judge: file.permissions.judge,
        })
    }
}

/// Whether this text is of the form of the configuration file.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzzing(text: &str) -> Result<(), Error> {
    file::parse(Path::new(FILE), text).map(drop)
}

fn postgres(url: SecretString) -> Result<Database, Error> {
    let text = url.expose_secret();
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        return Ok(Database::Postgres { url });
    }
    Err(wrong(
        "database.url",
        "expected postgres://…; without a URL, SQLite in the data directory is used",
    ))
}

/// A variable, where an empty one counts as absent.
fn variable(environment: Environment<'_>, name: &str) -> Result<Option<String>, Error> {
    match environment(name) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Ok(Some(text)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(wrong(name, "is not UTF-8")),
    }
}

#[cfg(test)]
mod tests;
