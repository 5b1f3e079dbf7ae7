//! Packing what a resting sandbox has written, off the way of whoever wants it.

use std::io;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::StreamReader;
use tokio_util::sync::CancellationToken;

use super::{State, bounds, of_blob, read, tops, write};
use crate::Error;
use crate::archive;
use crate::failpoint::failpoint;
use crate::provider::checkpoint::{Checkpoints, Saved, Unsaved};
use crate::provider::namespace::host::Host;
use crate::provider::namespace::{Namespace, blocking, chain, files, writable};
use crate::provider::places::is_name;
use crate::provider::{Limits, Missing};

/// What is handed on at once, in bytes.
const PIECE: usize = 256 << 10;

/// How many of them may wait.
const WAITING: usize = 4;

#[async_trait]
impl Checkpoints for Namespace {
    async fn rested(&self) {
        self.host.packing.rested.notified().await;
    }

    async fn unsaved(&self) -> Result<Vec<Unsaved>, Error> {
        let states = self.host.states().await?;
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
        let Some(turn) = self.host.packing.turn(&unsaved.session) else {
            return Ok(None);
        };
        let place = self.host.places.at(&unsaved.session)?;
        // Whoever has it for long has said that it is wanted.
        let at = tokio::select! {
            at = place.0.lock() => Some(at),
            () = turn.stop.cancelled() => None,
        };
        let saved = match &at {
            Some(at) if at.is_none() => self.host.pack(unsaved, blob, &turn.stop).await,
            _ => Ok(None),
        };
        drop(at);
        self.host.places.vacate(&unsaved.session, &place);
        saved
    }

    async fn saved(&self, unsaved: &Unsaved) -> Result<(), Error> {
        let session = &unsaved.session;
        let fail = |error| Error::io(format!("note that {session} is kept"), error);
        let Some((folder, _held)) = self.host.hold(session).await? else {
            return Ok(());
        };
        match read(&folder).map_err(fail)? {
            Some(state) if state.is(unsaved) => {
                let state = State {
                    unsaved: false,
                    ..state
                };
                write(&self.host.folder(session), &state).map_err(fail)
            }
            _ => Ok(()),
        }
    }

    async fn shed(&self, bytes: u64) -> Result<u64, Error> {
        let mut shed = 0;
        let mut states = self.host.states().await?;
        states.retain(|(_, state)| !state.unsaved);
        states.sort_by_key(|(session, _)| self.host.used(session));
        for (session, state) in states {
            if self.host.free()? >= bytes {
                break;
            }
            shed += u64::from(self.host.drop_tree(&session, state).await?);
        }
        Ok(shed)
    }
}

impl State {
    /// Whether nothing was started and nobody became the owner since.
    fn is(&self, unsaved: &Unsaved) -> bool {
        (self.epoch, self.starts) == (unsaved.epoch, unsaved.starts)
    }
}

impl Host {
    /// What is known of all trees on this host that this server does not use now.
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
                let state = files::open_directory(&folder.join(&session)).and_then(|at| read(&at));
                if let Ok(Some(state)) = state {
                    states.push((session, state));
                }
            }
            Ok(states)
        });
        let mut states = states.await?;
        states.retain(|(session, _)| !self.is_live(session));
        Ok(states)
    }

    /// Whether this server uses the session's sandbox, as far as is seen without waiting.
    fn is_live(&self, session: &str) -> bool {
        let place = self.places.at(session);
        let live = place.as_ref().is_ok_and(|place| {
            let at = place.0.try_lock();
            at.is_ok_and(|at| at.as_ref().is_some_and(|live| live.is_up()))
        });
        if let Ok(place) = place {
            self.places.vacate(session, &place);
        }
        live
    }

    /// Packs a tree of which nobody runs anything.
    async fn pack(
        &self,
        unsaved: &Unsaved,
        blob: &str,
        stop: &CancellationToken,
    ) -> Result<Option<Saved>, Error> {
        let session = &unsaved.session;
        let fail = |error| Error::io(format!("pack the files of {session}"), error);
        let Some(blobs) = &self.config.blobs else {
            return Err(Error::from(Missing {
                what: "sandboxes cannot be kept".to_owned(),
                why: "this provider has no blobs".to_owned(),
                install: "give it the place of the blobs".to_owned(),
            }));
        };
        let Some((folder, hold)) = self.hold(session).await? else {
            return Ok(None);
        };
        let Some(state) = read(&folder).map_err(fail)? else {
            return Ok(None);
        };
        if !state.unsaved || !state.is(unsaved) {
            return Ok(None);
        }
        // Of an earlier server, or of another one of this data directory.
        if self
            .reattach(session, &folder, hold.seen())
            .await?
            .is_some()
        {
            return Ok(None);
        }
        let Some(tree) = self.writable(session, &folder)? else {
            return Ok(None);
        };
        failpoint!("hands::before_pack");
        let started = std::time::Instant::now();
        let (pieces, packed) = mpsc::channel(WAITING);
        let bounds = bounds(&Limits::default());
        let packing = tokio::task::spawn_blocking(move || {
            let mut writer = Writer::new(pieces);
            let totals = archive::pack(&tree, &tops(), &mut writer, bounds);
            match totals {
                Ok(totals) => writer.send().map(|()| totals),
                Err(error) => {
                    let kind = error.kind();
                    writer.fail(io::Error::new(kind, error.to_string()));
                    Err(error)
                }
            }
        });
        let put = blobs.put(
            blob,
            StreamReader::new(ReceiverStream::new(packed)),
            bounds.bytes,
        );
        let stored = tokio::select! {
            stored = put => Some(stored),
            // The stream's reader goes with it, and the packing ends at its next piece.
            () = stop.cancelled() => None,
        };
        let packing = packing.await.map_err(io::Error::other).map_err(fail)?;
        let Some(stored) = stored else {
            tracing::debug!(session.id = session, "packing gives way to a call");
            return Ok(None);
        };
        let totals = packing.map_err(fail)?;
        let stored = stored.map_err(|error| fail(of_blob(error)))?;
        drop(hold);
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

    /// When a session's tree was used last, as far as the host knows.
    fn used(&self, session: &str) -> Option<std::time::SystemTime> {
        let noted = std::fs::metadata(self.folder(session).join(super::NAME)).ok()?;
        noted.modified().ok()
    }

    /// Bytes of the disk that are free.
    fn free(&self) -> Result<u64, Error> {
        let space = rustix::fs::statvfs(self.sandboxes())
            .map_err(|error| Error::io("look at the disk of sandboxes", error))?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    /// Removes the tree of a sandbox that is kept and not used; whether it had one.
    async fn drop_tree(&self, session: &str, known: State) -> Result<bool, Error> {
        let place = self.places.at(session)?;
        let dropped = match place.0.try_lock() {
            Ok(at) if at.is_none() => self.drop_held_tree(session, known).await,
            _ => Ok(false),
        };
        self.places.vacate(session, &place);
        dropped
    }

    async fn drop_held_tree(&self, session: &str, known: State) -> Result<bool, Error> {
        let fail = |error| Error::io(format!("put the files of {session} away"), error);
        let Some((folder, hold)) = self.hold(session).await? else {
            return Ok(false);
        };
        let unchanged = read(&folder).map_err(fail)? == Some(known);
        if !unchanged || writable::owner(&folder).is_err() {
            return Ok(false);
        }
        if self
            .reattach(session, &folder, hold.seen())
            .await?
            .is_some()
        {
            return Ok(false);
        }
        self.clear(session)?;
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

/// Hands what is written on in pieces, until nobody takes them.
struct Writer {
    held: BytesMut,
    pieces: mpsc::Sender<io::Result<Bytes>>,
}

impl Writer {
    fn new(pieces: mpsc::Sender<io::Result<Bytes>>) -> Self {
        Self {
            held: BytesMut::with_capacity(PIECE),
            pieces,
        }
    }

    fn send(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let piece = self.held.split().freeze();
        let sent = self.pieces.blocking_send(Ok(piece));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// The stream must not end as if it were whole.
    fn fail(self, error: io::Error) {
        if self.pieces.blocking_send(Err(error)).is_err() {
            tracing::debug!("nobody takes what is packed any more");
        }
    }
}

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.pieces.is_closed() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.held.extend_from_slice(bytes);
        if self.held.len() >= PIECE {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
