//! The model stub in a process of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use manyhands_testkit::http::Client;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A running `manyhands-model-stub`; it ends with us.
pub(crate) struct Stub {
    process: Child,
    url: String,
}

/// What a stub has been asked so far.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
pub(crate) struct Stats {
    /// Requests for a message.
    pub(crate) hits: u64,
    /// Those it answered with an error.
    pub(crate) refused: u64,
    /// Bytes of their bodies.
    pub(crate) received_bytes: u64,
}

impl Stub {
    /// Starts one with these flags, such as `--mode`.
    pub(crate) async fn start(program: &Path, flags: &[&str]) -> Result<Self> {
        let mut process = Command::new(program)
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let stdout = process.stdout.take().context("the stub's output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await?;
        let url = line.trim().strip_prefix("listening on ");
        let url = url
            .context("the stub did not say where it listens")?
            .to_owned();
        Ok(Self { process, url })
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Result<u32> {
        self.process.id().context("the stub has ended")
    }

    /// A client that talks to it as the server does.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.url)
            .header("x-api-key", "stub")
            .header("anthropic-version", "2026-10-21")
    }

    /// What it has been asked so far.
    pub(crate) async fn stats(&self) -> Result<Stats> {
        let answer = self.client().send(hyper::Method::GET, "/stats", "").await?;
        Ok(serde_json::from_slice(&answer.body)?)
    }
}

/// A program built into the same folder as this one.
pub(crate) fn sibling(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.with_file_name(name);
    anyhow::ensure!(path.is_file(), "{} is not built", path.display());
    Ok(path)
}
