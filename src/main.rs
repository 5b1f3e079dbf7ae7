//! The `manyhands` binary: the server's commands, and the client that a person meets first.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use manyhands_server::Failure;
use manyhands_server::commands::{
    audit, backup, config, doctor, egress, environment_keys, keys, serve, verify, workspaces,
};

/// The open, self-hosted platform for managed agents.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch an agent write and run a program in a sandbox.
    Quickstart(manyhands_cli::quickstart::Args),
    /// Give an agent one task and watch it.
    Run(manyhands_cli::run::Args),
    /// Say what a session waits for, and who has to act.
    Why(manyhands_cli::why::Args),
    /// Run the server.
    Serve(serve::Args),
    /// Look at what works here, what does not, and what to do about it.
    Doctor(doctor::Args),
    /// Print the effective configuration, without secrets.
    Config(config::Args),
    /// Make, list and revoke API keys.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Make, list and revoke the keys of environments, for workers.
    #[command(subcommand)]
    EnvironmentKeys(environment_keys::Command),
    /// Make, list and rename workspaces.
    #[command(subcommand)]
    Workspaces(workspaces::Command),
    /// See who did what with secrets and keys.
    Audit(audit::Args),
    /// See what sandboxes were refused, and where they went.
    #[command(subcommand)]
    Egress(egress::Command),
    /// Look for damage in everything that is stored.
    Verify(verify::Args),
    /// Copy everything that is stored to a file, while the server runs.
    Backup(backup::BackupArgs),
    /// Put a backup into a new data directory.
    Restore(backup::RestoreArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from);
    let done = done.and_then(|runtime| {
        let done = runtime.block_on(run(cli.command));
        // What still runs on threads of its own (a layer that is made, a checkpoint that is packed) is waited for by nobody,
        // and survives a kill: waiting for it would keep the next server from the port.
        runtime.shutdown_background();
        done
    });
    match done {
        Ok(status) => status,
        Err(error) => {
            let hint = error.downcast_ref::<Failure>();
            let hint = hint.map_or(String::new(), |it| format!("hint: {}\n", it.hint()));
            // Where nobody hears it there is nobody to be told so.
            let _ = write!(io::stderr().lock(), "error: {error:#}\n{hint}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => return manyhands_cli::run::run(args).await,
        Command::Verify(args) => return Ok(verify::run(args).await),
        Command::Backup(args) => return backup::backup(args).await,
        Command::Restore(args) => return backup::restore(args).await,
        Command::Quickstart(args) => manyhands_cli::quickstart::run(args).await,
        Command::Why(args) => manyhands_cli::why::run(args).await,
        Command::Serve(args) => serve::run(args).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Config(args) => config::run(args),
        Command::Audit(args) => audit::run(args).await,
        Command::Egress(command) => egress::run(command),
        Command::Keys(command) => keys::run(command).await,
        Command::EnvironmentKeys(command) => environment_keys::run(command).await,
        Command::Workspaces(command) => workspaces::run(command).await,
    }?;
    Ok(ExitCode::SUCCESS)
}
