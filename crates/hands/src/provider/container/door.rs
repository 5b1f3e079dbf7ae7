//! A container's way out, where its engine sees this server's folders.

use std::os::fd::OwnedFd;

use super::contained::Live;
use super::host::Host;
use crate::provider::door::{self, Opened};

impl Host {
    /// The way out of a session's sandbox as its last start recorded it. One that cannot be opened stays closed, and the
    /// sandbox works without (invariant I9).
    pub(super) fn open_door(&self, session: &str, folder: &OwnedFd) -> Option<Opened> {
        let gate = self
            .config
            .gate
            .as_deref()
            .filter(|_| self.config.shared_folders)?;
        door::recorded(gate, folder, session)
    }

    /// Sees to it that the way out of a living sandbox leads to this server. The session's folder is held.
    pub(super) fn let_out(&self, live: &Live, folder: &OwnedFd) {
        let mut door = live.door();
        if !door.as_ref().is_some_and(|door| door.is_current(folder)) {
            *door = self.open_door(live.session(), folder);
        }
    }
}
