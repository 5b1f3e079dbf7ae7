//! A tree on its way among the blobs and back: in pieces, bounded, and what its errors mean.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;
use manyhands_blobs::{Blobs, Stored};
use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::Checkpoint;
use crate::Error;
use crate::archive::Bounds;
use crate::provider::{Limits, Missing};

/// The most files, folders and links of a tree.
const ENTRIES: u64 = 4_000_000;

/// What the stream has beside the content of each entry, at most, on average.
const FRAME: u64 = 4096;

/// What is handed on at once, in bytes.
const PIECE: usize = 256 << 10;

/// Where the pieces of a packed tree go.
pub(in crate::provider) type Pieces = mpsc::Sender<io::Result<Bytes>>;

/// How much a tree may be.
pub(in crate::provider) fn bounds(limits: &Limits) -> Bounds {
    Bounds {
        bytes: limits.disk_bytes.saturating_add(ENTRIES * FRAME),
        entries: ENTRIES,
    }
}

/// The blobs are missing that something needs.
pub(super) fn no_blobs(what: &str) -> Error {
    Error::from(Missing {
        what: what.to_owned(),
        why: "this provider has no blobs".to_owned(),
        install: "give it the place of the blobs".to_owned(),
    })
}

/// A blob's error as one of reading: whether another try may help is in its kind.
pub(super) fn of_blob(error: manyhands_blobs::Error) -> io::Error {
    use manyhands_blobs::Error as Blob;
    let kind = match &error {
        Blob::Missing { .. } | Blob::Damaged { .. } => io::ErrorKind::InvalidData,
        Blob::NoSpace { .. } => io::ErrorKind::StorageFull,
        _ => io::ErrorKind::ConnectionAborted,
    };
    io::Error::new(kind, error)
}

/// What a session's checkpoint holds, to be read where waiting is fine.
pub(in crate::provider) type Kept = SyncIoBridge<Pin<Box<dyn AsyncRead + Send>>>;

/// Opens a session's checkpoint. Its bytes are checked as they are read.
pub(in crate::provider) async fn open(
    blobs: Option<&Blobs>,
    session: &str,
    checkpoint: &Checkpoint,
) -> Result<Kept, Error> {
    let Some(blobs) = blobs else {
        return Err(no_blobs("the session's files are in a checkpoint"));
    };
    let stored = Stored {
        size: checkpoint.size,
        sha256: checkpoint.sha256.clone(),
    };
    let reader = blobs.get(&checkpoint.blob, &stored).await;
    let reader = reader
        .map_err(|error| Error::io(format!("restore the files of {session}"), of_blob(error)))?;
    let stream = Box::pin(reader.into_stream().map_err(of_blob));
    let reader: Pin<Box<dyn AsyncRead + Send>> = Box::pin(StreamReader::new(stream));
    Ok(SyncIoBridge::new(reader))
}

/// Says that a session's files were restored, in so much time.
pub(in crate::provider) fn restored(session: &str, entries: u64, took: Duration) {
    let seconds = took.as_secs_f64();
    metrics::histogram!("manyhands_checkpoint_restore_seconds").record(seconds);
    tracing::info!(
        session.id = session,
        seconds,
        entries,
        "restored a checkpoint"
    );
}

/// Whether what was to be read can never be: not for a reason that lies in the host or on the way.
pub(super) fn is_damaged(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => manyhands_sandboxd::parcel::is_damaged(source),
        _ => false,
    }
}

/// Whether nobody took what was packed.
pub(super) fn is_broken(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
}

/// Hands what is written on in pieces, until nobody takes them. For threads that may wait.
pub(in crate::provider) struct Writer {
    held: BytesMut,
    pieces: Pieces,
}

impl Writer {
    pub(in crate::provider) fn new(pieces: Pieces) -> Self {
        Self {
            held: BytesMut::with_capacity(PIECE),
            pieces,
        }
    }

    /// Sends what is held.
    pub(in crate::provider) fn send(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let piece = self.held.split().freeze();
        let sent = self.pieces.blocking_send(Ok(piece));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.pieces.is_closed() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let taken = bytes.len().min(PIECE - self.held.len());
        self.held.extend_from_slice(&bytes[..taken]);
        if self.held.len() == PIECE {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn en_19_only_what_can_never_be_read_counts_as_lost() {
        #[track_caller]
        fn check(source: io::Error, damaged: bool) {
            assert_eq!(is_damaged(&Error::io("restore", source)), damaged);
        }
        let blob = |error| of_blob(error);
        let name = || "checkpoints/a".to_owned();
        check(blob(manyhands_blobs::Error::Missing { name: name() }), true);
        let damaged = manyhands_blobs::Error::Damaged {
            name: name(),
            reason: "cut".to_owned(),
        };
        check(blob(damaged), true);
        let unavailable = manyhands_blobs::Error::Unavailable {
            operation: "reading",
            reason: "it is down".to_owned(),
        };
        check(blob(unavailable), false);
        check(io::Error::from_raw_os_error(5), false);
        check(io::Error::from_raw_os_error(28), false);
        check(io::Error::other("no frame"), true);
    }
}
