//! A provider with a data directory of its own, and a look at its sandboxes from outside.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use manyhands_hands::provider::namespace::{Config, Namespace};
use manyhands_hands::{Block, Call, Error, Output, Provider, Recipe, Sandbox};
use serde_json::{Value, json};

/// How long anything that must happen may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// So long a sandbox may rest where a test is about that: no stall of the machine is as long.
pub(crate) const IDLE: Duration = Duration::from_secs(30);

/// Lets this time pass at once, for all that waits for a time in this runtime, which has one thread.
pub(crate) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Waits until the provider of a sandbox has given it up, so that the test alone still has it.
pub(crate) async fn until_given_up(sandbox: &Arc<dyn Sandbox>) {
    let given_up = async {
        while Arc::strong_count(sandbox) > 1 {
            tokio::task::yield_now().await;
        }
    };
    let given_up = tokio::time::timeout(PATIENCE, given_up);
    given_up.await.expect("its provider gives it up");
}

pub(crate) struct Host {
    pub(crate) data: tempfile::TempDir,
    pub(crate) provider: Namespace,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let data = data();
        let mut config = Config::new(data.path());
        change(&mut config);
        Self {
            data,
            provider: Namespace::new(config),
        }
    }

    pub(crate) async fn sandbox(&self, session: &str) -> Arc<dyn Sandbox> {
        self.provider
            .provision(&Recipe::new(session, 1))
            .await
            .unwrap()
    }

    pub(crate) fn folder(&self, session: &str) -> PathBuf {
        self.data.path().join("sandboxes").join(session)
    }

    /// The text of a file that a session's sandbox has written, as the server reads it.
    pub(crate) async fn read(&self, session: &str, path: &str) -> String {
        let tree = self.provider.writable(session).await.unwrap();
        let (file, _) = tree
            .expect("files")
            .open_file(Path::new(path))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        std::io::read_to_string(file).unwrap()
    }

    /// The process that is process 1 of a session's sandbox, as the host numbers it.
    pub(crate) fn process(&self, session: &str) -> Option<rustix::process::Pid> {
        let stream = UnixStream::connect(self.folder(session).join("socket")).ok()?;
        let pid = rustix::net::sockopt::socket_peercred(&stream).unwrap().pid;
        // For a moment a socket may outlive who listened on it: in a process that is about to become another program.
        let flags = rustix::process::PidfdFlags::empty();
        let process = rustix::process::pidfd_open(pid, flags).ok()?;
        let ended = rustix::event::PollFlags::IN;
        let mut polled = [rustix::event::PollFd::new(&process, ended)];
        let at_once = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let ended = rustix::event::poll(&mut polled, Some(&at_once)).unwrap();
        (ended == 0).then_some(pid)
    }

    /// Ends a session's sandbox behind the provider's back.
    pub(crate) fn lose(&self, session: &str) {
        let pid = self.process(session).expect("a live sandbox");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        until_gone(pid);
    }

    /// A line of the status of that process.
    pub(crate) fn status(&self, session: &str, name: &str) -> String {
        let pid = self
            .process(session)
            .expect("a live sandbox")
            .as_raw_nonzero();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("{name} in {status}"))
            .trim()
            .replace('\t', " ")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let entries = std::fs::read_dir(self.data.path().join("sandboxes"));
        for entry in entries.into_iter().flatten().flatten() {
            if let Some(pid) = self.process(&entry.file_name().to_string_lossy()) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                until_gone(pid);
            }
        }
        // Once the folder is gone, nobody knows of their control groups.
        manyhands_testkit::sandboxes::end_groups(self.data.path());
    }
}

/// A data directory of a test's own, beside a `sandboxd` that is built.
pub(crate) fn data() -> tempfile::TempDir {
    let sandboxd = program("manyhands-sandboxd");
    assert!(
        sandboxd.is_file(),
        "{} is not there: build it first with \"cargo build --package manyhands-sandboxd\"",
        sandboxd.display()
    );
    tempfile::tempdir().unwrap()
}

/// Why a session gets no sandbox.
pub(crate) async fn refusal(provider: &impl Provider, session: &str) -> Error {
    let made = provider.provision(&Recipe::new(session, 1)).await;
    made.err().expect("it is refused")
}

/// Waits until a process has ended.
pub(crate) fn until_gone(pid: rustix::process::Pid) {
    let Ok(handle) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
        return;
    };
    let mut polled = [rustix::event::PollFd::new(
        &handle,
        rustix::event::PollFlags::IN,
    )];
    let limit = rustix::event::Timespec {
        tv_sec: PATIENCE.as_secs() as i64,
        tv_nsec: 0,
    };
    let ended = loop {
        match rustix::event::poll(&mut polled, Some(&limit)) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other,
        }
    };
    assert_eq!(ended, Ok(1), "process {pid:?} ends");
}

/// A program of the workspace's build, from beside or above the folder of the tests.
pub(crate) fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().and_then(Path::parent).unwrap().join(name)
}

pub(crate) fn call(id: &str, command: &str) -> Call {
    call_with(id, json!({"command": command}))
}

pub(crate) fn call_with(id: &str, input: Value) -> Call {
    Call {
        call_id: id.to_owned(),
        epoch: 1,
        name: "bash".to_owned(),
        input,
        deadline: Duration::from_secs(60),
    }
}

/// Runs a command under an id of its own.
pub(crate) async fn run(sandbox: &Arc<dyn Sandbox>, command: &str) -> Output {
    static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let output = sandbox
        .execute(&call(&format!("run-{number}"), command))
        .await;
    output.unwrap_or_else(|error| panic!("{command}: {error}"))
}

pub(crate) fn text(output: &Output) -> &str {
    match &output.content[..] {
        [Block::Text { text }] => text,
        other => panic!("not one text block: {other:?}"),
    }
}
