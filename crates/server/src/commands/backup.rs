//! `manyhands backup` and `manyhands restore`: SQLite while its server runs, and the way back.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use manyhands_store::backup::{self, Damaged, Told};
use manyhands_store::verify;
use manyhands_store::{Database, Error};

use super::out::{Out, aside};
use super::verify::{Progress, sentence};
use crate::config::{BlobPlace, Config, Flags};
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
    let config = Config::without_services(args.flags)?;
    sqlite_only(
        &config.database,
        "pg_dump --format=custom --file=FILE, or pg_basebackup; the documentation has the procedure",
    )?;
    let mut shown = Shown::start();
    let mut tell = |told| shown.tell(told);
    let made = backup::backup(&config.data_dir, &args.file, &mut tell);
    let counts = match unless_interrupted(made).await? {
        Ok(counts) => counts,
        Err(error) => bail!(Failure::of_store(
            &error,
            "name the server's data directory with --data-dir, and a new file on a disk with room"
        )),
    };
    let Shown { mut out, .. } = shown;
    out.line(format_args!(
        "{}: {}",
        args.file.display(),
        sentence(&counts)
    ));
    out.line(format_args!(
        "the bytes of files, skills and checkpoints are not in it: copy them too, after this, from {}\n\
         sandboxes' files, the API key's file and the master key are not in it; keep it like a key, it holds all \
         conversations, and keep the master key elsewhere: without it the secrets in it do not open",
        place(&config.blobs)
    ));
    out.finish()?;
    if counts.damaged == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    aside("the store itself is damaged: `manyhands verify` lists the same items");
    Ok(ExitCode::FAILURE)
}

/// Restores a backup and says what is next.
///
/// # Errors
/// When it was not restored; then there is no database in the data directory.
pub async fn restore(args: RestoreArgs) -> anyhow::Result<ExitCode> {
    let config = Config::without_services(args.flags)?;
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
        Err(error) => {
            let hint = match error {
                Error::Damaged { .. } => {
                    "use another backup, or --accept-damage: the server refuses the damaged items alone"
                }
                Error::InUse { .. } => "name a new or empty directory with --data-dir",
                _ => "name a whole file that `manyhands backup` made",
            };
            bail!(Failure::of_store(&error, hint))
        }
    };
    let directory = config.data_dir.display();
    let Shown { mut out, .. } = shown;
    out.line(format_args!("{directory}: {}", sentence(&counts)));
    out.line(format_args!(
        "API keys are as they were at the backup; `manyhands keys create` makes a new one\n\
         the bytes of files, skills and checkpoints were not in it: put their copy into {}; files and skills without \
         theirs are errors when they are read\n\
         sandboxes' files were not in it: sessions go on with their last checkpoint, without its bytes with an empty \
         sandbox\n\
         next: manyhands serve --data-dir {directory}",
        place(&config.blobs)
    ));
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// Where the blobs are, as people say it.
fn place(blobs: &BlobPlace) -> String {
    match blobs {
        BlobPlace::Folder(folder) => folder.display().to_string(),
        BlobPlace::S3(s3) => format!("the bucket {}", s3.bucket),
    }
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
    out: Out,
}

impl Shown {
    fn start() -> Self {
        Self {
            verified: Progress::start("verified"),
            out: Out::standard(),
        }
    }

    fn tell(&mut self, told: Told) {
        match told {
            Told::Copied { bytes, of } => {
                aside(format_args!("copied {} of {} MiB", bytes >> 20, of >> 20));
            }
            Told::Verified(verify::Told::Progress(counts)) => self.verified.tell(&counts),
            Told::Verified(verify::Told::Damage(damage)) => {
                self.out
                    .line(format_args!("{}: {}", damage.item, damage.reason));
            }
        }
    }
}
