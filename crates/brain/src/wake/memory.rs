//! When the copies of the session's memory stores are brought in line: before calls, while they run, and before what they gave is
//! written, so that a result which the model reads is true of the stores (runtime ME-15).

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use manyhands_hands::memory::{Folder, Memories};
use manyhands_hands::{Advice, Error, Provider as _, Sandbox};
use manyhands_protocol::memory::Access;

use super::{Stop, Wake};
use crate::memory::{self, Copies, Told, Trouble, tell};

/// How long bringing them in line may take before a call goes on without.
const LIMIT: Duration = Duration::from_secs(60);

/// How long after a change is heard it is looked at: programs write files in pieces.
const SETTLE: Duration = Duration::from_secs(1);

impl Wake {
    /// The folders of the session's stores, as its recipe names them.
    pub(super) fn memory_folders(&self) -> Vec<Folder> {
        let folder = |store| Folder {
            name: memory::folder(store).to_owned(),
            writable: store.access == Access::ReadWrite,
        };
        self.transcript.memory.iter().map(folder).collect()
    }

    /// This wake uses another sandbox from now on: what it knew of the one before is of no use.
    pub(super) fn change_sandbox(&mut self, sandbox: &dyn Sandbox) {
        let used = self.sandbox.as_deref().map(Sandbox::instance);
        if used != Some(sandbox.instance()) {
            self.copies = None;
        }
    }

    /// Brings the copies in line, if there are any; a text for the model where they could not be.
    pub(super) async fn reconcile(&mut self) -> Result<Option<Told>, Stop> {
        if self.transcript.memory.is_empty() {
            return Ok(None);
        }
        let started = Instant::now();
        let done = tokio::time::timeout(LIMIT, self.try_reconcile()).await;
        let seconds = started.elapsed().as_secs_f64();
        metrics::histogram!("manyhands_memory_reconcile_seconds").record(seconds);
        self.activity.progress();
        let error = match done {
            Ok(Ok(())) => return Ok(None),
            Ok(Err(Trouble::Store(error))) => return Err(error.into()),
            Ok(Err(Trouble::Hands(error))) if error.advice() == Advice::Stop => {
                return Err(Stop::Lost);
            }
            Ok(Err(Trouble::Hands(error))) => error,
            Err(_) => Error::Refused("it takes too long".to_owned()),
        };
        tracing::warn!(session.id = %self.lease.session, %error, "memories are not in line");
        // What is known of them is read again.
        self.copies = None;
        let has_writable = self.memory_folders().iter().any(|folder| folder.writable);
        let why = match error {
            Error::NoSpace { .. } => "no disk space is left in the sandbox",
            _ => "the sandbox could not be reached",
        };
        Ok(has_writable.then(|| Told::unsaved(why)))
    }

    async fn try_reconcile(&mut self) -> Result<(), Trouble> {
        if self.copies.is_none() {
            let session = self.lease.session.as_str();
            let Some(memories) = self.hands.memories(session).await? else {
                return Ok(());
            };
            let opened = Copies::open(
                Arc::clone(&self.shared),
                self.lease.workspace.clone(),
                self.lease.session.clone(),
                &self.transcript.memory,
                memories,
            );
            self.copies = Some(opened.await?);
        }
        match &mut self.copies {
            Some(copies) => copies.reconcile().await,
            None => Ok(()),
        }
    }

    /// Whether a store was written elsewhere since the copies were brought in line.
    pub(super) async fn is_behind_stores(&self) -> Result<bool, Stop> {
        match &self.copies {
            Some(copies) => Ok(copies.is_behind().await?),
            None => Ok(false),
        }
    }

    /// Returns a while after something was written in a copy; never where there are none.
    pub(super) fn stirred(&self) -> BoxFuture<'static, ()> {
        match &self.copies {
            Some(copies) => settled(copies.folders()).boxed(),
            None => std::future::pending().boxed(),
        }
    }

    /// What the model is to be told with a result, and whether the call has failed by it.
    pub(super) fn memory_news(&self, unsaved: Option<Told>) -> Option<(String, bool)> {
        let told = self.copies.iter().flat_map(|copies| copies.told());
        let told: Vec<Told> = told.cloned().chain(unsaved).collect();
        tell(&told)
    }

    /// The model has been told.
    pub(super) async fn forget_memory_news(&mut self) {
        if let Some(copies) = self
            .copies
            .as_mut()
            .filter(|copies| !copies.told().is_empty())
            && let Err(error) = copies.forget().await
        {
            tracing::warn!(session.id = %self.lease.session, %error, "the model may be told of its memories twice");
        }
    }
}

async fn settled(memories: Arc<dyn Memories>) {
    memories.stirred().await;
    tokio::time::sleep(SETTLE).await;
}
