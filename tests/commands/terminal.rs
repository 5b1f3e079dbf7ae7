//! A program that is watched while it runs, on pipes or on a terminal of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::PROGRAM;

/// A guard against waiting for ever: what ends well never takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running command.
pub(crate) struct Watched {
    child: Child,
    /// What it printed, in pieces.
    output: mpsc::UnboundedReceiver<Vec<u8>>,
    seen: String,
    keyboard: Option<File>,
}

impl Watched {
    /// Starts a command whose two outputs are pipes, so that nobody can be asked.
    pub(crate) fn on_pipes(args: &[&str]) -> Self {
        let (read, write) = std::io::pipe().expect("a pipe");
        let mut command = command(args);
        command.stdin(Stdio::null());
        command.stdout(write.try_clone().expect("a pipe's end"));
        command.stderr(write);
        Self::start(command, read, None)
    }

    /// Starts a command on a terminal: a person can be asked.
    pub(crate) fn on_terminal(args: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).expect("a terminal for us");
        unlockpt(&master).expect("a terminal that opens");
        let name = ptsname(&master, Vec::new()).expect("a terminal with a name");
        let name = name.to_str().expect("a name that is text").to_owned();
        let screen = || File::options().read(true).write(true).open(&name);
        let mut command = command(args);
        command.stdin(screen().expect("the terminal's other end"));
        command.stdout(screen().expect("the terminal's other end"));
        command.stderr(screen().expect("the terminal's other end"));
        let keyboard = File::from(master);
        let read = keyboard.try_clone().expect("the terminal's end");
        Self::start(command, read, Some(keyboard))
    }

    fn start(
        mut command: Command,
        mut read: impl Read + Send + 'static,
        keyboard: Option<File>,
    ) -> Self {
        let child = command.spawn().expect("it starts");
        // The ends that the child got must not stay open here, or its end would not be seen.
        drop(command);
        let (send, output) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = read.read(&mut piece) {
                if send.send(piece[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            output,
            seen: String::new(),
            keyboard,
        }
    }

    /// Waits until it has printed this text; gives all it has printed so far.
    ///
    /// # Panics
    /// When it ends before, or takes too long.
    pub(crate) async fn prints(&mut self, text: &str) -> String {
        while !self.seen.contains(text) {
            let piece = tokio::time::timeout(PATIENCE, self.output.recv()).await;
            match piece {
                Ok(Some(piece)) => self.seen.push_str(&String::from_utf8_lossy(&piece)),
                Ok(None) => panic!("it ended without saying {text:?}:\n{}", self.seen),
                Err(_) => panic!("it did not say {text:?} in time:\n{}", self.seen),
            }
        }
        self.seen.clone()
    }

    /// Types a line.
    pub(crate) fn types(&mut self, line: &str) {
        let keyboard = self.keyboard.as_mut().expect("it runs on a terminal");
        writeln!(keyboard, "{line}").expect("typed");
    }

    /// Does what Ctrl-C does.
    pub(crate) fn ctrl_c(&self) {
        let id = self.child.id().expect("it runs");
        let pid = Pid::from_raw(id.cast_signed()).expect("a process id");
        kill_process(pid, Signal::INT).expect("a signal");
    }

    /// Waits for its end; gives its exit status and all it printed.
    ///
    /// # Panics
    /// When it does not end in time.
    pub(crate) async fn ends(mut self) -> (ExitStatus, String) {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("it does not end:\n{}", self.seen));
        while let Ok(Some(piece)) = tokio::time::timeout(PATIENCE, self.output.recv()).await {
            self.seen.push_str(&String::from_utf8_lossy(&piece));
        }
        (status.expect("an exit status"), self.seen)
    }
}

/// The program with nothing of this test's environment but what programs need.
fn command(args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(args).env_clear().kill_on_drop(true);
    for name in ["PATH", "HOME"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command
}
