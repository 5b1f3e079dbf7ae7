//! A real `manyhands-sandboxd` in a process of its own, working in temporary directories.

use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use manyhands_sandboxd::frame::{self, Answer, Op, PROTOCOL, Reply, Request};
use manyhands_sandboxd::output::{Block, Output};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, socket};
use serde_json::{Value, json};

/// How long anything that must happen may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Supervisor {
    pub(crate) directory: tempfile::TempDir,
    child: Child,
}

impl Supervisor {
    pub(crate) fn start() -> Self {
        Self::with(&[], &[])
    }

    pub(crate) fn with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("workspace")).unwrap();
        let listener = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        bind(
            &listener,
            &SocketAddrUnix::new(directory.path().join("socket")).unwrap(),
        )
        .unwrap();
        let (mut ready, ready_theirs) = std::io::pipe().unwrap();
        let (listener, ready_theirs) = (inheritable(listener), inheritable(ready_theirs.into()));
        let child = Command::new(env!("CARGO_BIN_EXE_manyhands-sandboxd"))
            .args(["--listen-fd", &listener.as_raw_fd().to_string()])
            .args(["--ready-fd", &ready_theirs.as_raw_fd().to_string()])
            .args(["--instance", "test-instance"])
            .args([
                "--root",
                directory.path().join("workspace").to_str().unwrap(),
            ])
            .args(["--spill", directory.path().join("spill").to_str().unwrap()])
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        drop(ready_theirs);
        ready.read_exact(&mut [0]).expect("sandboxd becomes ready");
        Self { directory, child }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("workspace").join(name)
    }

    pub(crate) fn dial(&self) -> UnixStream {
        let stream = UnixStream::connect(self.directory.path().join("socket")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    pub(crate) fn connect(&self) -> Connection {
        let mut connection = Connection {
            stream: self.dial(),
            next: 1,
        };
        let hello = connection.ask(Op::Hello { protocol: PROTOCOL });
        assert_eq!(
            hello,
            Answer::Hello {
                protocol: PROTOCOL,
                instance: "test-instance".to_owned()
            }
        );
        connection
    }

    /// Waits for the process to end by itself.
    pub(crate) fn ended(&mut self) -> std::process::ExitStatus {
        let (sender, receiver) = std::sync::mpsc::channel();
        let pid = rustix::process::Pid::from_child(&self.child);
        std::thread::spawn(move || {
            let pidfd =
                rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
            let mut polled = [rustix::event::PollFd::new(
                &pidfd,
                rustix::event::PollFlags::IN,
            )];
            rustix::event::poll(&mut polled, None).unwrap();
            sender.send(()).unwrap();
        });
        receiver.recv_timeout(PATIENCE).expect("sandboxd ends");
        self.child.wait().unwrap()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) struct Connection {
    pub(crate) stream: UnixStream,
    next: u64,
}

impl Connection {
    /// Sends a request without waiting; returns its id.
    pub(crate) fn send(&mut self, op: Op) -> u64 {
        let id = self.next;
        self.next += 1;
        frame::write(&mut self.stream, &Request { id, op }).unwrap();
        id
    }

    pub(crate) fn reply(&mut self) -> Reply {
        frame::read(&mut self.stream).unwrap().expect("a reply")
    }

    pub(crate) fn ask(&mut self, op: Op) -> Answer {
        let id = self.send(op);
        let reply = self.reply();
        assert_eq!(reply.id, id);
        reply.answer
    }

    pub(crate) fn bash(&mut self, call_id: &str, command: &str) -> Output {
        self.run(call_id, json!({"command": command}))
    }

    pub(crate) fn run(&mut self, call_id: &str, input: Value) -> Output {
        match self.ask(execute(call_id, 1, "bash", input)) {
            Answer::Output { output } => output,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn execute(call_id: &str, epoch: i64, name: &str, input: Value) -> Op {
    Op::Execute {
        call_id: call_id.to_owned(),
        epoch,
        name: name.to_owned(),
        input,
        timeout_ms: 150_000,
    }
}

pub(crate) fn text(output: &Output) -> &str {
    match &output.content[..] {
        [Block::Text { text }] => text,
        other => panic!("not one text block: {other:?}"),
    }
}

/// Waits until a process is gone or only waits to be waited for.
pub(crate) fn gone(pid: &str) {
    let started = Instant::now();
    let stat = format!("/proc/{}/stat", pid.trim());
    while let Ok(line) = std::fs::read_to_string(&stat) {
        if line.contains(") Z ") {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "process {pid} still runs");
        std::thread::yield_now();
    }
}

fn inheritable(fd: OwnedFd) -> OwnedFd {
    let copy = fcntl_dupfd_cloexec(fd.as_fd(), 100).unwrap();
    fcntl_setfd(&copy, FdFlags::empty()).unwrap();
    copy
}
