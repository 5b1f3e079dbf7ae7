//! Taking one that waits: it becomes the session's, step by step in its own folder, and at last by the folder's name.

use std::sync::Arc;
use std::time::Instant;

use manyhands_protocol::time::{Clock as _, SystemClock};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::super::chain;
use super::super::host::Host;
use super::super::live::Live;
use super::super::{is_root, record, writable};
use super::{ANSWER, Member, fitting};
use crate::Error;
use crate::failpoint::failpoint;
use crate::packages;
use crate::provider::lodge::Lodge as _;
use crate::provider::{Origin, Recipe};

impl Host {
    /// Puts a waiting sandbox into the place of a session that has nothing here, when there is one for its environment; else
    /// the session gets its own as ever. The caller has the place.
    pub(in super::super) async fn take_waiting(
        self: &Arc<Self>,
        place: &mut Option<Arc<Live>>,
        recipe: &Recipe,
    ) {
        if place.is_some() || !self.pool.is_on() || self.folder(&recipe.session).exists() {
            return;
        }
        let Some((environment, kind)) = fitting(recipe) else {
            return;
        };
        let useless = self.pool.table().want(environment, &kind, Instant::now());
        self.discard_all(useless);
        loop {
            let member = self.pool.table().take(environment, &kind);
            let Some(mut member) = member else {
                metrics::counter!("manyhands_waiting_sandboxes_total", "outcome" => "none")
                    .increment(1);
                return;
            };
            match self.hand_over(&mut member, recipe).await {
                Ok(()) => {
                    let Member { held, live, .. } = member;
                    let live = Arc::new(live.given_to(&recipe.session, recipe.epoch));
                    live.come_from(Origin::New { expired: false });
                    self.let_out(&live, &held.0);
                    self.settle(place, &live);
                    self.pool.count();
                    metrics::counter!("manyhands_waiting_sandboxes_total", "outcome" => "taken")
                        .increment(1);
                    let instance = live.instance();
                    tracing::info!(
                        session.id = recipe.session,
                        instance,
                        "took a sandbox that waited"
                    );
                    return;
                }
                Err(error) => {
                    metrics::counter!("manyhands_waiting_sandboxes_total", "outcome" => "failed")
                        .increment(1);
                    tracing::warn!(
                        session.id = recipe.session,
                        error = chain(&error),
                        "a sandbox that waited cannot be used"
                    );
                    self.discard_all(vec![member]);
                }
            }
        }
    }

    /// Makes a waiting sandbox the session's. Until the last step it is nobody's, and removed if this ends before.
    async fn hand_over(&self, member: &mut Member, recipe: &Recipe) -> Result<(), Error> {
        let session = &recipe.session;
        let fail = |error| Error::io(format!("give a waiting sandbox to {session}"), error);
        // It lives, and from its answer on it obeys nobody before this owner (security LEASE-1).
        let answered = tokio::time::timeout(ANSWER, member.live.announce(recipe.epoch)).await;
        answered.map_err(|_| fail(std::io::ErrorKind::TimedOut.into()))??;
        failpoint!("hands::pool_announced");
        let (folder, hold) = &mut member.held;
        let path = self.folder(&member.name);
        if is_root() {
            let uid = writable::owner(folder).map_err(fail)?;
            self.users()
                .share(uid, &member.name, session)
                .map_err(fail)?;
        }
        failpoint!("hands::pool_shared");
        if !hold.raise(recipe.epoch).map_err(fail)? {
            let (epoch, seen) = (recipe.epoch, hold.seen());
            return Err(Error::StaleEpoch { epoch, seen });
        }
        self.note(&member.name, SystemClock.now(), recipe.epoch, None)?;
        failpoint!("hands::pool_noted");
        let Some(record) = record::read(folder).map_err(fail)? else {
            return Err(fail(std::io::ErrorKind::NotFound.into()));
        };
        record::write_given(&path, record, &recipe.network).map_err(fail)?;
        failpoint!("hands::pool_recorded");
        // Whoever removes layers must see the folder under one name or the other.
        let _layers = match packages::is_empty(&recipe.packages) {
            true => None,
            false => Some(self.layers.keep().await?),
        };
        let to = self.folder(session);
        renameat_with(CWD, &path, CWD, &to, RenameFlags::NOREPLACE)
            .map_err(|error| fail(error.into()))?;
        failpoint!("hands::pool_taken");
        Ok(())
    }
}
