//! Connections from servers: many over a sandbox's life, several at once.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::bridge::Keeper;
use crate::frame::{self, Answer, HANDSHAKE_LIMIT, Op, PROTOCOL, Reply, Request};
use crate::journal::Journal;
use crate::output::Output;
use crate::shell::{self, Job};
use crate::tools::{self, Input, Place};

/// A server that does not take a reply for this long has lost its connection.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// What a `sandboxd` is made of.
pub struct Parts {
    /// Unique for this start.
    pub instance: String,
    /// Where the tools work.
    pub place: Place,
    /// The way to the shell.
    pub shell: shell::Handle,
    /// How long it stays without a connection or a running call.
    pub idle_limit: Duration,
    /// Whose connections are taken, where others could connect too.
    pub keeper: Option<Keeper>,
}

/// Serves connections until a server says shutdown or the idle limit passes; then the process ends.
///
/// # Errors
/// When no more connections can be taken.
pub fn serve(listener: &UnixListener, parts: Parts) -> io::Result<()> {
    let idle_limit = parts.idle_limit;
    let here = Arc::new(Here {
        parts,
        journal: Journal::default(),
        presence: Presence::default(),
    });
    let watched = Arc::clone(&here);
    thread::Builder::new()
        .name("idle".to_owned())
        .spawn(move || {
            watched.presence.wait_idle(idle_limit);
            std::process::exit(0);
        })?;
    loop {
        let (stream, _) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // The peer gave up meanwhile.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        if here
            .parts
            .keeper
            .is_some_and(|keeper| !keeper.is_at(&stream))
        {
            continue;
        }
        let here = Arc::clone(&here);
        // Without a thread the connection is dropped, which tells the server to try again.
        let _ = thread::Builder::new()
            .name("connection".to_owned())
            .spawn(move || {
                let _present = Present::of(&here);
                // A connection that fails is one the server makes anew: there is nobody to tell.
                let _ = here.connection(stream);
            });
    }
}

struct Here {
    parts: Parts,
    journal: Journal,
    presence: Presence,
}

/// The writing half of a connection; replies are whole frames.
type Replies = Arc<Mutex<UnixStream>>;

impl Here {
    fn connection(self: &Arc<Self>, mut stream: UnixStream) -> Result<(), frame::Error> {
        stream.set_read_timeout(Some(HANDSHAKE_LIMIT))?;
        stream.set_write_timeout(Some(WRITE_LIMIT))?;
        let replies: Replies = Arc::new(Mutex::new(stream.try_clone()?));
        match frame::read(&mut stream)? {
            Some(Request {
                id,
                op: Op::Hello { protocol: PROTOCOL },
            }) => {
                let instance = self.parts.instance.clone();
                reply(
                    &replies,
                    id,
                    Answer::Hello {
                        protocol: PROTOCOL,
                        instance,
                    },
                );
            }
            Some(Request {
                id,
                op: Op::Hello { protocol },
            }) => {
                let reason =
                    format!("version {protocol} of the control channel is not spoken here");
                reply(&replies, id, Answer::Refused { reason });
                return Ok(());
            }
            Some(_) | None => return Ok(()),
        }
        stream.set_read_timeout(None)?;
        while let Some(request) = frame::read::<Request>(&mut stream)? {
            self.request(request, &replies);
        }
        Ok(())
    }

    fn request(self: &Arc<Self>, Request { id, op }: Request, replies: &Replies) {
        let answer = match op {
            Op::Execute {
                call_id,
                epoch,
                name,
                input,
                timeout_ms,
            } => {
                let to = Arc::clone(replies);
                let waiter = Box::new(move |output: &Output| {
                    reply(
                        &to,
                        id,
                        Answer::Output {
                            output: output.clone(),
                        },
                    );
                });
                let limit = Duration::from_millis(timeout_ms);
                match self.journal.begin(&call_id, epoch, limit, waiter) {
                    Ok(Some(stop)) => return self.start(call_id, &name, &input, stop),
                    Ok(None) => return,
                    Err(answer) => answer,
                }
            }
            Op::Kill { call_id, epoch } => match self.journal.interrupt(&call_id, epoch) {
                Ok(true) => {
                    self.parts.shell.interrupt(&call_id);
                    Answer::Done
                }
                Ok(false) => Answer::Done,
                Err(answer) => answer,
            },
            Op::Forget { call_ids, epoch } => self
                .journal
                .forget(&call_ids, epoch)
                .map_or_else(|answer| answer, |()| Answer::Done),
            Op::Set { variables, epoch } => match self.journal.see(epoch) {
                Ok(()) if variables.are_valid() => {
                    self.parts.shell.set(variables);
                    Answer::Done
                }
                Ok(()) => Answer::Refused {
                    reason: "these are no variables of a shell".to_owned(),
                },
                Err(answer) => answer,
            },
            Op::Shutdown { epoch } => match self.journal.see(epoch) {
                Ok(()) => {
                    reply(replies, id, Answer::Done);
                    std::process::exit(0);
                }
                Err(answer) => answer,
            },
            Op::Hello { .. } => Answer::Refused {
                reason: "hello was said already".to_owned(),
            },
        };
        reply(replies, id, answer);
    }

    /// Runs a call that the journal has marked started.
    fn start(
        self: &Arc<Self>,
        call_id: String,
        name: &str,
        input: &serde_json::Value,
        stop: Arc<tools::Stop>,
    ) {
        let here = Arc::clone(self);
        let present = Present::of(self);
        let input = match Input::parse(name, input) {
            Ok(input) => input,
            Err(text) => return self.journal.finish(&call_id, Output::error(text)),
        };
        if let Input::Bash(input) = input {
            let id = call_id.clone();
            let done = Box::new(move |output| {
                here.journal.finish(&id, output);
                drop(present);
            });
            return self.parts.shell.submit(Job {
                call_id,
                input,
                stop,
                done,
            });
        }
        let (id, name) = (call_id.clone(), name.to_owned());
        let spawned = thread::Builder::new()
            .name("tool".to_owned())
            .spawn(move || {
                let run = AssertUnwindSafe(|| tools::run(&input, &here.parts.place, &stop));
                // A tool that panics ends its call, not the sandbox (security OPS-2).
                let output = catch_unwind(run)
                    .unwrap_or_else(|_| Output::error(format!("tool '{name}' failed")));
                here.journal.finish(&id, output);
                drop(present);
            });
        if let Err(error) = spawned {
            self.journal.finish(
                &call_id,
                Output::error(format!("the tool could not be started: {error}")),
            );
        }
    }
}

/// Sends a reply. One that cannot be sent ends the connection; the server asks again on the next one.
fn reply(to: &Replies, id: u64, answer: Answer) {
    let mut stream = to.lock().unwrap_or_else(PoisonError::into_inner);
    if frame::write(&mut *stream, &Reply { id, answer }).is_err() {
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
}

/// Counts what keeps the sandbox alive: connections and running calls.
#[derive(Default)]
struct Presence {
    count: Mutex<usize>,
    changed: Condvar,
}

impl Presence {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self) {
        *self.lock() += 1;
        self.changed.notify_all();
    }

    fn remove(&self) {
        *self.lock() -= 1;
        self.changed.notify_all();
    }

    /// Returns once nothing has been present for `limit`.
    fn wait_idle(&self, limit: Duration) {
        let mut count = self.lock();
        loop {
            count = self
                .changed
                .wait_while(count, |count| *count > 0)
                .unwrap_or_else(PoisonError::into_inner);
            let waited = self
                .changed
                .wait_timeout_while(count, limit, |count| *count == 0);
            let (left, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() {
                return;
            }
            count = left;
        }
    }
}

/// Keeps the sandbox alive while it exists.
struct Present(Arc<Here>);

impl Present {
    fn of(here: &Arc<Here>) -> Self {
        here.presence.add();
        Self(Arc::clone(here))
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.presence.remove();
    }
}
