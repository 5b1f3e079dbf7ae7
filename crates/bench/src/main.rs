//! `manyhands-bench`: the release binary under load, each figure beside its floor, from one run.
//!
//! Server and model stub run in processes of their own; this program is the load generator and
//! reads the clock. It ends with 1 when a row could not be measured, and with 0 when a target is
//! only missed. What the numbers mean is in `docs/src/bench.md`.

mod floors;
mod process;
mod report;
mod rows;
mod sample;
mod stub;
mod subject;
mod tail;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use report::{Machine, Report, Row};
use subject::Setup;

#[derive(Parser)]
#[command(about = "Measures a manyhands server, each figure beside its floor")]
struct Flags {
    /// The server to measure; by default the one built beside this program
    #[arg(long, env = "MANYHANDS_BIN")]
    bin: Option<PathBuf>,
    /// The model stub; by default the one built beside this program
    #[arg(long, env = "MANYHANDS_MODEL_STUB")]
    stub: Option<PathBuf>,
    /// Where data directories are made: a folder on the disk to measure, not in memory
    #[arg(long, default_value = "/var/tmp")]
    folder: PathBuf,
    /// Where the figures are written as JSON; by default `bench.json` in the target folder
    #[arg(long)]
    json: Option<PathBuf>,
    /// Which groups of rows to measure; all by default
    #[arg(long, value_enum, value_delimiter = ',')]
    rows: Vec<Group>,
    /// Restarts for the start row
    #[arg(long, default_value_t = 20)]
    restarts: usize,
    /// Sessions created for the create row
    #[arg(long, default_value_t = 1000)]
    creates: usize,
    /// Turns for the time to first token
    #[arg(long, default_value_t = 500)]
    first_tokens: usize,
    /// Turns with a bash call in a warm sandbox
    #[arg(long, default_value_t = 100)]
    warm: usize,
    /// Turns with a bash call in a cold sandbox
    #[arg(long, default_value_t = 30)]
    cold: usize,
    /// Turns with calls beside a memory store, and as many without one, of each kind
    #[arg(long, default_value_t = 100)]
    remembering: usize,
    /// Sandboxes started for the time to their first output
    #[arg(long, default_value_t = 50)]
    starts: usize,
    /// Sandboxes alive at once
    #[arg(long, default_value_t = 200)]
    alive: usize,
    /// Requests through the egress proxy, one after the other
    #[arg(long, default_value_t = 2000)]
    proxied: usize,
    /// Sessions of each arm of the comparison of first tokens
    #[arg(long, default_value_t = 200)]
    provisions: usize,
    /// Megabytes of the package that its environment lists
    #[arg(long, default_value_t = 500)]
    layer: usize,
    /// Sessions at once for turns a second
    #[arg(long, default_value_t = 100)]
    sessions: usize,
    /// Turns of each of them
    #[arg(long, default_value_t = 40)]
    turns: usize,
    /// Sessions that start a turn in the same moment
    #[arg(long, default_value_t = 300)]
    crowd: usize,
    /// How often they do
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Events of the session with a long log
    #[arg(long, default_value_t = 100_000)]
    long: usize,
    /// How often it is woken by a server that has just started
    #[arg(long, default_value_t = 20)]
    wakes: usize,
    /// Sessions for appends a second
    #[arg(long, default_value_t = 64)]
    writers: usize,
    /// Streams that read one session at once
    #[arg(long, default_value_t = 1000)]
    readers: usize,
    /// Seconds of each appending and delivering row
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Sessions for the memory of idle sessions
    #[arg(long, default_value_t = 10_000)]
    idle_sessions: usize,
    /// Sessions in flight at a kill -9
    #[arg(long, default_value_t = 1000)]
    flights: usize,
    /// Streams for the memory of open streams
    #[arg(long, default_value_t = 1000)]
    streams: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Group {
    /// Start to first 200; idle memory
    Start,
    /// Creating sessions
    Create,
    /// Added time to first token
    FirstToken,
    /// Turns with a bash call
    Bash,
    /// What a memory store adds to a call
    MemoryStore,
    /// Sandboxes alone: starts, calls, many at once, checkpoints
    Sandboxes,
    /// The egress proxy against a direct request
    Proxy,
    /// The first token with a sandbox made first, and made when it is needed
    Lazy,
    /// Turns a second, and 300 sessions at once
    Turns,
    /// Pages and wakes of a session with a long log
    Long,
    /// Durable appends through HTTP
    Appends,
    /// Durable appends of the store itself, on both databases
    Store,
    /// Events to many streams
    FanOut,
    /// Memory per session and stream
    Memory,
    /// Sessions in flight, driven on after a kill -9
    Recovery,
}

// One thread: the generator shall leave a core to the server.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let flags = Flags::parse();
    process::raise_file_limit();
    let setup = Setup {
        server: given_or_sibling(&flags.bin, "manyhands")?,
        stub: given_or_sibling(&flags.stub, "manyhands-model-stub")?,
        folder: flags.folder.canonicalize().context("--folder")?,
    };
    // Pages of a program just built that are not on disk yet would count as memory it has written.
    std::fs::File::open(&setup.server)
        .and_then(|program| program.sync_all())
        .with_context(|| setup.server.display().to_string())?;
    let report = measure(&flags, &setup).await?;
    println!("{}", report.table());
    let json = match flags.json {
        Some(path) => path,
        None => default_json()?,
    };
    std::fs::write(&json, serde_json::to_string_pretty(&report)?)
        .with_context(|| format!("writing {}", json.display()))?;
    println!("figures written to {}", json.display());
    Ok(match report.failures.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

async fn measure(flags: &Flags, setup: &Setup) -> Result<Report> {
    let started = Instant::now();
    let mut report = Report {
        machine: machine(setup)?,
        seconds: 0.0,
        rows: vec![],
        failures: vec![],
    };
    let groups = match flags.rows.is_empty() {
        true => Group::value_variants(),
        false => &flags.rows,
    };
    for group in groups {
        eprintln!("measuring {group:?} …");
        match run(*group, flags, setup).await {
            Ok(rows) => report.rows.extend(rows),
            Err(error) => report.failures.push(format!("{group:?}: {error:#}")),
        }
    }
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

async fn run(group: Group, flags: &Flags, setup: &Setup) -> Result<Vec<Row>> {
    match group {
        Group::Start => rows::start::run(setup, flags.restarts).await,
        Group::Create => rows::create::run(setup, flags.creates).await,
        Group::FirstToken => {
            rows::first_token::run(setup, flags.first_tokens, flags.sessions).await
        }
        Group::Bash => rows::bash::run(setup, flags.warm, flags.cold).await,
        Group::MemoryStore => rows::memory_store::run(setup, flags.remembering).await,
        Group::Sandboxes => rows::sandboxes::run(setup, flags.starts, flags.alive).await,
        Group::Proxy => rows::proxy::run(setup, flags.proxied, flags.seconds).await,
        Group::Lazy => rows::lazy::run(setup, flags.provisions, flags.layer).await,
        Group::Turns => {
            let (crowd, rounds) = (flags.crowd, flags.rounds);
            rows::turns::run(setup, flags.sessions, flags.turns, crowd, rounds).await
        }
        Group::Long => rows::long::run(setup, flags.long, flags.wakes).await,
        Group::Appends => rows::appends::run(setup, flags.writers, flags.seconds).await,
        Group::Store => rows::store::run(setup, flags.writers, flags.seconds).await,
        Group::FanOut => rows::fan_out::run(setup, flags.readers, flags.seconds).await,
        Group::Memory => rows::memory::run(setup, flags.idle_sessions, flags.streams).await,
        Group::Recovery => rows::recovery::run(setup, flags.flights).await,
    }
}

fn machine(setup: &Setup) -> Result<Machine> {
    let version = Command::new(&setup.server).arg("--version").output();
    let version = version.with_context(|| format!("running {}", setup.server.display()))?;
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    Ok(Machine {
        version: String::from_utf8_lossy(&version.stdout).trim().to_owned(),
        cores: std::thread::available_parallelism()?.get(),
        kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
        file_system: process::file_system(&setup.folder),
        load: read("/proc/loadavg")
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_owned(),
        store: "SQLite",
    })
}

fn given_or_sibling(given: &Option<PathBuf>, name: &str) -> Result<PathBuf> {
    match given {
        Some(path) => Ok(path.clone()),
        None => stub::sibling(name),
    }
}

/// `bench.json` beside the profile's folder this program was built into.
fn default_json() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own
        .ancestors()
        .nth(2)
        .context("no folder for the figures")?;
    Ok(target.join("bench.json"))
}
