//! What keeping and going on with files is, whoever makes the sandboxes: what a start begins with, and packing what a resting
//! sandbox has written, off the way of whoever wants it. A provider says where its trees are and how they are packed.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use manyhands_blobs::Blobs;
use manyhands_protocol::Timestamp;
use manyhands_protocol::time::{Clock as _, SystemClock};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::StreamReader;
use tokio_util::sync::CancellationToken;

use super::packing::Packing;
use super::state::{self, Plan, State, plan};
use super::stream::{Pieces, bounds, is_broken, is_damaged, no_blobs, of_blob};
use super::{Checkpoint, Origin, Saved, Unsaved};
use crate::Error;
use crate::archive::Totals;
use crate::failpoint::failpoint;
use crate::provider::hold::Held;
use crate::provider::live::Body;
use crate::provider::namespace::{blocking, chain, files};
use crate::provider::places::{Places, is_name};
use crate::provider::{Limits, Recipe};

/// How many pieces may wait.
const WAITING: usize = 4;

/// The folder of what is being removed, in that of the sandboxes.
const TRASH: &str = ".trash";

/// What a keeper works with.
pub(in crate::provider) struct Stock<'a, B> {
    /// Where the sessions' sandboxes are.
    pub(in crate::provider) places: &'a Places<B>,
    /// Which of their files are being packed.
    pub(in crate::provider) packing: &'a Packing,
    /// Where packed files go; without it nothing is kept.
    pub(in crate::provider) blobs: Option<&'a Blobs>,
    /// How long after it was made a sandbox's files are gone on with (runtime EN-18).
    pub(in crate::provider) retention: Duration,
}

/// What a start begins with.
#[derive(Debug, Clone, Copy)]
pub(in crate::provider) enum Begin<'a> {
    /// The tree that is here; one is made if there is none after all.
    Kept,
    /// A new tree with what this holds. What was here is gone.
    From(&'a Checkpoint),
    /// A new tree. What was here is gone.
    New,
}

/// Who makes sandboxes whose files can be kept.
#[async_trait]
pub(in crate::provider) trait Keeper: Send + Sync {
    type Body: Body;
    /// What beginning gives.
    type Begun: Send;

    /// What it works with.
    fn stock(&self) -> Stock<'_, Self::Body>;

    /// The folder with those of the sessions.
    fn sandboxes(&self) -> PathBuf;

    fn places(&self) -> &Places<Self::Body> {
        self.stock().places
    }

    fn packing(&self) -> &Packing {
        self.stock().packing
    }

    /// The folder of what is being removed.
    fn trash(&self) -> PathBuf {
        self.sandboxes().join(TRASH)
    }

    async fn hold(&self, session: &str) -> Result<Option<Held>, Error>;

    /// Whether the session has files here, whole or damaged.
    async fn has_tree(&self, session: &str, folder: &OwnedFd) -> Result<bool, Error>;

    /// Whether anything runs in the session's sandbox, whoever started it.
    async fn runs(&self, session: &str, held: &Held) -> Result<bool, Error>;

    /// Removes the session's files, of which nobody runs anything.
    async fn clear(&self, session: &str) -> Result<(), Error>;

    /// Packs the session's files, which nobody else changes meanwhile. Ends early when nobody takes the pieces any more.
    async fn pack(&self, session: &str, folder: &OwnedFd, into: Pieces) -> Result<Totals, Error>;

    /// Makes the files ready as is said.
    async fn begin(
        &self,
        recipe: &Recipe,
        folder: &OwnedFd,
        begin: Begin<'_>,
    ) -> Result<Self::Begun, Error>;

    /// What a start goes on with, and where it comes from. The folder is held and no process runs.
    async fn take_up(
        &self,
        recipe: &Recipe,
        folder: &OwnedFd,
    ) -> Result<(Self::Begun, Origin), Error> {
        let session = &recipe.session;
        let path = self.sandboxes().join(session);
        let fail = |error| Error::io(format!("look at the files of {session}"), error);
        let now = SystemClock.now();
        let retention = i64::try_from(self.stock().retention.as_micros()).unwrap_or(i64::MAX);
        let oldest = Timestamp::from_micros(now.as_micros().saturating_sub(retention));
        let known = state::read(folder).map_err(fail)?;
        let mut has_tree = self.has_tree(session, folder).await?;
        let mut checkpoint = recipe.checkpoint.as_ref();
        loop {
            let (begin, made_at, origin) = match plan(known, has_tree, checkpoint, now, oldest) {
                Plan::Keep(kept) => {
                    let origin = Origin::Kept { epoch: kept.epoch };
                    (Begin::Kept, kept.made_at, origin)
                }
                Plan::Restore(from) => {
                    (Begin::From(from), from.sandbox_created_at, Origin::Restored)
                }
                Plan::Fresh { expired } => (Begin::New, now, Origin::New { expired }),
            };
            if !matches!(begin, Begin::Kept) {
                self.clear(session).await?;
                // Whoever comes after a server that ended here must not take the next tree for the one before.
                state::forget(&path).map_err(fail)?;
            }
            let error = match self.begin(recipe, folder, begin).await {
                Ok(begun) => {
                    failpoint!("hands::after_tree");
                    state::note(&path, made_at, recipe.epoch, known).map_err(|error| {
                        Error::io(format!("note the start of {session}"), error)
                    })?;
                    return Ok((begun, origin));
                }
                Err(error) => error,
            };
            // What is left is lost. The next best is taken, and the model will be told (runtime EN-19).
            match begin {
                Begin::Kept if is_damaged(&error) => has_tree = false,
                Begin::From(_) if is_damaged(&error) => (has_tree, checkpoint) = (false, None),
                _ => return Err(error),
            }
            tracing::error!(
                session.id = session,
                error = chain(&error),
                "the files of a sandbox are damaged"
            );
        }
    }

    /// What is known of all trees here that this server does not use now.
    async fn states(&self) -> Result<Vec<(String, State)>, Error> {
        let folder = self.sandboxes();
        let states = blocking("look for sandboxes at rest", move || {
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(error),
            };
            let mut states = Vec::new();
            for entry in entries {
                let Ok(session) = entry?.file_name().into_string() else {
                    continue;
                };
                if !is_name(&session) {
                    continue;
                }
                // One that is being removed is none.
                let state =
                    files::open_directory(&folder.join(&session)).and_then(|at| state::read(&at));
                if let Ok(Some(state)) = state {
                    states.push((session, state));
                }
            }
            Ok(states)
        });
        let mut states = states.await?;
        states.retain(|(session, _)| !self.is_live(session).unwrap_or(false));
        Ok(states)
    }

    /// Whether this server uses the session's sandbox, as far as is seen without waiting: whoever starts or ends it just now
    /// has its place.
    ///
    /// # Errors
    /// When that is no session's id.
    fn is_live(&self, session: &str) -> Result<bool, Error> {
        let place = self.places().at(session)?;
        let at = place.0.try_lock();
        let live = at.is_ok_and(|at| at.as_ref().is_some_and(|live| live.is_up()));
        self.places().vacate(session, &place);
        Ok(live)
    }

    /// Keeps a tree of which nobody runs anything.
    async fn keep(
        &self,
        unsaved: &Unsaved,
        blob: &str,
        stop: &CancellationToken,
    ) -> Result<Option<Saved>, Error> {
        let session = &unsaved.session;
        let fail = |error| Error::io(format!("pack the files of {session}"), error);
        let Some(blobs) = self.stock().blobs else {
            return Err(no_blobs("sandboxes cannot be kept"));
        };
        let Some(held) = self.hold(session).await? else {
            return Ok(None);
        };
        let Some(state) = state::read(&held.0).map_err(fail)? else {
            return Ok(None);
        };
        if !state.unsaved || !state.is(unsaved) || !self.has_tree(session, &held.0).await? {
            return Ok(None);
        }
        // Of an earlier server, or of another one of this data directory.
        if self.runs(session, &held).await? {
            return Ok(None);
        }
        failpoint!("hands::before_pack");
        let started = Instant::now();
        let (pieces, packed) = mpsc::channel(WAITING);
        let last = pieces.clone();
        let pack = async {
            let packed = self.pack(session, &held.0, pieces).await;
            if packed.is_err() {
                // The stream must not end as if it were whole. Without a reader it cannot.
                let cut = io::Error::other("it could not be packed");
                let _ = last.send(Err(cut)).await;
            }
            drop(last);
            packed
        };
        let put = async {
            let stream = StreamReader::new(ReceiverStream::new(packed));
            tokio::select! {
                stored = blobs.put(blob, stream, bounds(&Limits::default()).bytes) => Some(stored),
                // The stream's reader goes with it, and the packing ends at its next piece.
                () = stop.cancelled() => None,
            }
        };
        let (packed, stored) = tokio::join!(pack, put);
        let Some(stored) = stored else {
            tracing::debug!(session.id = session, "packing gives way to a call");
            return Ok(None);
        };
        let totals = match packed {
            Ok(totals) => totals,
            // Nobody took it: why, is what the other side says.
            Err(error) if is_broken(&error) => Totals::default(),
            Err(error) => return Err(error),
        };
        let stored = stored.map_err(|error| fail(of_blob(error)))?;
        let seconds = started.elapsed().as_secs_f64();
        metrics::histogram!("manyhands_checkpoint_save_seconds").record(seconds);
        tracing::info!(
            session.id = session,
            seconds,
            bytes = stored.size,
            entries = totals.entries,
            left_out = totals.left_out,
            "packed a checkpoint"
        );
        Ok(Some(Saved {
            size: stored.size,
            sha256: stored.sha256,
            sandbox_created_at: state.made_at,
        }))
    }

    /// Removes the tree of a sandbox that is kept and not used; whether it had one.
    async fn drop_tree(&self, session: &str, known: State) -> Result<bool, Error> {
        let place = self.places().at(session)?;
        let dropped = match place.0.try_lock() {
            Ok(at) if at.is_none() => self.drop_held_tree(session, known).await,
            _ => Ok(false),
        };
        self.places().vacate(session, &place);
        dropped
    }

    async fn drop_held_tree(&self, session: &str, known: State) -> Result<bool, Error> {
        let fail = |error| Error::io(format!("put the files of {session} away"), error);
        let Some(held) = self.hold(session).await? else {
            return Ok(false);
        };
        let unchanged = state::read(&held.0).map_err(fail)? == Some(known);
        if !unchanged
            || !self.has_tree(session, &held.0).await?
            || self.runs(session, &held).await?
        {
            return Ok(false);
        }
        self.clear(session).await?;
        tracing::info!(
            session.id = session,
            "removed files that a checkpoint holds"
        );
        let trash = self.trash();
        if let Err(error) = blocking("empty the trash", move || files::empty(&trash)).await {
            tracing::warn!(error = chain(&error), "the next sweep empties the trash");
        }
        Ok(true)
    }
}
