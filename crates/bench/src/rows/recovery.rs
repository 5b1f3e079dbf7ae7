//! `kill -9` with many sessions in flight: how soon each is driven on, or says what it waits for.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tokio::process::Command;

use crate::report::Row;
use crate::stub::sibling;
use crate::subject::Setup;

/// What `manyhands-chaos recover --json` prints.
#[derive(Deserialize)]
struct Recovery {
    /// Seconds until the server was ready again.
    start: f64,
    figures: Vec<Figures>,
}

#[derive(Deserialize)]
struct Figures {
    /// `None` for all sessions.
    phase: Option<String>,
    sessions: usize,
    p50: f64,
    p99: f64,
}

/// Lets the chaos harness do it, which knows how to keep sessions in each phase.
pub(crate) async fn run(setup: &Setup, sessions: usize) -> Result<Vec<Row>> {
    let recovered = Command::new(sibling("manyhands-chaos")?)
        .args(["recover", "--json", "--sessions", &sessions.to_string()])
        .arg("--bin")
        .arg(&setup.server)
        .arg("--folder")
        .arg(&setup.folder)
        .kill_on_drop(true)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&recovered.stderr);
    ensure!(recovered.status.success(), "{said}");
    let recovery: Recovery = serde_json::from_slice(&recovered.stdout)?;
    let phases = recovery.figures.iter().filter_map(|row| {
        let phase = row.phase.as_deref()?;
        Some(format!("{phase} {:.1} s", row.p99))
    });
    let phases: Vec<String> = phases.collect();
    let all = recovery.figures.iter().find(|row| row.phase.is_none());
    let all = all.context("no figures for all sessions")?;
    let row = |name: &str, seconds: f64, limit: f64| {
        Row::new(name, seconds * 1e3, "ms", all.sessions).below(limit)
    };
    Ok(vec![
        row("kill -9 to driven on, p50", all.p50, 2_000.0)
            .note(format!("ready again after {:.2} s", recovery.start)),
        row("kill -9 to driven on, p99", all.p99, 10_000.0)
            .note(format!("by phase: {}", phases.join(", "))),
    ])
}
