//! The files of a sandbox of name spaces, as [`Keeper`] wants them: a tree that the host can reach. A checkpoint is restored
//! into a new tree, which gets its name when all is in it; what was there before is moved away first, never written over.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use manyhands_protocol::Timestamp;
use rustix::fs::{Mode, OFlags, openat};

use super::host::Host;
use super::launch::FOLDERS;
use super::live::Process;
use super::writable::{self, Tree};
use super::{Namespace, aside, files};
use crate::Error;
use crate::archive::{self, Owner, Top, Totals};
use crate::provider::checkpoint::{
    Begin, Keeper, Kept, Pieces, State, Stock, Writer, bounds, note, open, restored,
};
pub(super) use crate::provider::checkpoint::{Packing, used};
use crate::provider::hold::Held;
use crate::provider::{Checkpoint, Limits, Origin, Recipe};

impl Kept for Namespace {
    type Keeper = Arc<Host>;

    fn keeper(&self) -> &Arc<Host> {
        &self.host
    }
}

#[async_trait]
impl Keeper for Arc<Host> {
    type Body = Process;
    type Begun = Tree;

    fn stock(&self) -> Stock<'_, Process> {
        Stock {
            places: &self.places,
            packing: &self.packing,
            blobs: self.config.blobs.as_ref(),
            retention: self.config.retention,
        }
    }

    fn sandboxes(&self) -> PathBuf {
        Host::sandboxes(self)
    }

    async fn hold(&self, session: &str) -> Result<Option<Held>, Error> {
        Host::hold(self, session).await
    }

    async fn has_tree(&self, _session: &str, folder: &OwnedFd) -> Result<bool, Error> {
        Ok(writable::owner(folder).is_ok())
    }

    async fn runs(&self, session: &str, (folder, hold): &Held) -> Result<bool, Error> {
        let found = self.reattach(session, folder, hold.seen()).await?;
        Ok(found.is_some())
    }

    async fn clear(&self, session: &str) -> Result<(), Error> {
        let (folder, trash) = (self.folder(session), Host::trash(self));
        for name in writable::PARTS {
            files::discard(&folder.join(name), &trash).map_err(|error| {
                Error::io(format!("put the old files of {session} away"), error)
            })?;
        }
        Ok(())
    }

    async fn pack(&self, session: &str, folder: &OwnedFd, into: Pieces) -> Result<Totals, Error> {
        let fail = |error| Error::io(format!("pack the files of {session}"), error);
        let Some(tree) = self.writable(session, folder)? else {
            return Err(fail(io::ErrorKind::NotFound.into()));
        };
        let packed = tokio::task::spawn_blocking(move || {
            let mut writer = Writer::new(into);
            let bounds = bounds(&Limits::default());
            let totals = archive::pack(&tops(&tree)?, &mut writer, bounds)?;
            writer.send().map(|()| totals)
        });
        let packed = packed.await.map_err(io::Error::other).map_err(fail)?;
        packed.map_err(fail)
    }

    async fn begin(
        &self,
        recipe: &Recipe,
        folder: &OwnedFd,
        begin: Begin<'_>,
    ) -> Result<Tree, Error> {
        match begin {
            Begin::Kept | Begin::New => self.lay_out(recipe, folder, |_, _| Ok(())),
            Begin::From(checkpoint) => self.restore(recipe, folder, checkpoint).await,
        }
    }
}

impl Host {
    /// The tree that a start shows to the sandbox, and where it comes from. The folder is held and no process runs.
    pub(super) async fn tree(
        self: &Arc<Self>,
        recipe: &Recipe,
        folder: &OwnedFd,
    ) -> Result<(Tree, Origin), Error> {
        self.take_up(recipe, folder).await
    }

    /// Notes that the tree is about to be changed by this owner.
    pub(super) fn note(
        &self,
        session: &str,
        made_at: Timestamp,
        epoch: i64,
        before: Option<State>,
    ) -> Result<(), Error> {
        note(&self.folder(session), made_at, epoch, before)
            .map_err(|error| Error::io(format!("note the start of {session}"), error))
    }

    /// A new tree with what a checkpoint holds.
    async fn restore(
        self: &Arc<Self>,
        recipe: &Recipe,
        folder: &OwnedFd,
        checkpoint: &Checkpoint,
    ) -> Result<Tree, Error> {
        let session = &recipe.session;
        let fail = |error| Error::io(format!("restore the files of {session}"), error);
        let started = Instant::now();
        let kept = open(self.config.blobs.as_ref(), session, checkpoint).await?;
        let (host, recipe) = (Arc::clone(self), recipe.clone());
        let folder = folder.try_clone().map_err(fail)?;
        let (tree, totals) = aside(&format!("restore the files of {session}"), move || {
            let (bounds, mut totals) = (bounds(&recipe.limits), Totals::default());
            let tree = host.lay_out(&recipe, &folder, |root, uid| {
                let gid = writable::gid(uid);
                totals = archive::unpack(&tops(root)?, kept, Owner { uid, gid }, bounds)?;
                Ok(())
            })?;
            Ok((tree, totals))
        })
        .await?;
        restored(session, totals.entries, started.elapsed());
        Ok(tree)
    }
}

/// The folders of a tree that are kept.
fn tops(root: &impl AsFd) -> io::Result<Vec<Top<'static>>> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let tops = FOLDERS.map(|(name, _)| {
        let folder = openat(root, name, flags, Mode::empty())?;
        Ok(Top { name, folder })
    });
    tops.into_iter().collect()
}
