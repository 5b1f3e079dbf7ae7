//! The files of a container, as [`Keeper`] wants them. They are packed and restored inside, by programs that the engine
//! starts there: so it works on every engine, and nothing of this host ever walks a tree that a sandbox has written
//! (security SBX-4).

use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use manyhands_sandboxd::parcel::{PIECE, Verdict};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::contained::{Contained, Live};
use super::exec::Streams;
use super::host::Host;
use super::spec::{IMAGE, SANDBOXD, USER};
use super::{Container, shown};
use crate::Error;
use crate::archive::{self, Bounds, Totals};
use crate::provider::checkpoint::{
    Begin, Keeper, Kept, Pieces, Stock, Writer, bounds, open, restored,
};
use crate::provider::hold::Held;
use crate::provider::link;
use crate::provider::namespace::launch::FOLDERS;
use crate::provider::namespace::{files, writable};
use crate::provider::{Checkpoint, Limits, Recipe};

/// How long nothing may move before a program inside counts as lost.
const STALL: Duration = Duration::from_secs(60);

/// How many pieces may wait.
const WAITING: usize = 4;

impl Kept for Container {
    type Keeper = Arc<Host>;

    fn keeper(&self) -> &Arc<Host> {
        &self.host
    }
}

#[async_trait]
impl Keeper for Arc<Host> {
    type Body = Contained;
    type Begun = Arc<Live>;

    fn stock(&self) -> Stock<'_, Contained> {
        Stock {
            places: &self.places,
            packing: &self.packing,
            blobs: self.config.blobs.as_ref(),
            retention: self.config.retention,
        }
    }

    fn sandboxes(&self) -> PathBuf {
        Host::containers(self)
    }

    async fn hold(&self, session: &str) -> Result<Option<Held>, Error> {
        Host::hold(self, session).await
    }

    async fn has_tree(&self, session: &str, folder: &OwnedFd) -> Result<bool, Error> {
        let name = self.name(session).await?;
        // A disk of its own outlives a container that somebody has removed.
        Ok(writable::owner(folder).is_ok() || self.engine.runs(&name).await?.is_some())
    }

    async fn runs(&self, session: &str, _held: &Held) -> Result<bool, Error> {
        Host::runs(self, session).await
    }

    async fn clear(&self, session: &str) -> Result<(), Error> {
        self.engine.remove(&self.name(session).await?).await?;
        let fail = |error| Error::io(format!("put the old files of {session} away"), error);
        let path = self.folder(session);
        shown::hide(&files::open_directory(&path).map_err(fail)?).map_err(fail)?;
        for name in writable::PARTS {
            files::discard(&path.join(name), &Host::trash(self)).map_err(fail)?;
        }
        Ok(())
    }

    async fn pack(&self, session: &str, folder: &OwnedFd, into: Pieces) -> Result<Totals, Error> {
        let name = self.name(session).await?;
        self.wake(session, &name, folder).await?;
        let packed = self.pack_from(&name, into).await;
        let ended = self.engine.kill(&name).await;
        let fail = |error| Error::io(format!("pack the files of {session}"), error);
        let totals = packed.map_err(fail)?;
        ended.map(|()| totals)
    }

    async fn begin(
        &self,
        recipe: &Recipe,
        folder: &OwnedFd,
        begin: Begin<'_>,
    ) -> Result<Arc<Live>, Error> {
        let session = &recipe.session;
        let name = self.name(session).await?;
        if writable::owner(folder).is_ok() {
            self.remove_outdated(recipe, &name).await?;
        }
        if self.engine.runs(&name).await?.is_none() {
            self.make(recipe, &name, folder).await?;
        }
        let live = self.up(recipe, &name, folder).await?;
        if let Begin::From(checkpoint) = begin {
            let restored = self.restore(recipe, &name, checkpoint).await;
            if restored.is_err() {
                self.engine.kill(&name).await?;
            }
            restored?;
        }
        Ok(live)
    }
}

impl Host {
    /// Removes a container at rest that is made from another image than the next one would be, where what is written does not
    /// go with it: so it has the packages that its environment has by now, and the newest `sandboxd` (runtime EN-3).
    async fn remove_outdated(&self, recipe: &Recipe, name: &str) -> Result<(), Error> {
        let made_from = self.engine.label(name, IMAGE).await?;
        let wanted = self.image_of(recipe).await?.map(|image| image.name);
        if made_from.is_some() && made_from != wanted {
            self.engine.remove(name).await?;
        }
        Ok(())
    }

    /// Takes what a running container has written, of which nothing else runs.
    async fn pack_from(&self, name: &str, into: Pieces) -> io::Result<Totals> {
        let bounds = bounds(&Limits::default());
        let mut streams = self.parcel(name, "pack", bounds).await?;
        let mut packed = archive::compress(Vec::new())?;
        let (mut piece, mut total) = (vec![0; PIECE], 0);
        loop {
            let length = moves(streams.output.read_u32()).await? as usize;
            if length == 0 {
                break;
            }
            total += length as u64;
            if length > PIECE || total > bounds.bytes {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            moves(streams.output.read_exact(&mut piece[..length])).await?;
            packed.write_all(&piece[..length])?;
            give(&into, std::mem::take(packed.get_mut())).await?;
        }
        let totals = verdict(&mut streams).await?;
        give(&into, packed.finish()?).await?;
        Ok(totals)
    }

    /// Fills a container that was just made with what a checkpoint holds.
    async fn restore(
        &self,
        recipe: &Recipe,
        name: &str,
        checkpoint: &Checkpoint,
    ) -> Result<(), Error> {
        let session = &recipe.session;
        let fail = |error| Error::io(format!("restore the files of {session}"), error);
        let started = Instant::now();
        let kept = open(self.config.blobs.as_ref(), session, checkpoint).await?;
        let bounds = bounds(&recipe.limits);
        let (pieces, mut plain) = mpsc::channel(WAITING);
        let expanding = tokio::task::spawn_blocking(move || {
            let mut plain = archive::expand(kept)?.take(bounds.bytes.saturating_add(1));
            let mut writer = Writer::new(pieces);
            io::copy(&mut plain, &mut writer)?;
            if plain.limit() == 0 {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            writer.send()
        });
        let Streams { input, output, .. } =
            &mut self.parcel(name, "unpack", bounds).await.map_err(fail)?;
        let mut answer = Box::pin(link::frame(output));
        let sent = async {
            while let Some(piece) = plain.recv().await {
                moves(send(input, &piece?)).await?;
            }
            // Whether that was all is known by who has expanded it.
            expanding.await.map_err(io::Error::other)??;
            moves(send(input, &[])).await
        };
        let answered = tokio::select! {
            sent = sent => match sent {
                Ok(()) => timeout(STALL, answer.as_mut()).await.map_err(io::Error::from),
                Err(error) => Err(error),
            },
            answered = answer.as_mut() => Ok(answered),
        };
        let totals = judged(answered.map_err(fail)?).map_err(fail)?;
        restored(session, totals.entries, started.elapsed());
        Ok(())
    }

    /// Starts the program that packs or unpacks, as the user that tools have.
    async fn parcel(&self, name: &str, mode: &str, bounds: Bounds) -> io::Result<Streams> {
        let numbers = [bounds.bytes.to_string(), bounds.entries.to_string()];
        let folders = FOLDERS.map(|(name, inside)| format!("{name}={inside}"));
        let words = [SANDBOXD, mode].into_iter();
        let words: Vec<&str> = words
            .chain(numbers.iter().map(String::as_str))
            .chain(folders.iter().map(String::as_str))
            .collect();
        self.engine.run(name, USER, &words).await.map_err(aborted)
    }
}

/// Not a reason that lies in what is packed.
fn aborted(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, why)
}

/// Waits for a step on the way in or out of a container, for as long as one may take.
async fn moves<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(STALL, step).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(aborted("the container's end is gone"))
        }
        Ok(done) => done,
        Err(late) => Err(late.into()),
    }
}

async fn give(into: &Pieces, piece: Vec<u8>) -> io::Result<()> {
    if piece.is_empty() {
        return Ok(());
    }
    let given = into.send(Ok(Bytes::from(piece))).await;
    given.map_err(|_| io::ErrorKind::BrokenPipe.into())
}

/// Sends a piece as a container takes it; the empty one says that there are no more.
async fn send(input: &mut (impl AsyncWrite + Unpin), piece: &[u8]) -> io::Result<()> {
    let length = u32::try_from(piece.len()).map_err(io::Error::other)?;
    input.write_all(&length.to_be_bytes()).await?;
    input.write_all(piece).await?;
    input.flush().await
}

/// What a program inside says of its work.
async fn verdict(streams: &mut Streams) -> io::Result<Totals> {
    let said = timeout(STALL, link::frame(&mut streams.output)).await?;
    judged(said)
}

fn judged(said: Result<Verdict, manyhands_sandboxd::frame::Error>) -> io::Result<Totals> {
    match said {
        Ok(Verdict::Whole { entries, left_out }) => Ok(Totals { entries, left_out }),
        Ok(Verdict::Failed { damaged, why }) if damaged => {
            Err(io::Error::new(io::ErrorKind::InvalidData, why))
        }
        Ok(Verdict::Failed { why, .. }) => Err(aborted(why)),
        Err(error) => Err(aborted(error)),
    }
}
