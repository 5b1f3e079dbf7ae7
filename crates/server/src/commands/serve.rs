//! `manyhands serve`: a server until Ctrl-C or SIGTERM.

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use secrecy::ExposeSecret;
use tokio::signal::unix::{SignalKind, signal};

use super::out::Out;
use crate::config::{Config, Flags};
use crate::server::{Overrides, Server};
use crate::{keys, telemetry};

/// What `manyhands serve` is told.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// Where to listen, where to keep everything, which database.
    #[command(flatten)]
    pub flags: Flags,
}

/// Serves until it is told to stop. Prints `listening on http://ADDR:PORT` when it answers.
///
/// # Errors
/// When the server cannot start; see [`Server::start`].
pub async fn run(args: Args) -> anyhow::Result<()> {
    telemetry::log();
    #[cfg(feature = "failpoints")]
    let _armed = crate::failpoint::arm()?;
    // Both are heard from here on: a stop during the start is not lost.
    let mut interrupt = signal(SignalKind::interrupt()).context("Ctrl-C cannot be heard")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be heard")?;
    leave_no_cores();
    allow_many_files();
    let config = Config::load(args.flags)?;
    let (listen, data_dir, drain) = (config.listen, config.data_dir.clone(), config.drain);
    let server = tokio::select! {
        started = Server::start(config, Overrides::default()) => started?,
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    if !listen.ip().is_loopback() {
        tracing::warn!(
            "{listen} can be reached from other machines, and keys travel unencrypted: put TLS in front"
        );
    }
    if server.is_scripted() {
        tracing::warn!(
            "no model key is configured: claude-* is answered by a script; set ANTHROPIC_API_KEY for a model"
        );
    }
    announce(&server, &keys::path(&data_dir).display().to_string())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping");
    let stopped = async {
        server.drain();
        tokio::time::sleep(drain).await;
        server.stop().await;
    };
    tokio::select! {
        () = stopped => {}
        _ = interrupt.recv() => tracing::warn!("told to stop again: ending at once"),
        _ = terminate.recv() => tracing::warn!("told to stop again: ending at once"),
    }
    Ok(())
}

fn announce(server: &Server, key_file: &str) -> anyhow::Result<()> {
    let mut out = Out::standard();
    if let Some(key) = server.first_key() {
        out.line(format_args!(
            "API key (shown once; also in {key_file}): {}",
            key.expose_secret()
        ));
    }
    out.line(format_args!("listening on http://{}", server.address()));
    out.finish()
}

/// A core file would hold every secret that was in memory (security CRED-2). No core is written to a file smaller than a page,
/// and none at all is handed to a program where the bound is exactly one byte.
fn leave_no_cores() {
    let bound = Rlimit {
        current: Some(1),
        maximum: Some(1),
    };
    if let Err(error) = setrlimit(Resource::Core, bound) {
        tracing::warn!(%error, "a crash of this server may leave a core file with secrets in it");
    }
}

/// Each stream is an open file: takes as many as the machine gives without asking.
fn allow_many_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    ) {
        tracing::debug!(%error, "the limit on open files stays as it is");
    }
}
