//! The end of a sandbox: its processes, its control group, its files.

use std::sync::Arc;

use super::host::{Held, Host};
use super::live::Live;
use super::{blocking, chain, files, record, writable};
use crate::Error;
use crate::failpoint::failpoint;

impl Host {
    /// Ends the processes of a session's sandbox, whether we started it or another server did. The folder is held.
    pub(super) async fn end(
        &self,
        session: &str,
        (folder, hold): &Held,
        live: Option<Arc<Live>>,
    ) -> Result<(), Error> {
        let live = match live.filter(|live| live.is_up()) {
            Some(live) => Some(live),
            None => self.reattach(session, folder, hold.seen()).await?,
        };
        if let Some(live) = &live {
            live.door().take();
        }
        failpoint!("hands::before_end");
        if let Some(live) = live {
            live.end().await?;
        }
        self.remove_group(session).await;
        if let Ok(Some(waited_as)) = record::read(folder).map(|record| record?.waited_as) {
            self.remove_group(&waited_as).await;
        }
        Ok(())
    }

    /// Ends what is left in the session's control group and removes it.
    pub(super) async fn remove_group(&self, session: &str) {
        let (cgroups, name) = (self.cgroups().await.clone(), self.group(session));
        let removed = blocking("remove a control group", move || cgroups.remove(&name)).await;
        if let Err(error) = removed {
            tracing::warn!(
                session.id = session,
                error = chain(&error),
                "a control group is left; the next start removes it"
            );
        }
    }

    /// Removes the session's files. Its processes have ended, and the folder is held.
    pub(super) async fn remove(&self, session: &str, (folder, _): &Held) -> Result<(), Error> {
        let owner = writable::owner(folder).ok();
        let trash = self.trash();
        let doing = format!("remove the sandbox of {session}");
        // One step takes it away; what that leaves is emptied now, or at the next start.
        let moved = files::discard(&self.folder(session), &trash)
            .map_err(|error| Error::io(doing.clone(), error))?;
        failpoint!("hands::after_discard");
        if moved {
            blocking(&doing, move || files::empty(&trash)).await?;
        }
        if let Some(uid) = owner {
            self.users().free(uid);
        }
        Ok(())
    }
}
