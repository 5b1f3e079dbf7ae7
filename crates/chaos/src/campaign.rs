//! Rounds until there were enough kills, or the time is over, or something does not hold.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use manyhands_testkit::daemon;
use rand::Rng;

use crate::fleet::Database;
use crate::report::Report;
use crate::round::{self, Order};

/// How much of a violation the last lines show.
const SHOWN: usize = 1500;

#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// How many kills in all
    #[arg(long, default_value_t = 60)]
    kills: u64,
    /// How many of one round, which has a world of its own
    #[arg(long, default_value_t = 30)]
    round: u64,
    /// Repeats a campaign's choices; instants are left to chance
    #[arg(long, env = "MANYHANDS_CHAOS_SEED")]
    seed: Option<u64>,
    /// Which databases take turns
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["sqlite", "postgres"])]
    databases: Vec<Database>,
    /// Sessions at once
    #[arg(long, default_value_t = 16)]
    sessions: u64,
    /// The longest time between a recovery and the next kill, in milliseconds
    #[arg(long, default_value_t = 400)]
    calm: u64,
    /// Begins no more rounds after this many seconds; the same command goes on later
    #[arg(long, default_value_t = 480)]
    seconds: u64,
    /// The server's program; by default the one that was built
    #[arg(long, env = "MANYHANDS_BIN")]
    bin: Option<PathBuf>,
    /// Where data directories are made: a folder on a disk, not in memory
    #[arg(long, default_value = "/var/tmp")]
    folder: PathBuf,
    /// The sums, by which a campaign that was cut off goes on
    #[arg(long)]
    report: Option<PathBuf>,
    /// The commit that the program is built of, for the report
    #[arg(long, default_value = "unknown")]
    commit: String,
}

/// Plays the campaign, or goes on with it. The code is 0 when all kills were survived, 1 when something does not hold,
/// and 75 (try again) when the time was over first.
pub(crate) async fn run(flags: Flags) -> Result<ExitCode> {
    let began = Instant::now();
    let program = flags.bin.clone().unwrap_or_else(daemon::binary);
    let folder = flags.folder.canonicalize().context("--folder")?;
    let new = u64::from(rand::rng().random::<u32>());
    let mut report = match &flags.report {
        Some(path) => Report::resume(path, &flags.commit, flags.seed, flags.kills, new)?,
        None => Report::new(&flags.commit, flags.seed.unwrap_or(new), flags.kills),
    };
    println!(
        "chaos: {} kills, MANYHANDS_CHAOS_SEED={}, commit {}",
        flags.kills, report.seed, report.commit
    );
    while report.kills() < flags.kills {
        if began.elapsed() >= Duration::from_secs(flags.seconds) {
            println!("chaos: {} of {} kills so far", report.kills(), flags.kills);
            return Ok(ExitCode::from(75));
        }
        let database = flags.databases[report.rounds as usize % flags.databases.len()];
        let order = Order {
            seed: report
                .seed
                .wrapping_mul(1_000_003)
                .wrapping_add(report.rounds),
            database,
            kills: flags.round.min(flags.kills - report.kills()),
            sessions: flags.sessions,
            calm: flags.calm,
        };
        let room = tempfile::Builder::new()
            .prefix("manyhands-chaos-")
            .tempdir_in(&folder)?;
        // The users of sandboxes pass through it to nothing else: the data directory is closed by the server itself.
        let outcome = round::play(order, &program, room.path()).await?;
        let counts = match database {
            Database::Sqlite => &mut report.sqlite,
            Database::Postgres => &mut report.postgres,
        };
        counts.merge(&outcome.counts);
        report.rounds += 1;
        report.seconds += outcome.took.as_secs_f64();
        report.violation = outcome.violation.clone();
        if let Some(path) = &flags.report {
            report.write(path)?;
        }
        println!(
            "chaos: round {} on {}: {} kills in {:.1} s, {} in all",
            report.rounds,
            database.name(),
            outcome.counts.get("kills"),
            outcome.took.as_secs_f64(),
            report.kills()
        );
        if let Some(violation) = outcome.violation {
            let kept = room.keep();
            println!("{}", report.table());
            println!(
                "chaos: after {} kills something does not hold",
                report.kills()
            );
            println!("chaos: folder: {}", kept.display());
            println!("chaos: data: {}", outcome.data.unwrap_or_default());
            println!(
                "chaos: MANYHANDS_CHAOS_SEED={}, round {} on {}",
                report.seed,
                report.rounds,
                database.name()
            );
            println!(
                "chaos: {}",
                violation.chars().take(SHOWN).collect::<String>()
            );
            return Ok(ExitCode::FAILURE);
        }
    }
    println!("{}", report.table());
    println!(
        "chaos: {} kills in {:.0} s, 0 violations",
        report.kills(),
        report.seconds
    );
    Ok(ExitCode::SUCCESS)
}
