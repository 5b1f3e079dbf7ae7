//! `bash`: one persistent shell, its calls in order (runtime TL-10 to TL-13).
//!
//! An actor owns the shell. The shell itself loops: it waits on a pipe for the word to go, reads the command from a
//! file in memory, evaluates it with standard input empty and its output on one pipe, and writes the exit status to
//! another. So a call ends when its command does, whatever the command leaves running (security TOOL-1), and what
//! is left running can go on writing.

mod job;
mod process;
mod variables;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::output::Output;
use crate::reaper::Reaper;
use crate::tail::Tail;
use crate::tools::{Place, Stopped};
use crate::tree::{Snapshot, kill_call};
pub use job::Job;
pub use process::Limits;
use process::{Read, Shell};
pub use variables::Variables;

/// What a command gets without a `timeout_ms` (runtime TL-10).
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);

const DEAD: &str = "bash: session terminated; restart required (call bash with restart: true)";

/// The way to the shell of this sandbox.
#[derive(Clone)]
pub struct Handle {
    messages: Sender<Message>,
    wake: Arc<OwnedFd>,
}

enum Message {
    Run(Job),
    Set(Variables),
    Interrupt(String),
    Exited(u64),
}

impl Handle {
    /// Starts the actor; the shell starts with the first command.
    ///
    /// # Errors
    /// When the system gives no thread or descriptor.
    pub fn start(place: Place, limits: Limits, reaper: Reaper) -> io::Result<Self> {
        let (messages, inbox) = channel();
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let handle = Self { messages, wake };
        let actor = Actor {
            place,
            limits,
            reaper,
            handle: handle.clone(),
            inbox,
            queue: VecDeque::new(),
            variables: Variables::default(),
            shell: State::None,
            generation: 0,
            running: None,
            left_behind: Vec::new(),
        };
        thread::Builder::new()
            .name("shell".to_owned())
            .spawn(move || actor.run())?;
        Ok(handle)
    }

    /// Queues a call; calls run in the order of this.
    pub fn submit(&self, job: Job) {
        self.send(Message::Run(job));
    }

    /// Ends a call, running or waiting.
    pub fn interrupt(&self, call_id: &str) {
        self.send(Message::Interrupt(call_id.to_owned()));
    }

    fn send(&self, message: Message) {
        // The actor lives as long as the process. A full event counter is as good a nudge as any.
        let _ = self.messages.send(message);
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

struct Actor {
    place: Place,
    limits: Limits,
    reaper: Reaper,
    handle: Handle,
    inbox: Receiver<Message>,
    queue: VecDeque<Job>,
    /// Of every shell that is started.
    variables: Variables,
    shell: State,
    generation: u64,
    running: Option<Running>,
    /// Output pipes of shells that are gone: drained for what still runs in their background.
    left_behind: Vec<OwnedFd>,
}

enum State {
    /// The next command starts one.
    None,
    Live(Shell),
    /// It ended on its own: only a restart makes a new one (runtime TL-12).
    Dead,
}

struct Running {
    job: Job,
    tail: Tail,
    before: Snapshot,
    timeout: Duration,
    deadline: Instant,
}

impl Actor {
    fn run(mut self) {
        loop {
            while self.running.is_none()
                && let Some(job) = self.queue.pop_front()
            {
                self.begin(job);
            }
            self.wait();
            self.take_messages();
            self.drain_left_behind();
            self.take_output();
            self.take_status();
            self.check_time();
        }
    }

    fn begin(&mut self, job: Job) {
        if let Err(stopped) = job.stop.check() {
            return (job.done)(Output::error(stopped.text("bash")));
        }
        if job.input.restart == Some(true) {
            self.drop_shell();
            let output = match self.start_shell() {
                Ok(shell) => {
                    self.shell = State::Live(shell);
                    Output::text("bash session restarted")
                }
                Err(error) => Output::error(format!("bash: could not start a shell: {error}")),
            };
            return (job.done)(output);
        }
        let command = job.input.command.as_deref().unwrap_or_default();
        if command.is_empty() {
            return (job.done)(Output::error("bash: command is required"));
        }
        if command.contains('\0') {
            return (job.done)(Output::error("bash: command must not contain NUL"));
        }
        let shell = match std::mem::replace(&mut self.shell, State::None) {
            State::Live(shell) => Ok(shell),
            State::None => self.start_shell(),
            State::Dead => {
                self.shell = State::Dead;
                return (job.done)(Output::error(DEAD));
            }
        };
        let mut shell = match shell {
            Ok(shell) => shell,
            Err(error) => {
                return (job.done)(Output::error(format!(
                    "bash: could not start a shell: {error}"
                )));
            }
        };
        // What the background wrote since the last command belongs to no call.
        while let Read::Some = shell.read_output(|_| {}) {}
        let before = Snapshot::now();
        let timeout = job
            .input
            .timeout_ms
            .filter(|ms| *ms > 0)
            .map_or(DEFAULT_TIMEOUT, Duration::from_millis);
        let outer = job.stop.deadline();
        let deadline = Instant::now()
            .checked_add(timeout)
            .map_or(outer, |own| own.min(outer));
        let sent = shell.send(command);
        self.shell = State::Live(shell);
        let tail = Tail::new(&self.place.spill);
        self.running = Some(Running {
            job,
            tail,
            before,
            timeout,
            deadline,
        });
        if let Err(error) = sent {
            self.end_call(Output::error(format!(
                "bash: could not reach the shell: {error}"
            )));
        }
    }

    fn start_shell(&mut self) -> io::Result<Shell> {
        self.generation += 1;
        let (handle, generation) = (self.handle.clone(), self.generation);
        let (place, variables) = (&self.place.root, &self.variables);
        let shell = Shell::start(place, variables, &self.limits, &self.reaper, move || {
            handle.send(Message::Exited(generation));
        });
        if shell.is_err() {
            // What was started of it ends, and is nobody's shell.
            self.generation += 1;
        }
        shell
    }

    /// Waits for a message, output, a status, or the time limit.
    fn wait(&self) {
        let timeout = self.running.as_ref().map(|running| {
            let left = running.deadline.saturating_duration_since(Instant::now());
            // Rounded up, so that a wake is never a moment early.
            let left = left.saturating_add(Duration::from_millis(1));
            Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        let mut fds: Vec<BorrowedFd<'_>> = vec![self.handle.wake.as_fd()];
        if let State::Live(shell) = &self.shell {
            fds.extend(shell.readable());
        }
        fds.extend(self.left_behind.iter().map(AsFd::as_fd));
        let mut polled: Vec<_> = fds
            .iter()
            .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
            .collect();
        // An interrupted wait is a wake like any other: everything is looked at again.
        let _ = poll(&mut polled, timeout.as_ref());
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.handle.wake, &mut count);
    }

    fn take_messages(&mut self) {
        while let Ok(message) = self.inbox.try_recv() {
            match message {
                Message::Run(job) => self.queue.push_back(job),
                Message::Set(variables) => self.set(variables),
                Message::Interrupt(id) => self.interrupt(&id),
                Message::Exited(generation) if generation == self.generation => self.shell_ended(),
                Message::Exited(_) => {}
            }
        }
    }

    fn interrupt(&mut self, id: &str) {
        let output = || Output::error(Stopped::Interrupted.text("bash"));
        if self
            .running
            .as_ref()
            .is_some_and(|running| running.job.call_id == id)
        {
            self.end_call(output());
        } else if let Some(at) = self.queue.iter().position(|job| job.call_id == id)
            && let Some(job) = self.queue.remove(at)
        {
            (job.done)(output());
        }
    }

    /// The shell ended without being told to: by `exit`, by `set -e`, or killed.
    fn shell_ended(&mut self) {
        self.take_output();
        // A status may have come just before the end.
        self.take_status();
        if let State::Live(shell) = std::mem::replace(&mut self.shell, State::Dead) {
            self.left_behind.extend(shell.into_output());
        }
        if let Some(running) = self.running.take() {
            let said = running.tail.finish();
            let text = if said.is_empty() {
                DEAD.to_owned()
            } else {
                format!("{said}\n{DEAD}")
            };
            (running.job.done)(Output::error(text));
        }
    }

    fn take_output(&mut self) {
        if let State::Live(shell) = &mut self.shell {
            let mut tail = self.running.as_mut().map(|running| &mut running.tail);
            // Bounded, so that a flood cannot keep interrupts and the time limit waiting.
            for _ in 0..64 {
                let more = shell.read_output(|bytes| {
                    if let Some(tail) = &mut tail {
                        tail.push(bytes);
                    }
                });
                if !matches!(more, Read::Some) {
                    break;
                }
            }
        }
    }

    fn take_status(&mut self) {
        if let State::Live(shell) = &mut self.shell
            && self.running.is_some()
            && let Some(status) = shell.read_status()
        {
            // All that the command wrote before its status is in the pipe by now; a background flood is not waited out.
            let waiting = shell.output_waiting();
            let mut taken = 0;
            if let Some(mut running) = self.running.take() {
                while taken < waiting
                    && matches!(
                        shell.read_output(|bytes| {
                            taken += bytes.len();
                            running.tail.push(bytes);
                        }),
                        Read::Some
                    )
                {}
                let text = running.tail.finish();
                let output = if status == 0 {
                    Output::text(text)
                } else {
                    Output::error(text)
                };
                (running.job.done)(output);
            }
        }
    }

    fn check_time(&mut self) {
        let Some(running) = &mut self.running else {
            return;
        };
        if Instant::now() < running.deadline {
            return;
        }
        let text = if running.job.stop.check() == Err(Stopped::TimedOut) {
            Stopped::TimedOut.text("bash")
        } else {
            format!(
                "bash: command timed out after {}s",
                running.timeout.as_secs_f64()
            )
        };
        let tail = std::mem::replace(&mut running.tail, Tail::new(&self.place.spill));
        let said = tail.finish();
        let text = if said.is_empty() {
            text
        } else {
            format!("{text}\n{said}")
        };
        self.end_call(Output::error(text));
    }

    /// Kills the running call and everything it started; the next one gets a fresh shell (runtime TL-11).
    fn end_call(&mut self, output: Output) {
        let Some(running) = self.running.take() else {
            return;
        };
        if let State::Live(shell) = std::mem::replace(&mut self.shell, State::None) {
            self.generation += 1;
            kill_call(shell.pid(), &running.before);
            self.left_behind.extend(shell.into_output());
        }
        (running.job.done)(output);
    }

    /// Ends the shell alone; what it left in the background lives on.
    fn drop_shell(&mut self) {
        if let State::Live(shell) = std::mem::replace(&mut self.shell, State::None) {
            self.generation += 1;
            shell.kill();
            self.left_behind.extend(shell.into_output());
        }
    }

    fn drain_left_behind(&mut self) {
        self.left_behind
            .retain(|fd| process::read_some(fd, |_| {}) != Read::Ended);
    }
}
