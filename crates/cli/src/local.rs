//! A server to talk to: one that answers already, or a child of ours.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::SecretString;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::client;

/// Where `manyhands serve` listens unless told otherwise.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:8787";

const PROBE: Duration = Duration::from_millis(500);
const ANSWER: Duration = Duration::from_secs(10);
const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(5);
const LOG: &str = "quickstart-server.log";

/// A server that answers, and the key to it.
#[derive(Debug)]
pub(crate) struct Server {
    /// Its base URL.
    pub(crate) url: String,
    /// The API key.
    pub(crate) key: SecretString,
    /// Its data directory, when it is on this machine and known.
    pub(crate) data_dir: Option<PathBuf>,
    child: Option<Child>,
}

/// What a person said about the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// Talk to this one, start none.
    pub(crate) url: Option<&'a str>,
    /// The key of the server at `url`.
    pub(crate) key: Option<&'a SecretString>,
    /// The data directory of a local one.
    pub(crate) data_dir: &'a Path,
}

/// The server that was asked for, or the one on the default address if the data directory's key is its key, or a new
/// one on a free port.
pub(crate) async fn find_or_start(wanted: Wanted<'_>) -> anyhow::Result<Server> {
    if let Some(url) = wanted.url {
        return named(url, wanted).await;
    }
    if let Some(key) = read_key(wanted.data_dir)
        && client::answers(DEFAULT_URL, PROBE).await
        && client::Client::new(DEFAULT_URL, key.clone())?
            .models()
            .await
            .is_ok()
    {
        return Ok(Server {
            url: DEFAULT_URL.to_owned(),
            key,
            data_dir: Some(wanted.data_dir.to_owned()),
            child: None,
        });
    }
    start(wanted.data_dir).await
}

/// The server that was asked for, or the one on the default address; none is started.
pub(crate) async fn find(wanted: Wanted<'_>) -> anyhow::Result<Server> {
    named(wanted.url.unwrap_or(DEFAULT_URL), wanted).await
}

async fn named(url: &str, wanted: Wanted<'_>) -> anyhow::Result<Server> {
    let (key, data_dir) = match wanted.key {
        Some(key) => (key.clone(), None),
        None => {
            let key = read_key(wanted.data_dir).with_context(|| {
                format!(
                    "no key for {url}: set MANYHANDS_API_KEY, or name its data directory with --data-dir ({} has no api-key file)",
                    wanted.data_dir.display()
                )
            })?;
            (key, Some(wanted.data_dir.to_owned()))
        }
    };
    if !client::answers(url, ANSWER).await {
        bail!("no server answers at {url}; \"manyhands serve\" starts one, --url names another");
    }
    Ok(Server {
        url: url.trim_end_matches('/').to_owned(),
        key,
        data_dir,
        child: None,
    })
}

async fn start(data_dir: &Path) -> anyhow::Result<Server> {
    let this = std::env::current_exe().context("cannot find this program's own file")?;
    let (log, log_path) = log_file(data_dir)?;
    let mut child = Command::new(this)
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        // Ctrl-C reaches this program, which then stops the server itself.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the server")?;
    let stdout = child.stdout.take().context("the server has no output")?;
    let url = tokio::time::timeout(START, listening(BufReader::new(stdout)))
        .await
        .unwrap_or_else(|_| Err(anyhow!("the server did not listen within {START:?}")))
        .map_err(|error| error.context(server_words(&log_path)))?;
    let key = read_key(data_dir).with_context(|| {
        format!(
            "the server runs, but {} cannot be read",
            data_dir.join("api-key").display()
        )
    })?;
    Ok(Server {
        url,
        key,
        data_dir: Some(data_dir.to_owned()),
        child: Some(child),
    })
}

/// Waits for the line that names the address.
async fn listening(output: impl tokio::io::AsyncBufRead + Unpin) -> anyhow::Result<String> {
    let mut lines = output.lines();
    while let Some(line) = lines.next_line().await? {
        if let Some((_, url)) = line.split_once("listening on ") {
            return Ok(url.trim().to_owned());
        }
    }
    bail!("the server ended before it listened")
}

/// The server's own reason, from the end of its log.
fn server_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    let lines: Vec<&str> = lines.into_iter().rev().collect();
    if lines.is_empty() {
        return "the server did not start and said nothing".to_owned();
    }
    format!(
        "the server did not start. It said:\n  {}",
        lines.join("\n  ")
    )
}

fn log_file(data_dir: &Path) -> anyhow::Result<(File, PathBuf)> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .with_context(|| format!("cannot create the data directory {}", data_dir.display()))?;
    let path = data_dir.join(LOG);
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok((file, path))
}

fn read_key(data_dir: &Path) -> Option<SecretString> {
    let text = fs::read_to_string(data_dir.join("api-key")).ok()?;
    let key = text.trim();
    (!key.is_empty()).then(|| SecretString::from(key))
}

impl Server {
    /// Whether this program started it.
    pub(crate) fn is_ours(&self) -> bool {
        self.child.is_some()
    }

    /// Lets it run on after this program. Gives its process id, if it is ours.
    pub(crate) fn keep(mut self) -> Option<u32> {
        let child = self.child.take()?;
        let id = child.id();
        // A dropped handle would kill it; the process table forgets this one when it ends.
        std::mem::forget(child);
        id
    }

    /// Stops it if it is ours: politely, and after 5 s not.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            kill_process(pid, Signal::TERM).context("cannot stop the server")?;
        }
        if tokio::time::timeout(STOP, child.wait()).await.is_err() {
            child.kill().await.context("cannot stop the server")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_address_is_read_from_among_other_lines() {
        let output = b"API key: shown once\nlistening on http://127.0.0.1:4321\nmore\n";
        assert_eq!(
            listening(&output[..]).await.unwrap(),
            "http://127.0.0.1:4321"
        );
        assert!(listening(&b"no such luck\n"[..]).await.is_err());
    }

    #[test]
    fn the_servers_own_reason_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let (_, log) = log_file(folder.path()).unwrap();
        assert!(server_words(&log).contains("said nothing"));
        fs::write(&log, "1\n2\n3\n4\n5\nport in use\n").unwrap();
        let words = server_words(&log);
        assert!(
            words.contains("port in use") && !words.contains('1'),
            "{words}"
        );
    }

    #[test]
    fn an_empty_key_file_is_no_key() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read_key(folder.path()).is_none());
        fs::write(folder.path().join("api-key"), "\n").unwrap();
        assert!(read_key(folder.path()).is_none());
        fs::write(folder.path().join("api-key"), "key\n").unwrap();
        assert!(read_key(folder.path()).is_some());
    }
}
