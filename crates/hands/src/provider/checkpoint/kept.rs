//! The checkpoints of a provider that has a keeper.

use async_trait::async_trait;

use super::keeper::Keeper;
use super::state::{self, State};
use super::{Checkpoints, Saved, Unsaved};
use crate::Error;

/// A provider with a keeper is one with checkpoints.
pub(in crate::provider) trait Kept: Send + Sync {
    type Keeper: Keeper;

    fn keeper(&self) -> &Self::Keeper;
}

#[async_trait]
impl<P: Kept> Checkpoints for P {
    async fn rested(&self) {
        self.keeper().packing().rested.notified().await;
    }

    async fn unsaved(&self) -> Result<Vec<Unsaved>, Error> {
        let states = self.keeper().states().await?;
        let unsaved = states.into_iter().filter(|(_, state)| state.unsaved);
        Ok(unsaved
            .map(|(session, state)| Unsaved {
                session,
                epoch: state.epoch,
                starts: state.starts,
            })
            .collect())
    }

    async fn save(&self, unsaved: &Unsaved, blob: &str) -> Result<Option<Saved>, Error> {
        let keeper = self.keeper();
        let Some(turn) = keeper.packing().turn(&unsaved.session) else {
            return Ok(None);
        };
        let place = keeper.places().at(&unsaved.session)?;
        // Whoever has it for long has said that it is wanted.
        let at = tokio::select! {
            at = place.0.lock() => Some(at),
            () = turn.stop.cancelled() => None,
        };
        let saved = match &at {
            Some(at) if at.is_none() => keeper.keep(unsaved, blob, &turn.stop).await,
            _ => Ok(None),
        };
        drop(at);
        keeper.places().vacate(&unsaved.session, &place);
        saved
    }

    async fn saved(&self, unsaved: &Unsaved) -> Result<(), Error> {
        let (keeper, session) = (self.keeper(), &unsaved.session);
        let fail = |error| Error::io(format!("note that {session} is kept"), error);
        let Some((folder, _held)) = keeper.hold(session).await? else {
            return Ok(());
        };
        match state::read(&folder).map_err(fail)? {
            Some(state) if state.is(unsaved) => {
                let state = State {
                    unsaved: false,
                    ..state
                };
                state::write(&keeper.sandboxes().join(session), &state).map_err(fail)
            }
            _ => Ok(()),
        }
    }

    async fn shed(&self, bytes: u64) -> Result<u64, Error> {
        let keeper = self.keeper();
        let folder = keeper.sandboxes();
        let mut shed = 0;
        let mut states = keeper.states().await?;
        states.retain(|(_, state)| !state.unsaved);
        // When each was used last, as far as the host knows.
        states.sort_by_key(|(session, _)| {
            let noted = std::fs::metadata(folder.join(session).join(state::NAME));
            noted.ok()?.modified().ok()
        });
        for (session, state) in states {
            let space = rustix::fs::statvfs(&folder)
                .map_err(|error| Error::io("look at the disk of sandboxes", error))?;
            if space.f_bavail.saturating_mul(space.f_frsize) >= bytes {
                break;
            }
            shed += u64::from(keeper.drop_tree(&session, state).await?);
        }
        Ok(shed)
    }
}
