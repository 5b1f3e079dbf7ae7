//! The folders of memory stores in a sandbox of name spaces: in the tree that it writes, and so within its limits, but in no
//! checkpoint (runtime ME-13, ME-14).
//!
//! All of them are shown at once, so that a sandbox that has waited for its session has them as well. Under a root server the
//! folder above belongs to root, that of a store that may be written to the sandbox's user, and the others to root with all that
//! is in them: nothing inside can change whose they are. Another server shows all of it read-only, and on top of that what may be
//! written.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use async_trait::async_trait;
use manyhands_sandboxd::memory::Folders;
use manyhands_sandboxd::memory::watch::Watch;
use rustix::fs::{Mode, OFlags, mkdirat, openat, renameat};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::host::Host;
use super::process::waitable;
use super::writable::{Tree, gid};
use super::{Namespace, blocking};
use crate::Error;
use crate::memory::{self, Answer, Ask, Folder, Memories, Note};

/// The folder's name in the tree.
pub(super) const NAME: &str = "memory";
/// What was noted, beside it.
const NOTE: &str = "memory.json";
/// The same, not in place yet.
const NOTE_ASIDE: &str = ".memory.json";
/// Where files are kept that no store has taken.
const KEEP: &str = "tmp";
/// The largest note that is read: far more than all that eight stores can give.
const LARGEST: u64 = 64 << 20;

/// The folders of a session.
pub(in crate::provider) struct Laid {
    session: String,
    tree: Arc<OwnedFd>,
    folders: Arc<Folders>,
    heard: Option<Arc<Heard>>,
}

/// What is heard of changes, and a second descriptor of it that can be waited for.
struct Heard {
    watch: Watch,
    ready: AsyncFd<OwnedFd>,
}

impl Heard {
    fn new() -> io::Result<Self> {
        let watch = Watch::new()?;
        let ready = waitable(watch.as_fd().try_clone_to_owned()?)?;
        Ok(Self { watch, ready })
    }
}

impl Host {
    /// Makes the folders that a start shows, whose tree is held.
    pub(super) fn memory_folders(&self, tree: &Tree, wanted: &[Folder]) -> io::Result<()> {
        let folders = folders(tree, tree.uid())?;
        for folder in wanted {
            folders.make(&folder.name, folder.writable)?;
        }
        Ok(())
    }
}

impl Namespace {
    /// The folders of a session; `None` when it has no files here.
    pub(super) async fn laid(&self, session: &str) -> Result<Option<Arc<dyn Memories>>, Error> {
        let fail = |error| Error::io(format!("reach the memories of {session}"), error);
        let Some(tree) = self.writable(session).await? else {
            return Ok(None);
        };
        let laid = Laid::in_tree(session, &tree, tree.uid()).map_err(fail)?;
        Ok(Some(Arc::new(laid)))
    }
}

impl Laid {
    /// Those below the root of a tree that a sandbox writes as this user of the host.
    pub(in crate::provider) fn in_tree(
        session: &str,
        tree: &impl AsFd,
        uid: u32,
    ) -> io::Result<Self> {
        let folders = folders(tree, uid)?;
        let heard = Heard::new().inspect_err(|error| {
            tracing::warn!(session.id = session, %error, "changes of memories are seen when a call ends");
        });
        Ok(Self {
            session: session.to_owned(),
            tree: Arc::new(directory(tree, ".")?),
            folders: Arc::new(folders),
            heard: heard.ok().map(Arc::new),
        })
    }
}

/// The folders of a tree, with the one above them made if it is missing.
fn folders(tree: &impl AsFd, uid: u32) -> io::Result<Folders> {
    match mkdirat(tree, NAME, Mode::from(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let (above, keep) = (directory(tree, NAME)?, directory(tree, KEEP)?);
    Ok(Folders::new(above, keep, Some((uid, gid(uid)))))
}

fn directory(at: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, name, flags, Mode::empty())?)
}

#[async_trait]
impl Memories for Laid {
    async fn ask(&self, asks: Vec<Ask>) -> Result<Vec<Answer>, Error> {
        let (folders, heard) = (Arc::clone(&self.folders), self.heard.clone());
        let doing = format!("work on the memories of {}", self.session);
        blocking(&doing, move || {
            Ok(asks
                .iter()
                .map(|ask| answer(&folders, heard.as_deref(), ask))
                .collect())
        })
        .await
    }

    async fn stirred(&self) {
        let Some(Heard { watch, ready }) = self.heard.as_deref() else {
            return std::future::pending().await;
        };
        loop {
            match ready.readable().await {
                Ok(mut guard) => {
                    if watch.drain() {
                        return;
                    }
                    guard.clear_ready();
                }
                // Nothing more is heard; the next look finds it.
                Err(_) => return std::future::pending().await,
            }
        }
    }

    async fn noted(&self) -> Result<Option<Note>, Error> {
        let tree = Arc::clone(&self.tree);
        blocking(&format!("read the note on {}", self.session), move || {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = match openat(&tree, NOTE, flags, Mode::empty()) {
                Ok(file) => File::from(file),
                Err(Errno::NOENT) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let mut bytes = Vec::new();
            file.take(LARGEST).read_to_end(&mut bytes)?;
            Ok(memory::read(&bytes))
        })
        .await
    }

    async fn note(&self, bytes: Vec<u8>) -> Result<(), Error> {
        let tree = Arc::clone(&self.tree);
        let doing = format!("note the memories of {}", self.session);
        blocking(&doing, move || {
            let flags = OFlags::WRONLY
                | OFlags::CREATE
                | OFlags::TRUNC
                | OFlags::NOFOLLOW
                | OFlags::CLOEXEC;
            let mut file = File::from(openat(&tree, NOTE_ASIDE, flags, Mode::from(0o600))?);
            file.write_all(&memory::written(&bytes))?;
            Ok(renameat(&tree, NOTE_ASIDE, &tree, NOTE)?)
        })
        .await
    }
}

fn answer(folders: &Folders, heard: Option<&Heard>, ask: &Ask) -> Answer {
    let watch = heard.map(|heard| &heard.watch);
    if let (Some(watch), Ask::Look { first: true, .. }) = (watch, ask) {
        // What changes from here on is heard again.
        watch.drain();
    }
    let answer = folders.answer(ask);
    if let Some(watch) = watch
        && let (
            Ask::Look {
                folder,
                writable: true,
                ..
            },
            Answer::Seen(seen),
        ) = (ask, &answer)
        && let Err(error) = folders.watch(watch, folder, &seen.folders)
    {
        tracing::debug!(%error, "changes of memories are not heard");
    }
    answer
}
