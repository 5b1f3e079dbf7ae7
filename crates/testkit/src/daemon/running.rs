//! The child itself: ready or ended, signalled by pid, never left behind.

use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use hyper::Method;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};

use super::Failed;
use super::output::Output;
use crate::gate::PATIENCE;
use crate::http::Client;

/// A server that is up.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) pid: u32,
    pub(super) url: String,
    pub(super) output: Output,
    /// From the start to the first 200 of `/readyz`.
    pub(super) ready_after: Duration,
    child: Child,
    _watchdog: Watchdog,
}

impl Running {
    /// Starts the child and waits until it is ready or has ended.
    pub(super) async fn launch(mut command: Command) -> Result<Self, Failed> {
        let started = Instant::now();
        let program = command.as_std().get_program().to_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("starting {}: {error}", program.display()));
        let output = Output::default();
        output.follow(child.stdout.take());
        output.follow(child.stderr.take());
        let pid = child.id().expect("not waited for yet");
        let mut running = Self {
            pid,
            url: String::new(),
            output,
            ready_after: Duration::ZERO,
            child,
            _watchdog: Watchdog::over(pid),
        };
        let ready = tokio::time::timeout(PATIENCE, running.become_ready()).await;
        running.ready_after = started.elapsed();
        match ready {
            Ok(Ok(url)) => running.url = url,
            Ok(Err(status)) => {
                // The last lines may still be in the pipes.
                running.output.closed().await;
                let output = running.output.text();
                return Err(Failed { status, output });
            }
            Err(_) => panic!(
                "the server was not ready within {PATIENCE:?}; it said:\n{}",
                running.output.text()
            ),
        }
        Ok(running)
    }

    /// The URL it printed, once `/readyz` says 200, or how it ended before that.
    async fn become_ready(&mut self) -> Result<String, ExitStatus> {
        let output = self.output.clone();
        let ready = async {
            let url = output.url().await;
            let client = Client::new(&url);
            loop {
                let answer = client.send(Method::GET, "/readyz", "").await;
                if matches!(answer, Ok(answer) if answer.status == 200) {
                    return url;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::select! {
            url = ready => Ok(url),
            status = self.child.wait() => Err(status.expect("a child can be waited for")),
        }
    }

    pub(super) async fn end(self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.wait().await
    }

    pub(super) async fn wait(mut self) -> ExitStatus {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = status.unwrap_or_else(|_| {
            panic!(
                "the server did not end within {PATIENCE:?}; it said:\n{}",
                self.output.text()
            )
        });
        status.expect("a child can be waited for")
    }

    /// Waits until it ends by itself.
    pub(super) async fn exited(&mut self) -> ExitStatus {
        self.child.wait().await.expect("a child can be waited for")
    }

    pub(super) fn kill_now(mut self) {
        self.signal(Signal::KILL);
        let until = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        // It may have ended by itself, which the wait that follows reports.
        let _ = kill_process(pid.expect("a process id"), signal);
    }
}

/// Kills the server when this process is gone, however it goes.
///
/// A shell of its own process group waits for a line on a pipe whose other end only we hold; its
/// reading end of file means that we died.
#[derive(Debug)]
struct Watchdog {
    _shell: Child,
    _pipe: Option<ChildStdin>,
}

impl Watchdog {
    fn over(pid: u32) -> Self {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", "read -r _ || kill -9 \"$1\"", "watchdog"])
            .arg(pid.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .expect("a shell");
        let pipe = shell.stdin.take();
        Self {
            _shell: shell,
            _pipe: pipe,
        }
    }
}
