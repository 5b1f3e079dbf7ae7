//! A live sandbox: its process, the connection to it, and when it was last used.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use manyhands_sandboxd::frame::{Answer, Op};
use manyhands_sandboxd::output::Output;
use rustix::process::{Signal, pidfd_send_signal};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::hold::Hold;
use super::link::{Absent, Failed, Link, Peer};
use super::process::waitable;
use super::{SOCKET, at};
use crate::Error;
use crate::provider::{Call, Sandbox};

/// How long ending a sandbox may take.
const END_LIMIT: Duration = Duration::from_secs(10);

pub(super) struct Live {
    session: String,
    instance: String,
    uid: u32,
    folder: OwnedFd,
    /// The highest epoch for which this server has used it.
    owner: AtomicI64,
    /// Beyond a call's own limit, this is how long its answer may take before the sandbox counts as lost (TOOL-3).
    grace: Duration,
    process: AsyncFd<OwnedFd>,
    /// It could not be reached any more. A process that was killed closes its connections a while before it has ended.
    gone: AtomicBool,
    /// Replaced when the connection is lost but the process lives.
    link: tokio::sync::Mutex<Arc<Link>>,
    used: Mutex<Used>,
    /// Told when the last running call ends.
    rested: Notify,
}

struct Used {
    running: usize,
    last: Instant,
}

impl Live {
    /// Connects to the sandbox of a session if `instance` of it runs. Another instance, which no record is about, and
    /// one that does not answer are ended.
    pub(super) async fn attach(
        session: &str,
        folder: OwnedFd,
        uid: u32,
        instance: &str,
        owner: i64,
        grace: Duration,
    ) -> Result<Option<Arc<Self>>, Error> {
        let fail = |error| Error::io(format!("reach the sandbox of {session}"), error);
        let unwanted = |process: &OwnedFd, why: &str| {
            tracing::warn!(
                session.id = session,
                why,
                "ending a sandbox that cannot be used"
            );
            // It may be ending by itself.
            let _ = pidfd_send_signal(process, Signal::KILL);
        };
        match Link::open(&at(&folder, SOCKET), uid).await {
            Ok(Peer {
                link,
                instance: found,
                process,
            }) if found == instance => Ok(Some(Arc::new(Self {
                session: session.to_owned(),
                instance: found,
                uid,
                folder,
                owner: AtomicI64::new(owner),
                grace,
                process: waitable(process).map_err(fail)?,
                gone: AtomicBool::new(false),
                link: tokio::sync::Mutex::new(Arc::new(link)),
                used: Mutex::new(Used {
                    running: 0,
                    last: Instant::now(),
                }),
                rested: Notify::new(),
            }))),
            Ok(Peer { process, .. }) => {
                unwanted(&process, "it is another instance than the recorded one");
                Ok(None)
            }
            Err(Absent::Mute { process, why }) => {
                unwanted(&process, &why);
                Ok(None)
            }
            Err(Absent::Nobody) => Ok(None),
            Err(Absent::Stranger { uid }) => {
                tracing::warn!(
                    session.id = session,
                    uid,
                    "a process of another user listens in the sandbox's place"
                );
                Ok(None)
            }
            Err(Absent::Io(error)) => Err(fail(error)),
        }
    }

    pub(super) fn instance(&self) -> &str {
        &self.instance
    }

    pub(super) fn session(&self) -> &str {
        &self.session
    }

    /// Whether its process runs and can be reached, as far as was seen.
    pub(super) fn is_up(&self) -> bool {
        if self.gone.load(Ordering::Acquire) {
            return false;
        }
        let mut polled = [rustix::event::PollFd::new(
            self.process.get_ref(),
            rustix::event::PollFlags::IN,
        )];
        let at_once = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        matches!(rustix::event::poll(&mut polled, Some(&at_once)), Ok(0))
    }

    /// Returns once its process has ended.
    pub(super) async fn ended(&self) {
        // A wait that fails cannot be told from an end; whoever acts on it looks again.
        let _ = self.process.readable().await;
    }

    /// Ends everything inside and waits until it has.
    pub(super) async fn end(&self) -> Result<(), Error> {
        let fail = |error: std::io::Error| {
            Error::io(format!("end the sandbox of {}", self.session), error)
        };
        match pidfd_send_signal(self.process.get_ref(), Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(fail(error.into())),
        }
        match tokio::time::timeout(END_LIMIT, self.ended()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(fail(std::io::ErrorKind::TimedOut.into())),
        }
    }

    /// The highest epoch for which this server has used it.
    pub(super) fn owner(&self) -> i64 {
        self.owner.load(Ordering::Acquire)
    }

    /// This server uses it for `epoch` from now on.
    pub(super) fn own(&self, epoch: i64) {
        self.owner.fetch_max(epoch, Ordering::AcqRel);
    }

    /// Tells the sandbox the epoch of its owner: from its answer on it obeys no older one.
    pub(super) async fn announce(&self, epoch: i64) -> Result<(), Error> {
        self.forget(&[], epoch).await
    }

    /// Ends everything inside, unless a newer owner than `epoch` uses it.
    async fn end_as(&self, epoch: i64) -> Result<(), Error> {
        let held = Hold::of(&self.folder).await;
        let held = held.map_err(|error| {
            Error::io(
                format!("take hold of the sandbox of {}", self.session),
                error,
            )
        })?;
        let seen = held.seen();
        if seen > epoch {
            return Err(Error::StaleEpoch { epoch, seen });
        }
        self.end().await
    }

    pub(super) fn touch(&self) {
        self.used().last = Instant::now();
    }

    /// Whether no call has run for `limit`.
    pub(super) fn is_idle_for(&self, limit: Duration) -> bool {
        let used = self.used();
        used.running == 0 && used.last.elapsed() >= limit
    }

    /// Returns once no call has run for `limit`.
    pub(super) async fn idle_for(&self, limit: Duration) {
        loop {
            let rested = self.rested.notified();
            let (running, last) = {
                let used = self.used();
                (used.running, used.last)
            };
            if running > 0 {
                rested.await;
            } else if last.elapsed() >= limit {
                return;
            } else {
                tokio::time::sleep_until((last + limit).into()).await;
            }
        }
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> Running<'_> {
        self.used().running += 1;
        Running(self)
    }

    /// Asks, and asks once more on a new connection when the old one is gone: every request can be repeated.
    async fn ask(&self, op: Op, epoch: i64) -> Result<Answer, Error> {
        let seen = self.owner();
        if epoch < seen {
            return Err(Error::StaleEpoch { epoch, seen });
        }
        let mut link = Arc::clone(&*self.link.lock().await);
        for _ in 0..2 {
            match link.ask(op.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::TooLong(length)) => {
                    return Err(Error::Refused(format!(
                        "the call is too long: {length} bytes"
                    )));
                }
                Err(Failed::Closed) => link = self.reconnected().await?,
            }
        }
        Err(self.lost("the connection ends again and again"))
    }

    async fn reconnected(&self) -> Result<Arc<Link>, Error> {
        let mut link = self.link.lock().await;
        if link.is_closed() {
            if !self.is_up() {
                return Err(self.lost("its process has ended"));
            }
            let why = match Link::open(&at(&self.folder, SOCKET), self.uid).await {
                Ok(Peer {
                    link: new,
                    instance,
                    ..
                }) if instance == self.instance => {
                    *link = Arc::new(new);
                    return Ok(Arc::clone(&link));
                }
                Ok(_) => "another instance has taken its place".to_owned(),
                Err(absent) => format!("it cannot be reached: {absent:?}"),
            };
            // The next call gets another, and not this one on its way out.
            self.gone.store(true, Ordering::Release);
            return Err(self.lost(&why));
        }
        Ok(Arc::clone(&link))
    }

    fn lost(&self, why: &str) -> Error {
        Error::Lost {
            session: self.session.clone(),
            why: why.to_owned(),
        }
    }

    async fn done(&self, op: Op, epoch: i64) -> Result<(), Error> {
        match self.ask(op, epoch).await? {
            Answer::Done => Ok(()),
            other => Err(self.unexpected(other, epoch)),
        }
    }

    fn unexpected(&self, answer: Answer, epoch: i64) -> Error {
        match answer {
            Answer::StaleEpoch { seen } => Error::StaleEpoch { epoch, seen },
            Answer::Refused { reason } => Error::Refused(reason),
            Answer::Hello { .. } | Answer::Output { .. } | Answer::Done => {
                self.lost("it answered something else than it was asked")
            }
        }
    }
}

/// A call in progress keeps the sandbox from being idle.
struct Running<'a>(&'a Live);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut used = self.0.used();
        used.running -= 1;
        used.last = Instant::now();
        if used.running == 0 {
            self.0.rested.notify_one();
        }
    }
}

#[async_trait]
impl Sandbox for Live {
    fn instance(&self) -> &str {
        Live::instance(self)
    }

    async fn execute(&self, call: &Call) -> Result<Output, Error> {
        let _running = self.begin();
        let op = Op::Execute {
            call_id: call.call_id.clone(),
            epoch: call.epoch,
            name: call.name.clone(),
            input: call.input.clone(),
            timeout_ms: u64::try_from(call.deadline.as_millis()).unwrap_or(u64::MAX),
        };
        let limit = call.deadline.saturating_add(self.grace);
        match tokio::time::timeout(limit, self.ask(op, call.epoch)).await {
            Ok(answer) => match answer? {
                Answer::Output { output } => Ok(output),
                other => Err(self.unexpected(other, call.epoch)),
            },
            // It keeps its calls' limits itself. One that does not is of no more use: the next call gets another.
            Err(_) => {
                self.end_as(call.epoch).await?;
                Err(self.lost("it did not answer in time"))
            }
        }
    }

    async fn kill(&self, call_id: &str, epoch: i64) -> Result<(), Error> {
        self.done(
            Op::Kill {
                call_id: call_id.to_owned(),
                epoch,
            },
            epoch,
        )
        .await
    }

    async fn forget(&self, call_ids: &[String], epoch: i64) -> Result<(), Error> {
        self.done(
            Op::Forget {
                call_ids: call_ids.to_vec(),
                epoch,
            },
            epoch,
        )
        .await
    }
}
