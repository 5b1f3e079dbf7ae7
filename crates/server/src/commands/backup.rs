//! `manyhands backup` and `manyhands restore`: SQLite while its server runs, and the way back.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use manyhands_store::backup::{self, Damaged, Told};
use manyhands_store::verify;
use manyhands_store::{Database, Error};

use super::verify::{Progress, sentence};
use crate::config::{Config, Flags};
use crate::failure::Failure;

/// What `manyhands backup` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct BackupArgs {
    /// The file to be made; it must not exist.
    pub file: PathBuf,
    /// The same flags as `serve`.
    #[command(flatten)]
    pub flags: Flags,
}

/// What `manyhands restore` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct RestoreArgs {
    /// A file that `manyhands backup` made.
    pub file: PathBuf,
    /// Restore it even though some of its items are damaged.
    #[arg(long)]
    pub accept_damage: bool,
    /// The same flags as `serve`; the data directory must be new or empty.
    #[command(flatten)]
    pub flags: Flags,
}

/// Makes a backup and says what is in it. The status is 1 when something in it is damaged.
///
/// # Errors
/// When no backup could be made; then there is no file.
pub async fn backup(args: BackupArgs) -> anyhow::Result<ExitCode> {
    #[cfg(feature = "failpoints")]
    let _armed = crate::failpoint::arm()?;
    let config = Config::load(args.flags)?;
    sqlite_only(
        &config.database,
        "pg_dump --format=custom --file=FILE, or pg_basebackup; the documentation has the procedure",
    )?;
    let mut shown = Shown::start();
    let mut tell = |told| shown.tell(told);
    let made = backup::backup(&config.data_dir, &args.file, &mut tell);
    let counts = match unless_interrupted(made).await? {
        Ok(counts) => counts,
        Err(error) => bail!(explained(
            error,
            "name the server's data directory with --data-dir, and a new file on a disk with room"
        )),
    };
    println!("{}: {}", args.file.display(), sentence(&counts));
    println!(
        "sandboxes' files, the API key's file and the master key are not in it; keep it like a key, it holds all \
         conversations, and keep the master key elsewhere: without it the secrets in it do not open"
    );
    if counts.damaged == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("the store itself is damaged: `manyhands verify` lists the same items");
    Ok(ExitCode::FAILURE)
}

/// Restores a backup and says what is next.
///
/// # Errors
/// When it was not restored; then there is no database in the data directory.
pub async fn restore(args: RestoreArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(args.flags)?;
    sqlite_only(
        &config.database,
        "pg_restore into a new database; the documentation has the procedure",
    )?;
    let damaged = if args.accept_damage {
        Damaged::Keep
    } else {
        Damaged::Refuse
    };
    let mut shown = Shown::start();
    let mut tell = |told| shown.tell(told);
    let made = backup::restore(&args.file, &config.data_dir, damaged, &mut tell);
    let counts = match unless_interrupted(made).await? {
        Ok(counts) => counts,
        Err(error @ Error::Damaged { .. }) => bail!(explained(
            error,
            "use another backup, or --accept-damage: the server refuses the damaged items alone"
        )),
        Err(error) => bail!(explained(
            error,
            "name a file that `manyhands backup` made, and a new data directory with --data-dir"
        )),
    };
    let directory = config.data_dir.display();
    println!("{directory}: {}", sentence(&counts));
    println!(
        "API keys are as they were at the backup; `manyhands keys create` makes a new one\n\
         sandboxes' files were not in it: sessions go on with empty sandboxes\n\
         next: manyhands serve --data-dir {directory}"
    );
    Ok(ExitCode::SUCCESS)
}

fn sqlite_only(database: &Database, instead: &str) -> anyhow::Result<()> {
    match database {
        Database::Sqlite { .. } => Ok(()),
        Database::Postgres { .. } => bail!(Failure::new(
            "PostgreSQL is backed up and restored by its own programs",
            format!("use {instead}"),
        )),
        Database::Memory(_) => bail!(Failure::new(
            "a database in memory has no file",
            "use a data directory",
        )),
    }
}

fn explained(error: Error, hint: &str) -> Failure {
    Failure::new(error.to_string(), hint)
}

/// What is dropped in mid-work removes what it has written.
async fn unless_interrupted<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::select! {
        done = work => Ok(done),
        _ = tokio::signal::ctrl_c() => bail!(Failure::new("interrupted", "nothing was written")),
    }
}

/// Damage on standard output, and progress on standard error once it takes longer than a second.
struct Shown {
    verified: Progress,
}

impl Shown {
    fn start() -> Self {
        Self {
            verified: Progress::start("verified"),
        }
    }

    fn tell(&mut self, told: Told) {
        match told {
            Told::Copied { bytes, of } => eprintln!("copied {} of {} MiB", bytes >> 20, of >> 20),
            Told::Verified(verify::Told::Progress(counts)) => self.verified.tell(&counts),
            Told::Verified(verify::Told::Damage(damage)) => {
                println!("{}: {}", damage.item, damage.reason);
            }
        }
    }
}
