//! What a provider does with the sandboxes of sessions, whatever they are made of: who owns one, who stands by it, and how it
//! is found and let go. Each step is under the session's place in this process and the lock on its folder.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;

use super::checkpoint::{Keeper, owner};
use super::door::{self, Opened};
use super::hold::Held;
use super::live::Live;
use super::namespace::chain;
use super::places::owned;
use super::{Gate, Origin, Provider, Recipe, Sandbox};
use crate::Error;

/// A keeper with what is the provider's own in the life of a sandbox.
#[async_trait]
pub(in crate::provider) trait Lodge: Keeper {
    /// How long a sandbox's processes stay without a running call.
    fn idle(&self) -> Duration;

    /// The gate of those sandboxes that can be let out.
    fn gate(&self) -> Option<&dyn Gate>;

    /// See [`Provider::prepare`].
    async fn prepare(&self) -> Result<(), Error>;

    /// Stands by a sandbox; see [`watch`].
    fn stand_by(&self, live: Arc<Live<Self::Body>>);

    /// The running sandbox of a session, whoever started it. One that runs and does not answer is ended.
    async fn reattach(
        &self,
        session: &str,
        folder: &OwnedFd,
        epoch: i64,
    ) -> Result<Option<Arc<Live<Self::Body>>>, Error>;

    /// Ends a session's sandbox, whoever started it. The folder is held.
    async fn end(
        &self,
        session: &str,
        held: &Held,
        live: Option<Arc<Live<Self::Body>>>,
    ) -> Result<(), Error>;

    /// Ends a session's sandbox, whoever started it, and removes all there is of it. Its place is held.
    async fn remove_all(
        &self,
        session: &str,
        live: Option<Arc<Live<Self::Body>>>,
    ) -> Result<(), Error>;

    /// Locks the session's folder, made if there is none.
    async fn hold_or_make(&self, session: &str) -> Result<Held, Error>;

    /// Whether this sandbox is what was started last, as the session's folder tells.
    fn is_last(&self, live: &Live<Self::Body>, folder: &OwnedFd) -> io::Result<bool>;

    /// The way out of a session's sandbox as its last start recorded it. One that cannot be opened stays closed, and the
    /// sandbox works without (invariant I9).
    fn open_door(&self, session: &str, folder: &OwnedFd) -> Option<Opened> {
        door::recorded(self.gate()?, folder, session)
    }

    /// Brings a living sandbox to its way out, where it does not see that by itself.
    fn carry(&self, _live: &Live<Self::Body>, _door: &mut Opened) {}

    /// Sees to it that the way out of a living sandbox leads to this server. The session's folder is held.
    fn let_out(&self, live: &Live<Self::Body>, folder: &OwnedFd) {
        let mut door = live.door();
        if !door.as_ref().is_some_and(|door| door.is_current(folder)) {
            let carriers = door.as_mut().and_then(Opened::leave_carriers);
            *door = self.open_door(live.session(), folder);
            match (&mut *door, carriers) {
                (Some(door), Some(carriers)) => door.carried_by(carriers),
                (Some(door), None) => self.carry(live, door),
                (None, _) => {}
            }
        }
    }

    /// Puts a sandbox into its place and watches over it.
    fn settle(&self, place: &mut Option<Arc<Live<Self::Body>>>, live: &Arc<Live<Self::Body>>) {
        *place = Some(Arc::clone(live));
        self.stand_by(Arc::clone(live));
    }

    /// Makes `epoch` the owner of the session's sandbox: the live one in its place, or the one that an earlier or another
    /// server has started, if there is one (security LEASE-1).
    async fn own(
        &self,
        place: &mut Option<Arc<Live<Self::Body>>>,
        session: &str,
        (folder, hold): &mut Held,
        epoch: i64,
    ) -> Result<Option<Arc<Live<Self::Body>>>, Error> {
        let seen = hold.seen();
        let raised = hold
            .raise(epoch)
            .map_err(|error| Error::io(format!("become the owner of {session}"), error))?;
        if !raised {
            let seen = hold.seen();
            return Err(Error::StaleEpoch { epoch, seen });
        }
        // Another host may have gone on since: the files hold what owners up to this one have written.
        let before = owner(folder).unwrap_or(seen);
        if let Some(live) = place.as_ref().filter(|live| live.is_up()) {
            live.own(epoch);
            if before < epoch {
                live.change_owner(before);
            }
            self.let_out(live, folder);
            return Ok(Some(Arc::clone(live)));
        }
        *place = None;
        let Some(live) = self.reattach(session, folder, epoch).await? else {
            return Ok(None);
        };
        // Said to the sandbox as well, before anything is asked of it.
        match live.announce(epoch).await {
            Ok(()) => {}
            Err(Error::Lost { why, .. }) => {
                tracing::debug!(session.id = session, why, "the sandbox has just ended");
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        if before < epoch {
            live.change_owner(before);
        }
        self.let_out(&live, folder);
        self.settle(place, &live);
        Ok(Some(live))
    }

    /// As `own`, for a recipe: one whose files are older than the recipe's checkpoint is ended.
    async fn own_for(
        &self,
        place: &mut Option<Arc<Live<Self::Body>>>,
        recipe: &Recipe,
        held: &mut Held,
    ) -> Result<Option<Arc<Live<Self::Body>>>, Error> {
        let session = &recipe.session;
        let before = owner(&held.0).unwrap_or(held.1.seen());
        let found = self.own(place, session, held, recipe.epoch).await?;
        let newest = recipe.checkpoint.as_ref().map(|from| from.epoch);
        match found {
            // Another host has gone on with the session since, and its files are newer than what this one sees.
            Some(live) if newest.is_some_and(|newest| newest > before) => {
                place.take();
                self.end(session, held, Some(live)).await?;
                Ok(None)
            }
            found => Ok(found),
        }
    }

    /// What there is of a session's sandbox for an owner that wants it alive. Its place is held.
    async fn come_to(
        &self,
        place: &mut Option<Arc<Live<Self::Body>>>,
        recipe: &Recipe,
    ) -> Result<There<Self::Body>, Error> {
        // One that no call of this owner has used yet may be behind the recipe's checkpoint.
        let is_used = |live: &Arc<Live<_>>| !matches!(live.origin(), Some(Origin::Kept { .. }));
        if let Some(live) = owned(place, recipe.epoch).filter(is_used) {
            return Ok(There::Used(live));
        }
        let mut held = match self.hold(&recipe.session).await? {
            Some(held) => held,
            None => {
                // Where no sandbox can be made, nothing else is.
                self.prepare().await?;
                self.hold_or_make(&recipe.session).await?
            }
        };
        Ok(match self.own_for(place, recipe, &mut held).await? {
            Some(live) => There::Owned(live, held),
            None => There::Nothing(held),
        })
    }

    /// A sandbox as the recipe wants it, on its way to somebody who uses it.
    async fn ready(
        &self,
        live: Arc<Live<Self::Body>>,
        recipe: &Recipe,
    ) -> Result<Arc<dyn Sandbox>, Error> {
        live.equip(recipe).await?;
        live.touch();
        Ok(live)
    }

    /// See [`Provider::find`].
    async fn find(&self, session: &str, epoch: i64) -> Result<Option<Arc<dyn Sandbox>>, Error> {
        let _wanted = self.packing().want(session);
        let slot = self.places().at(session)?;
        let mut place = slot.0.lock().await;
        if let Some(live) = owned(&place, epoch) {
            return Ok(Some(live));
        }
        let found = match self.hold(session).await? {
            Some(mut held) => self.own(&mut place, session, &mut held, epoch).await?,
            None => None,
        };
        drop(place);
        if found.is_none() {
            self.places().vacate(session, &slot);
        }
        Ok(found.map(|live| live as Arc<dyn Sandbox>))
    }

    /// See [`Provider::destroy`].
    async fn destroy(&self, session: &str) -> Result<(), Error> {
        let _wanted = self.packing().want(session);
        let slot = self.places().at(session)?;
        let mut place = slot.0.lock().await;
        let live = place.take();
        let removed = self.remove_all(session, live).await;
        // What was kept of it can go as well.
        self.packing().changed();
        drop(place);
        self.places().vacate(session, &slot);
        removed
    }

    /// See [`Provider::release`].
    async fn release(&self, session: &str) -> Result<(), Error> {
        let slot = self.places().at(session)?;
        let mut place = slot.0.lock().await;
        let live = place.take();
        let ended = match self.hold(session).await {
            Ok(Some(held)) => {
                let ended = self.end(session, &held, live).await;
                self.packing().changed();
                ended
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        drop(place);
        self.places().vacate(session, &slot);
        ended
    }

    /// Releases a sandbox that has ended or has been idle, unless it has been used again meanwhile or belongs to another
    /// server by now; whether there is nothing more to watch.
    async fn release_if(&self, live: &Arc<Live<Self::Body>>, why: &str) -> bool {
        let Ok(slot) = self.places().at(live.session()) else {
            return true;
        };
        let mut place = slot.0.lock().await;
        let ours = place.as_ref().is_some_and(|found| Arc::ptr_eq(found, live));
        if ours && live.is_up() && !live.is_idle_for(self.idle()) {
            return false;
        }
        if ours {
            *place = None;
            if let Err(error) = self.release_ours(live, why).await {
                tracing::warn!(
                    session.id = live.session(),
                    error = chain(&error),
                    "a sandbox could not be released"
                );
            }
        }
        drop(place);
        self.places().vacate(live.session(), &slot);
        true
    }

    /// Releases a sandbox that was in its place.
    async fn release_ours(&self, live: &Arc<Live<Self::Body>>, why: &str) -> Result<(), Error> {
        let session = live.session();
        let Some(held) = self.hold(session).await? else {
            // Somebody has removed it all.
            return live.end().await;
        };
        if held.1.seen() > live.owner() {
            tracing::debug!(
                session.id = session,
                "the sandbox belongs to another server"
            );
            return Ok(());
        }
        let is_last = self
            .is_last(live, &held.0)
            .map_err(|error| Error::io(format!("look for the sandbox of {session}"), error))?;
        if !is_last {
            // Another server has started one anew, or it has ended: ours is over.
            self.packing().changed();
            return live.end().await;
        }
        tracing::info!(session.id = session, why, "releasing a sandbox");
        let ended = self.end(session, &held, Some(Arc::clone(live))).await;
        self.packing().changed();
        ended
    }
}

/// What there is of a session's sandbox, for its owner.
pub(in crate::provider) enum There<B> {
    /// It lives, and this owner has it already.
    Used(Arc<Live<B>>),
    /// It lives, and this owner has just got it.
    Owned(Arc<Live<B>>, Held),
    /// It is to be started.
    Nothing(Held),
}

/// The names of what is in the folder of the sandboxes; `None` where there is no such folder.
pub(super) fn names(folder: &Path) -> Result<Option<Vec<String>>, Error> {
    match std::fs::read_dir(folder) {
        Ok(entries) => {
            let names = entries.flatten().map(|entry| entry.file_name());
            Ok(Some(
                names.filter_map(|name| name.into_string().ok()).collect(),
            ))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(format!("list {}", folder.display()), error)),
    }
}

/// Destroys the sandboxes of sessions that are gone; what cannot be removed is left for the next time.
pub(super) async fn destroy_all(provider: &impl Provider, gone: &[String]) {
    for session in gone {
        tracing::info!(
            session.id = session,
            "removing the sandbox of a session that is gone"
        );
        if let Err(error) = provider.destroy(session).await {
            tracing::warn!(
                session.id = session,
                error = chain(&error),
                "a sandbox could not be removed"
            );
        }
    }
}

/// Stands by a sandbox until it ends by itself or has been idle for long enough, and clears up.
pub(super) async fn watch<H>(host: Weak<H>, live: Arc<Live<<Arc<H> as Keeper>::Body>>)
where
    Arc<H>: Lodge,
{
    let Some(idle) = host.upgrade().map(|host| host.idle()) else {
        return;
    };
    let _counted = Counted::new();
    loop {
        let why = tokio::select! {
            () = live.ended() => "it ended",
            () = live.idle_for(idle) => "it was idle",
        };
        let Some(host) = host.upgrade() else { return };
        if host.release_if(&live, why).await {
            return;
        }
    }
}

/// One of the sandboxes that this server uses, in its figures (security OPS-1).
struct Counted(metrics::Gauge);

impl Counted {
    fn new() -> Self {
        let gauge = metrics::gauge!("manyhands_sandboxes");
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
