//! `manyhands-chaos`: `kill -9` of the real server and of its sandboxes under load, and what must be true after each.
//!
//! `run` is a campaign: rounds of sessions with streams, sends, interrupts, confirmations, custom tools, parallel calls,
//! deletions and archivals, while servers and sandboxes are killed at random instants. Clients remember every 2xx; what
//! ran is told by the commands themselves, to a ledger outside. `recover` measures how soon many sessions in flight are
//! driven on. `say` is what commands call. It ends with 1 when something does not hold, and the last lines say what.

mod campaign;
mod check;
mod counts;
mod fleet;
mod ledger;
mod life;
mod model;
mod plan;
mod recover;
mod report;
mod round;
mod say;
mod tail;
mod victims;
mod world;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    about = "Kills a manyhands server and its sandboxes under load, and checks what must hold"
)]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Kills until there were enough, and checks after each
    Run(campaign::Flags),
    /// Measures how soon sessions in flight are driven on after a `kill -9`
    Recover(recover::Flags),
    /// Says to the ledger that a command runs; called inside of sandboxes
    Say {
        /// The command's key
        key: String,
    },
}

fn main() -> ExitCode {
    let ended = match Flags::parse().command {
        // Without a runtime: it runs once for each command, where little is allowed.
        Command::Say { key } => return say::run(&ledger::socket_inside(), &key),
        Command::Run(flags) => block_on(campaign::run(flags)),
        Command::Recover(flags) => block_on(recover::run(flags)),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("manyhands-chaos: {error:#}");
        ExitCode::FAILURE
    })
}

fn block_on(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(work)
}

/// Lets this process, and the servers it starts, open as many files as the machine allows.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // Nothing is lowered: if it fails, a campaign of many connections says so.
    let _ = setrlimit(Resource::Nofile, raised);
}
