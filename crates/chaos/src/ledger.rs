//! What ran, told by the commands themselves over a socket that is bound into their sandboxes: the truth for invariant I4.

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::plan::DOOR;

/// The socket's name in the folder that sandboxes see.
const SOCKET: &str = "ledger.sock";
/// This program's name in it.
const PROGRAM: &str = "manyhands-chaos";

/// How often each key was said.
pub(crate) type Lines = HashMap<String, u32>;

/// The ledger of one world.
#[derive(Debug)]
pub(crate) struct Ledger {
    folder: PathBuf,
    shared: Arc<Shared>,
    listener: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    lines: Mutex<Lines>,
    /// Whether commands are let go once their line is written.
    open: watch::Sender<bool>,
}

/// Where the socket is, seen from inside.
pub(crate) fn socket_inside() -> PathBuf {
    Path::new(DOOR).join(SOCKET)
}

impl Ledger {
    /// Opens a ledger with its socket and this program in a new folder, for sandboxes to see. One that is not `open`
    /// writes down what is said and lets nobody go on.
    pub(crate) fn open(folder: &Path, open: bool) -> Result<Self> {
        fs::create_dir(folder)?;
        fs::set_permissions(folder, Permissions::from_mode(0o755))?;
        let program = folder.join(PROGRAM);
        fs::copy(std::env::current_exe()?, &program).context("copying this program")?;
        fs::set_permissions(&program, Permissions::from_mode(0o755))?;
        let socket = folder.join(SOCKET);
        let listener = UnixListener::bind(&socket).context("the ledger's socket")?;
        // The users of sandboxes are strangers here.
        fs::set_permissions(&socket, Permissions::from_mode(0o666))?;
        let shared = Arc::new(Shared {
            lines: Mutex::default(),
            open: watch::Sender::new(open),
        });
        Ok(Self {
            folder: folder.to_owned(),
            listener: tokio::spawn(accept(listener, Arc::clone(&shared))),
            shared,
        })
    }

    /// The setting by which a server's sandboxes see the ledger.
    pub(crate) fn setting(&self) -> String {
        format!(
            "[[sandbox.read_only]]\nfrom = {:?}\nto = {DOOR:?}\n",
            self.folder.display().to_string()
        )
    }

    /// All that was said so far.
    pub(crate) fn lines(&self) -> Lines {
        self.shared.lines().clone()
    }

    /// Whether this key was said.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.shared.lines().contains_key(key)
    }

    /// Lets all who wait go on, and all who will come.
    pub(crate) fn let_go(&self) {
        self.shared.open.send_replace(true);
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Shared {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: UnixListener, shared: Arc<Shared>) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(hear(stream, Arc::clone(&shared)));
        }
    }
}

async fn hear(stream: UnixStream, shared: Arc<Shared>) {
    let mut stream = BufReader::new(stream);
    let mut key = String::new();
    // A command that is killed in the middle of its word has said nothing.
    if stream.read_line(&mut key).await.is_err() || !key.ends_with('\n') {
        return;
    }
    *shared.lines().entry(key.trim().to_owned()).or_default() += 1;
    let mut open = shared.open.subscribe();
    if open.wait_for(|open| *open).await.is_ok() {
        // Nobody may be there any more to hear it.
        let _ = stream.write_all(b"\n").await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_line_is_counted_before_its_speaker_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&folder.path().join("door"), false).unwrap();
        let socket = folder.path().join("door").join(SOCKET);
        let said = tokio::task::spawn_blocking(move || {
            (0..2)
                .map(|_| crate::say::run(&socket, "c1"))
                .collect::<Vec<_>>()
        });
        while ledger.lines().get("c1") != Some(&1) {
            tokio::task::yield_now().await;
        }
        assert!(!said.is_finished());
        ledger.let_go();
        let codes = said.await.unwrap();
        assert_eq!(codes, [std::process::ExitCode::SUCCESS; 2]);
        assert_eq!(ledger.lines()["c1"], 2);
    }
}
