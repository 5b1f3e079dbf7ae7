//! The files that a session's sandbox reads, and those that it hands over, carried over the standard streams of a process
//! that the engine starts inside the container: `sandboxd`, by [`exchange`]. This server trusts none of what comes out.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use manyhands_blobs::{Blobs, Error as Blob, Stored, Writer, fresh};
use manyhands_protocol::file::{LARGEST, UPLOADS};
use manyhands_sandboxd::exchange::{Laid, Lay, Show, Want};
use manyhands_sandboxd::frame;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::exec::Streams;
use super::host::Host;
use super::spec::{KEEPER, OUTPUTS, SANDBOXD, USER};
use crate::Error;
use crate::provider::laid::{blobs, listed};
use crate::provider::link;
use crate::provider::namespace::files;
use crate::provider::namespace::outputs::{self, FILES, Gathered, LONGEST, TOTAL};
use crate::provider::progress::Progress;
use crate::provider::{Capture, Captured, Seen, Upload};

/// The name of the list of what is in a container.
const LIST: &str = "laid.json";

/// What is in a container: SHA-256 and size by path.
type List = BTreeMap<String, (String, u64)>;

/// Why files were not laid.
enum Unlaid {
    /// The bytes of the one at this path are not what they should be.
    Damaged(String, Blob),
    Blobs(Blob),
    Io(io::Error),
    Other(Error),
}

impl From<Blob> for Unlaid {
    fn from(error: Blob) -> Self {
        Self::Blobs(error)
    }
}

impl From<io::Error> for Unlaid {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Error> for Unlaid {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// A file that a container says it has.
struct Output {
    at: Vec<u8>,
    path: String,
    stamp: String,
    size: u64,
}

impl Host {
    pub(super) fn blobs(&self) -> Result<&Blobs, Error> {
        blobs(self.config.blobs.as_ref())
    }

    /// Brings the files that a running container reads in line with these. The session's folder is held. A file whose bytes
    /// are damaged is left out, and said; the others are laid (security STORE-3).
    pub(super) async fn lay_in(
        &self,
        session: &str,
        folder: &OwnedFd,
        uploads: &[Upload],
    ) -> Result<(), Error> {
        let fail = |error: io::Error| Error::io(format!("lay out the files of {session}"), error);
        let mut sound: Vec<&Upload> = uploads.iter().collect();
        let mut cut_short = false;
        loop {
            let list = |upload: &&Upload| {
                let content = (upload.sha256.clone(), upload.size);
                (upload.path.clone(), content)
            };
            let wanted: List = sound.iter().map(list).collect();
            let mut stays: List = listed(folder, LIST).map_err(fail)?;
            if stays == wanted && !cut_short {
                return Ok(());
            }
            // What certainly is there however this ends.
            stays.retain(|path, content| wanted.get(path) == Some(content));
            write(&self.folder(session), &stays).map_err(fail)?;
            match self.bring(session, &stays, &sound).await {
                Ok(()) => return write(&self.folder(session), &wanted).map_err(fail),
                Err(Unlaid::Damaged(path, error)) => {
                    tracing::error!(session.id = session, path, %error, "a file is not laid into a sandbox");
                    sound.retain(|upload| upload.path != path);
                    cut_short = true;
                }
                Err(Unlaid::Blobs(error)) => return Err(fail(io::Error::other(error))),
                Err(Unlaid::Io(error)) => return Err(fail(error)),
                Err(Unlaid::Other(error)) => return Err(error),
            }
        }
    }

    /// Has a container keep what stays and take the rest. Cut short, nothing is there by halves.
    async fn bring(&self, session: &str, stays: &List, uploads: &[&Upload]) -> Result<(), Unlaid> {
        let name = self.name(session).await?;
        let streams = self
            .engine
            .run(&name, KEEPER, &[SANDBOXD, "lay", UPLOADS])
            .await;
        let mut streams = streams.map_err(io::Error::other)?;
        let paths = stays.keys().cloned().collect();
        say(&mut streams.input, &Lay::Keep { paths }).await?;
        for upload in uploads.iter().filter(|it| !stays.contains_key(&it.path)) {
            self.send(upload, &mut streams)
                .await
                .map_err(|error| match error {
                    Unlaid::Blobs(error @ (Blob::Damaged { .. } | Blob::Missing { .. })) => {
                        Unlaid::Damaged(upload.path.clone(), error)
                    }
                    error => error,
                })?;
        }
        say(&mut streams.input, &Lay::Done).await?;
        let answer: Result<Laid, _> = link::frame(&mut streams.output).await;
        answer.map_err(|_| io::Error::other(streams.said()))?;
        Ok(())
    }

    async fn send(&self, upload: &Upload, streams: &mut Streams) -> Result<(), Unlaid> {
        let stored = Stored {
            size: upload.size,
            sha256: upload.sha256.clone(),
        };
        let mut reader = self.blobs()?.get(&upload.blob, &stored).await?;
        let (path, size) = (upload.path.clone(), upload.size);
        let file = Lay::File {
            path,
            size,
            executable: false,
        };
        say(&mut streams.input, &file).await?;
        while let Some(piece) = reader.next().await? {
            streams.input.write_all(&piece).await?;
        }
        Ok(())
    }

    /// Captures what is new or changed of a running container's outputs since these were seen.
    pub(super) async fn capture_from(
        &self,
        session: &str,
        name: &str,
        seen: &[Seen],
    ) -> Result<Capture, Error> {
        let fail = |error: io::Error| Error::io(format!("look at the outputs of {session}"), error);
        let blobs = self.blobs()?;
        let streams = self
            .engine
            .run(name, USER, &[SANDBOXD, "show", OUTPUTS])
            .await;
        let mut streams = streams.map_err(|why| fail(io::Error::other(why)))?;
        let (mut wanted, left_out) = found(&mut streams).await.map_err(fail)?;
        let mut gathered = Gathered::new(blobs, seen);
        wanted.retain(|output| !gathered.knows(&output.path, &output.stamp));
        let mut progress = Progress::new(session, wanted.iter().map(|output| output.size));
        for output in &wanted {
            let kept = keep(session, &mut streams, blobs, output, &mut progress).await;
            gathered.add(kept).await?;
            progress.file_ended();
        }
        Ok(gathered.end(session, left_out))
    }
}

/// The files that a container says it has, as many and as large as are captured, and how many there are beside those.
async fn found(streams: &mut Streams) -> io::Result<(Vec<Output>, u64)> {
    let (mut outputs, mut left_out, mut total): (Vec<Output>, u64, u64) = (Vec::new(), 0, 0);
    loop {
        match link::frame(&mut streams.output)
            .await
            .map_err(io::Error::other)?
        {
            Show::Found {
                path: at,
                stamp,
                size,
            } => {
                let path = outputs::text(&at);
                let fits = outputs.len() < FILES && path.len() <= LONGEST && stamp.len() <= LONGEST;
                if fits && size <= LARGEST && total.saturating_add(size) <= TOTAL {
                    total += size;
                    outputs.push(Output {
                        at,
                        path,
                        stamp,
                        size,
                    });
                } else {
                    left_out += 1;
                }
            }
            Show::All { left_out: beside } => {
                outputs.sort_by(|one, other| one.path.cmp(&other.path));
                return Ok((outputs, left_out.saturating_add(beside)));
            }
            other => return Err(io::Error::other(format!("it said {other:?} unasked"))),
        }
    }
}

/// Brings one file among the blobs; `None` when it went or was written meanwhile.
async fn keep(
    session: &str,
    streams: &mut Streams,
    blobs: &Blobs,
    output: &Output,
    progress: &mut Progress<'_>,
) -> Result<Option<Captured>, Error> {
    let fail = |error: io::Error| Error::io(format!("read an output of {session}"), error);
    let stopped = |error: Blob| match error {
        Blob::NoSpace { .. } => Error::NoSpace {
            what: format!("for the outputs of {session}"),
        },
        error => fail(io::Error::other(error)),
    };
    let path = output.at.clone();
    say(&mut streams.input, &Want { path })
        .await
        .map_err(fail)?;
    let size = match link::frame(&mut streams.output).await {
        Ok(Show::Bytes { size }) if size <= LARGEST => size,
        Ok(Show::Gone) => return Ok(None),
        Ok(other) => return Err(fail(io::Error::other(format!("it answered {other:?}")))),
        Err(error) => return Err(fail(io::Error::other(error))),
    };
    let name = fresh("files");
    let writer = blobs.create(&name, LARGEST).map_err(stopped)?;
    let stored = match copy(streams, writer, size, progress).await {
        Ok(stored) => stored.map_err(stopped)?,
        Err(error) => return Err(fail(error)),
    };
    let after = link::frame(&mut streams.output).await;
    let steady = matches!(&after, Ok(Show::After { stamp }) if *stamp == output.stamp);
    if !steady {
        outputs::remove(blobs, &name).await;
        return match after {
            Ok(Show::After { .. }) => Ok(None),
            Ok(other) => Err(fail(io::Error::other(format!("it answered {other:?}")))),
            Err(error) => Err(fail(io::Error::other(error))),
        };
    }
    metrics::counter!("manyhands_outputs_captured_bytes_total").increment(stored.size);
    Ok(Some(Captured {
        path: output.path.clone(),
        stamp: output.stamp.clone(),
        blob: name,
        size: stored.size,
        sha256: stored.sha256,
    }))
}

/// Takes so many bytes, and no more.
async fn copy(
    streams: &mut Streams,
    mut writer: Writer,
    size: u64,
    progress: &mut Progress<'_>,
) -> io::Result<Result<Stored, Blob>> {
    let mut bytes = (&mut streams.output).take(size);
    let mut piece = vec![0; 256 << 10];
    let mut taken = 0;
    while taken < size {
        let read = bytes.read(&mut piece).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        taken += read as u64;
        if let Err(error) = writer.write(&piece[..read]).await {
            return Ok(Err(error));
        }
        progress.came(read);
    }
    Ok(writer.finish().await)
}

pub(super) async fn say(
    to: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> io::Result<()> {
    let bytes = frame::encode(message).map_err(io::Error::other)?;
    to.write_all(&bytes).await?;
    to.flush().await
}

fn write(session: &Path, list: &List) -> io::Result<()> {
    files::replace(&session.join(LIST), &serde_json::to_vec(list)?, 0o600)
}

/// Forgets what was in a container: the next one has nothing.
pub(super) fn forget(session: &Path) -> io::Result<()> {
    match std::fs::remove_file(session.join(LIST)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
