//! A live sandbox as its provider holds it: the connection to its `sandboxd`, who owns it, and when it was last used. What
//! it is made of, and how that is reached and ended, is the provider's [`Body`].

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use manyhands_sandboxd::frame::{Answer, Op};
use manyhands_sandboxd::output::Output;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::door::Opened;
use super::hold::Hold;
use super::link::{Failed, Link};
use crate::Error;
use crate::provider::{Call, Origin, Recipe, Sandbox, Variables};

/// What a sandbox is made of.
#[async_trait]
pub(super) trait Body: Send + Sync + 'static {
    /// The session's folder, whose lock says who owns the sandbox.
    fn folder(&self) -> &OwnedFd;

    /// Whether its process 1 runs, as far as was seen.
    fn is_up(&self) -> bool;

    /// Returns once its process 1 has ended.
    async fn ended(&self);

    /// Ends everything inside and waits until it has.
    ///
    /// # Errors
    /// Why it may still run.
    async fn end(&self) -> io::Result<()>;

    /// The owner of this epoch is about to use it for the first time.
    fn used(&self, _epoch: i64) {}

    /// A new connection, and the instance that answers on it.
    ///
    /// # Errors
    /// A text that says why there is none.
    async fn connect(&self) -> Result<(Link, String), String>;
}

pub(super) struct Live<B> {
    session: String,
    instance: String,
    /// The highest epoch for which this server has used it.
    owner: AtomicI64,
    /// Beyond a call's own limit, this is how long its answer may take before the sandbox counts as lost (TOOL-3).
    grace: Duration,
    /// It could not be reached any more. A process that was killed closes its connections a while before it has ended.
    gone: AtomicBool,
    /// Replaced when the connection is lost but the process lives.
    link: tokio::sync::Mutex<Arc<Link>>,
    used: Mutex<Used>,
    /// Told when the last running call ends.
    rested: Notify,
    /// The way out, while this server keeps it open.
    door: Mutex<Option<Opened>>,
    /// What its files were, until a call is executed.
    origin: Mutex<Option<Origin>>,
    /// What this server has set in it.
    variables: tokio::sync::Mutex<Variables>,
    body: B,
}

struct Used {
    running: usize,
    last: Instant,
}

impl<B: Body> Live<B> {
    /// A sandbox that answers on `link`.
    pub(super) fn new(
        session: &str,
        instance: String,
        owner: i64,
        grace: Duration,
        link: Link,
        body: B,
    ) -> Self {
        Self {
            session: session.to_owned(),
            instance,
            owner: AtomicI64::new(owner),
            grace,
            gone: AtomicBool::new(false),
            link: tokio::sync::Mutex::new(Arc::new(link)),
            used: Mutex::new(Used {
                running: 0,
                last: Instant::now(),
            }),
            rested: Notify::new(),
            door: Mutex::default(),
            origin: Mutex::default(),
            variables: tokio::sync::Mutex::default(),
            body,
        }
    }

    /// The same sandbox, which has waited until now, as that of a session and its owner.
    pub(super) fn given_to(self, session: &str, owner: i64) -> Self {
        Self {
            session: session.to_owned(),
            owner: AtomicI64::new(owner),
            ..self
        }
    }

    pub(super) fn instance(&self) -> &str {
        &self.instance
    }

    pub(super) fn session(&self) -> &str {
        &self.session
    }

    /// What it is made of.
    pub(super) fn body(&self) -> &B {
        &self.body
    }

    /// Whether its process runs and can be reached, as far as was seen.
    pub(super) fn is_up(&self) -> bool {
        if self.gone.load(Ordering::Acquire) {
            return false;
        }
        self.body.is_up()
    }

    /// Returns once its process has ended.
    pub(super) async fn ended(&self) {
        self.body.ended().await;
    }

    /// Ends everything inside and waits until it has.
    pub(super) async fn end(&self) -> Result<(), Error> {
        let ended = self.body.end().await;
        ended.map_err(|error| Error::io(format!("end the sandbox of {}", self.session), error))
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

    /// Gives it the variables of its recipe, for the calls after this, if it has not got them from this server.
    pub(super) async fn equip(&self, recipe: &Recipe) -> Result<(), Error> {
        let mut set = self.variables.lock().await;
        if *set != recipe.variables {
            let (variables, epoch) = (recipe.variables.clone(), recipe.epoch);
            self.done(Op::Set { variables, epoch }, epoch).await?;
            *set = recipe.variables.clone();
        }
        Ok(())
    }

    /// Ends everything inside, unless a newer owner than `epoch` uses it.
    async fn end_as(&self, epoch: i64) -> Result<(), Error> {
        let held = Hold::of(self.body.folder()).await;
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

    /// Its way out, which is open while it is there.
    pub(super) fn door(&self) -> MutexGuard<'_, Option<Opened>> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what its files were when it was started.
    pub(super) fn come_from(&self, origin: Origin) {
        *self.came_from() = Some(origin);
    }

    /// Says that it got another owner, and whose calls have used it last. What no call has used is as it was started.
    pub(super) fn change_owner(&self, last: i64) {
        let mut origin = self.came_from();
        if !matches!(*origin, Some(Origin::New { .. } | Origin::Restored)) {
            *origin = Some(Origin::Kept { epoch: last });
        }
    }

    fn came_from(&self) -> MutexGuard<'_, Option<Origin>> {
        self.origin.lock().unwrap_or_else(PoisonError::into_inner)
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
                tokio::time::sleep_until(last + limit).await;
            }
        }
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> Running<'_, B> {
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
        // The next call gets another, or this one by a new connection if it turns out to live.
        self.gone.store(true, Ordering::Release);
        Err(self.lost("the connection ends again and again"))
    }

    async fn reconnected(&self) -> Result<Arc<Link>, Error> {
        let mut link = self.link.lock().await;
        if link.is_closed() {
            if !self.is_up() {
                return Err(self.lost("its process has ended"));
            }
            let why = match self.body.connect().await {
                Ok((new, instance)) if instance == self.instance => {
                    *link = Arc::new(new);
                    return Ok(Arc::clone(&link));
                }
                Ok(_) => "another instance has taken its place".to_owned(),
                Err(why) => format!("it cannot be reached: {why}"),
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
struct Running<'a, B: Body>(&'a Live<B>);

impl<B: Body> Drop for Running<'_, B> {
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
impl<B: Body> Sandbox for Live<B> {
    fn instance(&self) -> &str {
        Live::instance(self)
    }

    fn origin(&self) -> Option<Origin> {
        *self.came_from()
    }

    async fn execute(&self, call: &Call) -> Result<Output, Error> {
        let _running = self.begin();
        if self.came_from().take().is_some() {
            self.body.used(call.epoch);
        }
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
